"""The folder of a sweep or search, read once."""

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

SEARCHES = ("tipping_point", "fewest_filters")  # jobs of Hydra that make several jobs of interpret each
HYDRA = ("multirun.yaml", ".hydra/hydra.yaml", "../.hydra/hydra.yaml")  # in the folder of a sweep, a job, a search


class SweepFolder(NamedTuple):
    """The content of the folder of a sweep or search.

    Attributes:
        folder: the folder.
        name: the name of the sweep.
        jobs: the jobs of interpret.py.
        trainings: the records of train.py.
        networks: the networks at several mu; empty for a search over several options, whose trials may repeat one.
        groups: the networks grouped over seeds.
        single: the jobs of networks at one mu; for a search over several options, the jobs of its best trial.
        trials: the trials of a search over several options, the best first.
        left_out: a line for each job or network that is left out.
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
        """The options of the best trial; empty where no trial tips its network."""
        return _best_of(self.trials)


def _best_of(trials: Sequence[dict[str, str]]) -> dict[str, str]:
    if not trials or trials[0]["tips"] != "True":
        return {}
    return {key: value for key, value in trials[0].items() if key == "mu" or "." in key}


def options_as_text(record: Record) -> dict[str, str]:
    """Return the options of a record by their dotted names, as text."""
    return {key: str(value) for key, value in flat(record.config).items()}


def read_folder(folder: Path, name: str = "") -> SweepFolder:
    """Read the folder of a sweep or search.

    Args:
        folder: the folder.
        name: the name of the sweep; by default, the name of the folder.

    Raises:
        InputError: the folder is missing or holds no job.
    """
    all_jobs = read_jobs(folder)
    jobs, left_out = all_jobs.measured()
    trials = list(csv.DictReader((folder / TRIALS).read_text().splitlines())) if (folder / TRIALS).is_file() else []
    several, single = _by_number_of_mu(jobs)
    if trials:
        best = _best_of(trials)
        several, single = [], [job for job in jobs if best and best.items() <= options_as_text(job.record).items()]
    measured, unusable = networks(several)
    try:
        over_seeds = groups(measured)
    except InputError as error:
        over_seeds, unusable = [], [*unusable, str(error)]
    left_out += [*unusable, *unfinished(all_jobs)]
    name, trained = name or folder.resolve().name, list(all_jobs.trained.values())
    return SweepFolder(folder, name, jobs, trained, measured, over_seeds, single, trials, left_out)


def _by_number_of_mu(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Split jobs into those of networks at several mu and those of networks at one."""
    mu: dict[tuple[str, ...], set[float]] = {}
    for job in jobs:
        mu.setdefault(job.network, set()).add(job.record.mu)
    several = [job for job in jobs if len(mu[job.network]) > 1]
    return several, [job for job in jobs if len(mu[job.network]) == 1]


def hydra_of(folder: Path) -> DictConfig | None:
    """Load Hydra's configuration of what was last run in a folder; None where there is none.

    Raises:
        InputError: the configuration cannot be read.
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
    """Name the jobs of a sweep that have no record, and count those never begun: a line each; none for a search."""
    hydra = hydra_of(jobs.folder)
    if hydra is None or hydra.job.name in SEARCHES or not (jobs.folder / "multirun.yaml").is_file():
        return []
    lines = [f"job {job.name} failed or was stopped" for job in jobs.direct if not (job / RECORD).is_file()]
    try:
        never = math.prod(map(len, swept(hydra.overrides.task).values())) - len(jobs.direct)
    except HydraException:  # the number of values of a glob is unknown here
        never = 0
    return [*lines, f"{never} of its jobs were never begun: it was stopped"] if never > 0 else lines
