"""The jobs of a multirun with their folders, which are known before any job starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from tipping.errors import InputError
from tipping.experiment.options import RECORD
from tipping.experiment.overrides import overrides_of_jobs

HYDRA = ".hydra"  # the folder in that of a job by which tables and pages find jobs
FIXED = re.compile(r"\$\{(now:[^${}]*|hydra[.:]job\.name|oc\.env:[^${}]*)\}")  # the same for all jobs
NUMBER = re.compile(r"\$\{hydra[.:]job\.num\}")
# files that a sweep keeps beside the folders of its jobs
TABLES = {"results.csv", "trainings.csv", "trials.csv", "tipping_points.csv", "arena.csv"}
OWN = {
    *TABLES,
    "multirun.yaml",
    "report.html",
    "accuracy_drop.png",
    "tipping_points.png",
    "arena.png",
    "search.json",
    RECORD,
}


class Planned(NamedTuple):
    """A job of a multirun: its number, its overrides and its folder."""

    number: int
    overrides: list[str]
    folder: Path

    @property
    def key(self) -> str:
        """The overrides as one text."""
        return " ".join(self.overrides)


def plan(options: DictConfig) -> list[Planned]:
    """Return the jobs of a multirun.

    Args:
        options: the composed options, with Hydra's.

    Raises:
        InputError: two jobs would share a folder, or a job's folder would not be found again.
        HydraException: a job cannot be composed.
    """
    if options.hydra.output_subdir != HYDRA:
        raise InputError(f"hydra.output_subdir={options.hydra.output_subdir}: a sweep needs it; leave it out")
    sweep, jobs, seen = Path(options.hydra.sweep.dir), [], dict[str, int]()
    for number, overrides in enumerate(overrides_of_jobs(options.hydra.overrides.task)):
        name = _name(options, number, overrides)
        if Path(name).parts != (name,) or name == "..":
            raise InputError(f"hydra.sweep.subdir={name}: give the name of one folder, without a slash")
        if name.startswith(".") or name.casefold() in OWN:
            raise InputError(f"hydra.sweep.subdir={name}: sweeps keep files of such names there; give another")
        if name in seen:
            raise InputError(
                f"hydra.sweep.subdir={name}: jobs {seen[name]} and {number} would share that folder: name every option "
                "with several values, or leave it out"
            )
        seen[name] = number
        jobs.append(Planned(number, overrides, sweep / name))
    return jobs


def _name(options: DictConfig, number: int, overrides: list[str]) -> str:
    """Return the name of a job's folder in that of its multirun.

    Raises:
        InputError: the job would be in another multirun's folder.
    """
    raw = OmegaConf.to_container(options.hydra.sweep, resolve=False)
    assert isinstance(raw, dict), "as Hydra declares it"
    place, name = FIXED.sub("", str(raw["dir"])), NUMBER.sub(str(number), str(raw["subdir"]))
    if "${" not in place + name:
        return name
    composed, before = composed_job(options, number, overrides), HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)  # which the resolver `hydra:` reads
    try:
        if (job_sweep := composed.hydra.sweep.dir) != options.hydra.sweep.dir:
            raise InputError(
                f"hydra.sweep.dir={job_sweep}: all jobs must share one folder; name options in sweep.subdir"
            )
        return str(composed.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = before


def composed_job(options: DictConfig, number: int, overrides: list[str]) -> DictConfig:
    """Compose the options of a job as Hydra's launchers do.

    Raises:
        HydraException: the job cannot be composed.
    """
    composed = GlobalHydra.instance().config_loader().load_sweep_config(options, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id, composed.hydra.job.num = str(number), number
    return composed
