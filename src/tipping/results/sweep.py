"""The jobs of sweeps and searches, gathered into what was measured of each network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment.options import ELSEWHERE, flat
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.experiment.records import RECORD, UNREADABLE, read_predictions, read_record
from tipping.experiment.search_note import EVALUATIONS, SEARCH
from tipping.tipping_points import Bracketing, Curves

APART_FROM = ("mu", "seed", "protocol.", "curve.", *ELSEWHERE)  # options in which networks of a group may differ


class Job(NamedTuple):
    """A job's folder, its record, and the predictions for each image."""

    folder: Path
    record: InterpretRecord
    predictions: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        """The job of a folder; None for one of train.py.

        Raises:
            one of `records.UNREADABLE`.
        """
        record = read_record(folder)
        return cls(folder, record, read_predictions(folder)) if isinstance(record, InterpretRecord) else None

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


class Network(NamedTuple):
    """The jobs of one network, by rising mu.

    Attributes:
        name: for messages.
        jobs: with its records.
        curves: what they measured.
        chance: the accuracy of always giving the most frequent class.
        search: what a search noted of it, if it was searched.
    """

    name: str
    jobs: list[Job]
    curves: Curves
    chance: float
    search: dict[str, Any]

    @property
    def records(self) -> list[InterpretRecord]:
        """Of its jobs."""
        return [job.record for job in self.jobs]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.records[0].seed)

    @property
    def options(self) -> dict[str, str]:
        """What tells it apart from networks of other groups."""
        return self.jobs[0].options


def read(sweeps: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """The jobs of interpret.py of sweeps and searches, and a line for each that cannot be read.

    Raises:
        InputError: a folder is missing or holds no job.
    """
    jobs, left_out = [], []
    for sweep in sweeps:
        paths = sorted(sweep.rglob(RECORD)) if sweep.is_dir() else []
        if not paths:
            raise InputError(f"{sweep} holds no jobs; give the folder of a sweep or a search")
        for path in paths:
            try:
                if job := Job.read(path.parent):
                    jobs.append(job)
            except UNREADABLE:
                left_out.append(f"{path.parent}: its record or predictions cannot be read, or are of another version")
    return jobs, left_out


def trainings(folder: Path) -> list[TrainRecord]:
    """The records of train.py in a folder, each under its job's name; `read` names those that cannot be read."""
    found = []
    for path in sorted(folder.rglob(RECORD), key=lambda path: (len(str(path)), path)):
        try:
            record = read_record(path.parent, job_name(folder, path.parent))
            if isinstance(record, TrainRecord):
                found.append(record)
        except UNREADABLE:
            continue
    return found


def job_name(folder: Path, job: Path) -> str:
    """What a job of a sweep is called."""
    return str(job.relative_to(folder)) if job != folder else folder.resolve().name


def networks(jobs: Sequence[Job]) -> tuple[list[Network], list[str]]:
    """The networks of jobs, and a line for each that had to be left out."""
    of: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        of.setdefault(job.network, []).append(job)
    found, left_out = [], []
    for own in of.values():
        try:
            found.append(_network(sorted(own, key=lambda job: float(job.record.mu))))
        except InputError as error:
            left_out.append(str(error))
    return found, left_out


def _network(jobs: Sequence[Job]) -> Network:
    first = jobs[0].record
    name = f"{first.model['name']} seed={first.seed}, {first.protocol['name']}"
    name += f", {first.protocol['draws']} draws"
    jobs = _each_once(name, jobs)
    records, arrays = [job.record for job in jobs], [job.predictions for job in jobs]
    mu = [float(record.mu) for record in records]
    if len(mu) < 2:
        raise InputError(f"{name}: {jobs[0].folder} has mu={mu[0]:g} only; give the sweep of several")
    if len({array["random"].shape for array in arrays}) > 1:
        raise InputError(f"{name}: jobs differ in their images: compare them one by one")
    labels_N = arrays[0]["labels"]
    if not all(np.array_equal(array["labels"], labels_N) for array in arrays):
        raise InputError(f"{name}: jobs differ in the labels of their images: compare them one by one")
    curves = Curves(
        mu_P=np.array(mu),
        removed_P=np.array([record.filters.ablated for record in records]),
        intact_N=arrays[0]["intact"] == labels_N,
        selected_PN=np.array([array["selected"] == labels_N for array in arrays]),
        random_PDN=np.array([array["random"] == labels_N for array in arrays]),
    )
    return Network(name, list(jobs), curves, records[0].accuracy.chance, _searched(jobs))


def _each_once(name: str, jobs: Sequence[Job]) -> list[Job]:
    """Jobs without those that another sweep or search has run too."""
    kept = [jobs[0]]
    for job in jobs[1:]:
        before = kept[-1]
        if job.record.mu != before.record.mu:
            kept.append(job)
        elif not all(np.array_equal(job.predictions[key], before.predictions[key]) for key in job.predictions):
            mu, folders = job.record.mu, f"{before.folder} and {job.folder}"
            raise InputError(f"{name}: mu={mu:g} gave different predictions in {folders}: leave one out")
    return kept


def _searched(jobs: Sequence[Job]) -> dict[str, Any]:
    """What searches noted of a network: of several the longest, and all crossings, as close as any has seen them."""
    folders = dict.fromkeys(job.folder.parent.parent for job in jobs if job.folder.parent.name == EVALUATIONS)
    found = []
    for note in (folder / SEARCH for folder in folders if (folder / SEARCH).is_file()):
        try:
            found.append(json.loads(note.read_text()))
        except ValueError as error:
            raise InputError(f"{note} cannot be read ({error}); run the search again") from error
    if not found:
        return {}
    longest = max(found, key=lambda one: one["evaluations"])
    known = {job.record.mu: job.record.accuracy.selected - longest["level"] for job in jobs}
    exact = {(each["low"], each["high"]): each for one in found for each in one["crossings"]}
    brackets = Bracketing(min(known), max(known)).brackets(known)
    return {**longest, "crossings": [exact.get(bracket[:2], bracket._asdict()) for bracket in brackets]}
