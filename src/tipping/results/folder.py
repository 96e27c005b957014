"""The folder of a sweep or search, read once."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tipping.errors import InputError, printable
from tipping.experiment.options import flat
from tipping.experiment.overrides import count_jobs
from tipping.experiment.record import Record, TrainRecord
from tipping.experiment.records import RECORD, UNREADABLE
from tipping.experiment.search_note import TRIALS
from tipping.files import fit_to_print, read_text, read_yaml
from tipping.results.arena import Contested, contested
from tipping.results.jobs import Job, Jobs, read_jobs
from tipping.results.sweep import Network, by_options, networks
from tipping.results.tipping_map import Group, check_seeds, groups

ARENA = "arena"  # a job of Hydra whose mode is multirun by itself, as that of searches is
SEARCHES = ("tipping_point", "fewest_filters")  # jobs of Hydra that make several jobs of interpret each
TRIED = {"filters"}  # columns of a table of trials, beside whether each tips its network
HYDRA = ("multirun.yaml", ".hydra/hydra.yaml", "../.hydra/hydra.yaml")  # in the folder of a sweep, a job, a search


class Command(NamedTuple):
    """The command that Hydra has kept in a folder, as it was given: nothing of it is resolved or run.

    Attributes:
        name: the name of its job.
        task: the options of the job.
        hydra: the options of Hydra.
        presets: the folder of the user's presets; empty where there was none.
    """

    name: str
    task: list[str]
    hydra: list[str]
    presets: str


class SweepFolder(NamedTuple):
    """The content of the folder of a sweep or search.

    Attributes:
        folder: the folder.
        name: the name of the sweep.
        jobs: the jobs of interpret.py.
        trainings: the records of train.py.
        contests: the contests of selectors.
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
    contests: list[Contested]
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
    trials, lost = read_trials(folder / TRIALS) if os.path.lexists(folder / TRIALS) else ([], [])
    several, single = _by_number_of_mu(jobs)
    if trials:
        best = _best_of(trials)
        several, single = [], [job for job in jobs if best and best.items() <= options_as_text(job.record).items()]
    measured, unusable = networks(several)
    over_seeds, mixed = _sound_groups(measured)
    left_out += [*unusable, *mixed, *lost, *unfinished(all_jobs)]
    name, trained = printable(name or folder.resolve().name), list(all_jobs.trained.values())
    contests = contested(all_jobs)
    return SweepFolder(folder, name, jobs, trained, contests, measured, over_seeds, single, trials, left_out)


def _sound_groups(measured: Sequence[Network]) -> tuple[list[Group], list[str]]:
    """Group networks over seeds; the second value is a line for each group that is left out, as its seeds clash."""
    sound, lines = [], []
    for same in by_options(measured).values():
        try:
            check_seeds(same)
            sound += same
        except InputError as error:
            lines.append(str(error))
    return groups(sound), lines


def _by_number_of_mu(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Split jobs into those of networks at several mu and those of networks at one."""
    mu: dict[tuple[str, ...], set[float]] = {}
    for job in jobs:
        mu.setdefault(job.network, set()).add(job.record.mu)
    several = [job for job in jobs if len(mu[job.network]) > 1]
    return several, [job for job in jobs if len(mu[job.network]) == 1]


def read_trials(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read the trials of a search over several options: whether each tips its network, and numbers.

    Returns:
        the trials, and a line if they cannot be read.
    """
    try:
        trials = list(csv.DictReader(read_text(path).splitlines()))
        if not trials:
            raise ValueError("no trials")
        for trial in trials:
            numbers = {key: float(value) for key, value in trial.items() if key != "tips"}
            if trial["tips"] not in ("True", "False") or not numbers.keys() >= TRIED:
                raise ValueError("no table of trials")
    except (csv.Error, *UNREADABLE) as error:
        return [], [f"{path}: it cannot be read as a table of trials ({printable(str(error))})"]
    return [{printable(key): value for key, value in trial.items()} for trial in trials], []


def read_hydra(folder: Path) -> Command | None:
    """Read the command that was last run in a folder; None where Hydra has kept none.

    Raises:
        InputError: it cannot be read.
    """
    path = next((folder / name for name in HYDRA if os.path.lexists(folder / name)), None)
    if path is None:
        return None
    try:
        hydra = fit_to_print(read_yaml(path))["hydra"]
        sources = (hydra.get("runtime") or {}).get("config_sources") or []
        presets = next((source["path"] for source in sources if source["provider"] == "command-line"), "")
        task, options = (hydra["overrides"][key] or [] for key in ("task", "hydra"))
        command = Command(hydra["job"]["name"], task, options, presets)
        if not all(isinstance(one, str) for one in [command.name, presets, *command.task, *command.hydra]):
            raise TypeError("no texts")
    except (*UNREADABLE, AttributeError) as error:
        raise InputError(f"{path} cannot be read; delete it, and it will not be said how the sweep was made") from error
    return command


def hydra_of(folder: Path) -> Command | None:
    """Return the command that was last run in a folder; None where it is unknown (`unfinished` says why)."""
    try:
        return read_hydra(folder)
    except InputError:
        return None


def unfinished(jobs: Jobs) -> list[str]:
    """Name the jobs of a sweep that have no record, and count those never begun: a line each; none for a search."""
    try:
        hydra = read_hydra(jobs.folder)
    except InputError as error:
        return [str(error)]
    if hydra is None or hydra.name in SEARCHES or not (jobs.folder / "multirun.yaml").is_file():
        return []
    names = [path.name for path in jobs.direct if not os.path.lexists(path / RECORD)]
    lines = [f"job {printable(name)} failed or was stopped" for name in names]
    never = (count_jobs(hydra.task) or 0) - len(jobs.direct)
    return [*lines, f"{never} of its jobs were never begun: it was stopped"] if never > 0 else lines
