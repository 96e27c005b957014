"""The jobs in a folder, each read once, for tables, maps and pages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tipping.errors import InputError, printable
from tipping.experiment.config import MU_LASSO
from tipping.experiment.options import ELSEWHERE, flat
from tipping.experiment.record import ArenaRecord, InterpretRecord, TrainRecord
from tipping.experiment.records import PREDICTED, PREDICTIONS, RECORD, SELECTION, UNREADABLE, read_job
from tipping.results.by_class import Classes, classes_of

APART_FROM = ("mu", "seed", "protocol.", "curve.", *ELSEWHERE)  # options in which networks of a group may differ


class Job(NamedTuple):
    """A job of interpret.py: its folder, its record, the predictions for each image, and what it says of classes."""

    folder: Path
    record: InterpretRecord
    predictions: dict[str, np.ndarray]
    classes: Classes = Classes([], [], None)

    @property
    def options(self) -> dict[str, str]:
        """The options, as text, that tell the job's network apart from networks of other groups."""
        options = {key: printable(str(value)) for key, value in flat(self.record.config).items()}
        names = {"protocol": self.record.protocol["name"], "protocol.draws": str(self.record.protocol["draws"])}
        return names | {key: value for key, value in options.items() if not key.startswith(APART_FROM)}

    @property
    def network(self) -> tuple[str, ...]:
        """The key that all jobs of one network share: weights, protocol, randomization, selector, solver and signs."""
        axes = json.dumps(self.record.protocol, sort_keys=True)
        options = self.record.config
        selection = options["selection"]
        chosen_by = options.get("selector", MU_LASSO), selection["solver"], str(selection.get("positive", False))
        return str(self.record.store["weights"]), axes, options["randomize"], *chosen_by


class Jobs(NamedTuple):
    """The records of the jobs in the folder of a sweep, of a search, or of one job.

    Attributes:
        folder: the folder that was read.
        begun: the folders of all jobs.
        interpreted: the records of the jobs of interpret.py, by the folders of the jobs.
        predictions: what `Job` holds of the jobs of interpret.py, by the folders of the jobs; none where not asked for.
        classes: what these jobs say of classes, by the folders of the jobs.
        trained: the records of the jobs of train.py, by the folders of the jobs.
        contests: the records of the contests of selectors, by the folders of the jobs.
        scores: what `write_scores` has written of each contest, by the folders of the jobs; none where not asked for.
        unreadable: the folders of jobs whose record cannot be read, is of another version, or lies elsewhere.
    """

    folder: Path
    begun: list[Path]
    interpreted: dict[Path, InterpretRecord]
    predictions: dict[Path, dict[str, np.ndarray]]
    classes: dict[Path, Classes]
    trained: dict[Path, TrainRecord]
    contests: dict[Path, ArenaRecord]
    scores: dict[Path, dict[str, np.ndarray]]
    unreadable: list[Path]

    @property
    def direct(self) -> list[Path]:
        """The folders of the jobs of this sweep, without jobs of sweeps below it."""
        return [path for path in self.begun if path.parent == self.folder]

    def measured(self) -> tuple[list[Job], list[str]]:
        """Return the jobs of interpret.py with their predictions.

        Returns:
            the jobs, and a line for each job that cannot be read.

        Raises:
            InputError: there is no record of a job.
        """
        if not (self.interpreted or self.trained or self.contests or self.unreadable):
            raise InputError(f"{self.folder} holds no records of jobs; give the folder of a sweep or a search")
        jobs = [
            Job(path, record, self.predictions[path], self.classes[path]) for path, record in self.interpreted.items()
        ]
        reason = "its record or predictions cannot be read, or are of another version"
        return jobs, [f"{printable(str(path))}: {reason}" for path in self.unreadable]


def read_jobs(folder: Path, predictions: bool = True) -> Jobs:
    """Read the records of all jobs in a folder and below it, in the order of their names; each file is read once.

    Args:
        folder: the folder.
        predictions: whether to keep the predictions and scores; those of many jobs take memory.

    Raises:
        InputError: the folder is missing or holds no job.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a sweep or a search")
    paths = {path.parent for path in folder.rglob(RECORD)} | {path.parent for path in folder.glob("*/.hydra")}
    if not paths:
        raise InputError(f"{folder} holds no jobs; give the folder of a sweep or a search")
    jobs = Jobs(folder, sorted(paths, key=lambda path: (len(str(path)), path)), {}, {}, {}, {}, {}, {}, [])
    inside = folder.resolve()
    for path in (path for path in jobs.begun if os.path.lexists(path / RECORD)):
        try:
            for name in (RECORD, PREDICTIONS, SELECTION):  # a folder of somebody's must not show other files by a link
                if not (path / name).resolve().is_relative_to(inside):
                    raise ValueError("a link that leads out of the folder")
            record, arrays = read_job(path, job_name(folder, path))
        except UNREADABLE:
            jobs.unreadable.append(path)
            continue
        if isinstance(record, TrainRecord):
            jobs.trained[path] = record
        elif isinstance(record, ArenaRecord):
            jobs.contests[path] = record
            if predictions:
                jobs.scores[path] = arrays
        else:
            jobs.interpreted[path] = record
            jobs.classes[path] = classes_of(record, arrays)
            if predictions:
                jobs.predictions[path] = {name: arrays[name] for name in PREDICTED}
    return jobs


def job_name(folder: Path, job: Path) -> str:
    """Return the name of a job: its path below the sweep's folder, or that folder's name if the two are the same."""
    return printable(str(job.relative_to(folder)) if job != folder else folder.resolve().name)
