"""How a command is called from the working directory: as `tipping NAME`, or by its script or module."""

from __future__ import annotations

import os

from tipping.experiment.config import presets

SCRIPTS = {  # of sub-commands, beside the presets' folder in a checkout
    "train": "train.py",
    "interpret": "interpret.py",
    "search": "sweeps/tipping_point.py",
    "fewest": "sweeps/fewest_filters.py",
}
JOBS = {"tipping_point": "search", "fewest_filters": "fewest"}  # of Hydra, whose sub-commands are named otherwise
used: list[str] = []  # the words that called the command `tipping` in this process, where it was


def words(name: str) -> list[str]:
    """Return the words that call a sub-command, such as ``python interpret.py``, right from the working directory.

    In a checkout these are of its scripts, but where `tipping` was used; elsewhere there are none.
    """
    scripts = presets().parent
    if used or not (scripts / SCRIPTS["interpret"]).is_file():
        return [*(used or ["tipping"]), name]
    if name in SCRIPTS:
        return ["python", os.path.relpath(scripts / SCRIPTS[name])]
    return ["python", "-m", "tipping", name]


def words_of_job(job: str) -> list[str]:
    """Return the words that call the sub-command of a job of Hydra's, by the job's name."""
    name = JOBS.get(job, job)
    return words(name) if name in SCRIPTS else ["python", f"{job}.py"]  # whose name was given, and is not ours
