"""The words that call a command from the working directory: `tipping NAME`, its script, or its module."""

from __future__ import annotations

import os

from tipping.experiment.config import presets

SCRIPTS = {  # of sub-commands; in a checkout they are beside the folder of the presets
    "train": "train.py",
    "interpret": "interpret.py",
    "search": "sweeps/tipping_point.py",
    "fewest": "sweeps/fewest_filters.py",
}
JOBS = {
    "tipping_point": "search",
    "fewest_filters": "fewest",
    "arena": "arena",
}  # by the name of the job in Hydra, the sub-command
used: list[str] = []  # the words that called `tipping` in this process; empty for a script


def words(name: str) -> list[str]:
    """Return the words that call a sub-command from the working directory, such as ``python interpret.py``.

    In a checkout the words name the script, unless this process was called as `tipping`. Elsewhere there are no
    scripts, and the words are `tipping` and the name.
    """
    scripts = presets().parent
    if used or not (scripts / SCRIPTS["interpret"]).is_file():
        return [*(used or ["tipping"]), name]
    if name in SCRIPTS:
        return ["python", os.path.relpath(scripts / SCRIPTS[name])]
    return ["python", "-m", "tipping", name]


def words_of_job(job: str) -> list[str]:
    """Return the words that call the sub-command of a job, by the name that Hydra gives to the job."""
    name = JOBS.get(job, job)
    return words(name) if name in SCRIPTS or job in JOBS else ["python", f"{job}.py"]  # a name that the user gave
