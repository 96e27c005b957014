"""The jobs in a folder, each read once: what tables, maps and pages are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment.options import ELSEWHERE, flat
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.experiment.records import RECORD, UNREADABLE, read_predictions, read_record

APART_FROM = ("mu", "seed", "protocol.", "curve.", *ELSEWHERE)  # options in which networks of a group may differ


class Job(NamedTuple):
    """A job of interpret.py: its folder, its record, and the predictions for each image, none if unreadable."""

    folder: Path
    record: InterpretRecord
    predictions: dict[str, np.ndarray]

    @property
    def options(self) -> dict[str, str]:
        """What tells its network apart from those of other groups: options by names such as model.filters, as text."""
        options = {key: str(value) for key, value in flat(self.record.config).items()}
        names = {"protocol": self.record.protocol["name"], "protocol.draws": str(self.record.protocol["draws"])}
        return names | {
            key: value for key, value in options.items() if key == "model._target_" or not key.startswith(APART_FROM)
        }

    @property
    def network(self) -> tuple[str, ...]:
        """What jobs of one network have in common."""
        axes = json.dumps(self.record.protocol, sort_keys=True)
        options = self.record.config
        return str(self.record.store["weights"]), axes, options["randomize"], options["selection"]["solver"]


class Jobs(NamedTuple):
    """The jobs in the folder of a sweep, of a search, or of one job.

    Attributes:
        begun: their folders.
        interpreted: those of interpret.py.
        trained: the records of those of train.py.
        unreadable: folders whose record cannot be read, or is of another version.
        unfinished: folders without a record.
    """

    begun: list[Path]
    interpreted: list[Job]
    trained: list[TrainRecord]
    unreadable: list[Path]
    unfinished: list[Path]

    @property
    def measured(self) -> list[Job]:
        """The jobs of interpret.py whose predictions are there."""
        return [job for job in self.interpreted if job.predictions]

    @property
    def left_out(self) -> list[str]:
        """A line for each job that is none of `measured`, nor of train.py, although it has a record."""
        folders = [*self.unreadable, *(job.folder for job in self.interpreted if not job.predictions)]
        return [f"{one}: its record or predictions cannot be read, or are of another version" for one in folders]


def read_jobs(folder: Path) -> Jobs:
    """Read all jobs in a folder and below it, in the order of their names.

    Raises:
        InputError: it is missing or holds no job.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a sweep or a search")
    paths = {path.parent for path in folder.rglob(RECORD)} | {path.parent for path in folder.glob("*/.hydra")}
    if not paths:
        raise InputError(f"{folder} holds no jobs; give the folder of a sweep or a search")
    jobs = Jobs(sorted(paths, key=lambda path: (len(str(path)), path)), [], [], [], [])
    for path in jobs.begun:
        _read_into(jobs, path, job_name(folder, path))
    return jobs


def _read_into(jobs: Jobs, path: Path, name: str) -> None:
    """Read the job of a folder."""
    if not (path / RECORD).is_file():
        jobs.unfinished.append(path)
        return
    try:
        record = read_record(path, name)
    except UNREADABLE:
        jobs.unreadable.append(path)
        return
    if isinstance(record, TrainRecord):
        jobs.trained.append(record)
        return
    try:
        predictions = read_predictions(path)
    except UNREADABLE:
        predictions = {}
    jobs.interpreted.append(Job(path, record, predictions))


def job_name(folder: Path, job: Path) -> str:
    """Return what a job of a sweep is called."""
    return str(job.relative_to(folder)) if job != folder else folder.resolve().name
