"""What the folder of a sweep or search holds, read once."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from tipping.errors import InputError
from tipping.experiment.options import flat
from tipping.experiment.overrides import NO_YAML, swept
from tipping.experiment.record import Record, TrainRecord
from tipping.experiment.records import RECORD
from tipping.experiment.search_note import TRIALS
from tipping.results.jobs import Job, Jobs, read_jobs
from tipping.results.sweep import Network, networks
from tipping.results.tipping_map import Group, groups

SEARCHES = ("tipping_point", "fewest_filters")  # jobs of Hydra, of several of interpret each
HYDRA = ("multirun.yaml", ".hydra/hydra.yaml", "../.hydra/hydra.yaml")  # of a sweep, a job, and a search's folder


class SweepFolder(NamedTuple):
    """What the folder of a sweep or search holds, read once.

    Attributes:
        jobs: of interpret.py.
        trainings: records of train.py.
        networks: at several mu; none of a search over several options, whose trials may chance upon one twice.
        groups: these over seeds.
        single: jobs of networks at one mu; of a search over several options those of its best trial.
        trials: of a search over several options, the best first.
        left_out: a line for each job or network that is not among these.
    """

    folder: Path
    name: str
    jobs: list[Job]
    trainings: list[TrainRecord]
    networks: list[Network]
    groups: list[Group]
    single: list[Job]
    trials: list[dict[str, str]]
    left_out: list[str]

    @property
    def best(self) -> dict[str, str]:
        """The options of the best trial that tips its network."""
        return _best_of(self.trials)


def _best_of(trials: Sequence[dict[str, str]]) -> dict[str, str]:
    if not trials or trials[0]["tips"] != "True":
        return {}
    return {key: value for key, value in trials[0].items() if key == "mu" or "." in key}


def options_as_text(record: Record) -> dict[str, str]:
    return {key: str(value) for key, value in flat(record.config).items()}


def read_folder(folder: Path, name: str = "") -> SweepFolder:
    """Read a folder.

    Args:
        name: what it is called, if not as the folder.

    Raises:
        InputError: it is missing or holds no job.
    """
    there = read_jobs(folder)
    jobs, left_out = there.measured()
    trials = list(csv.DictReader((folder / TRIALS).read_text().splitlines())) if (folder / TRIALS).is_file() else []
    several, single = _by_number_of_mu(jobs)
    if trials:
        best = _best_of(trials)
        several, single = [], [job for job in jobs if best and best.items() <= options_as_text(job.record).items()]
    found, not_found = networks(several)
    try:
        over_seeds = groups(found)
    except InputError as error:
        over_seeds, not_found = [], [*not_found, str(error)]
    left_out += [*not_found, *unfinished(there)]
    name, trained = name or folder.resolve().name, list(there.trained.values())
    return SweepFolder(folder, name, jobs, trained, found, over_seeds, single, trials, left_out)


def _by_number_of_mu(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Return the jobs of networks at several mu, and of those at one."""
    mu: dict[tuple[str, ...], set[float]] = {}
    for job in jobs:
        mu.setdefault(job.network, set()).add(job.record.mu)
    several = [job for job in jobs if len(mu[job.network]) > 1]
    return several, [job for job in jobs if len(mu[job.network]) == 1]


def hydra_of(folder: Path) -> DictConfig | None:
    """Hydra's own configuration of what was last run in a folder; None where there is none.

    Raises:
        InputError: it cannot be read.
    """
    path = next((folder / name for name in HYDRA if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        hydra: DictConfig = OmegaConf.load(path).hydra
        shlex.join([hydra.job.name, *hydra.overrides.task, *hydra.overrides.hydra])
    except (OSError, *NO_YAML) as error:
        raise InputError(f"{path} cannot be read; delete it, and it will not be said how the sweep was made") from error
    return hydra


def unfinished(jobs: Jobs) -> list[str]:
    """Return the jobs of a sweep that left no record, and how many were never begun; those of a search are its
    networks'."""
    hydra = hydra_of(jobs.folder)
    if hydra is None or hydra.job.name in SEARCHES or not (jobs.folder / "multirun.yaml").is_file():
        return []
    lines = [f"job {job.name} failed or was stopped" for job in jobs.direct if not (job / RECORD).is_file()]
    try:
        never = math.prod(map(len, swept(hydra.overrides.task).values())) - len(jobs.direct)
    except HydraException:  # how many a glob stands for cannot be told here
        never = 0
    return [*lines, f"{never} of its jobs were never begun: it was stopped"] if never > 0 else lines
