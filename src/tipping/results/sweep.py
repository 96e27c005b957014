"""The jobs of sweeps and searches, grouped by network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment.options import model_text
from tipping.experiment.record import InterpretRecord
from tipping.experiment.records import UNREADABLE
from tipping.experiment.search_note import EVALUATIONS, SEARCH
from tipping.files import fit_to_print, read_json
from tipping.results.jobs import Job, read_jobs
from tipping.tipping_points import Bracketing, Curves


class Network(NamedTuple):
    """The jobs of one network, by rising mu.

    Attributes:
        name: the name of the network in messages.
        jobs: the jobs, with their records.
        curves: the predictions of the jobs, right or wrong.
        chance: the accuracy of always giving the most frequent class.
        search: the note of the search of this network; empty without a search.
    """

    name: str
    jobs: list[Job]
    curves: Curves
    chance: float
    search: dict[str, Any]

    @property
    def records(self) -> list[InterpretRecord]:
        """The records of the jobs, by rising mu."""
        return [job.record for job in self.jobs]

    @property
    def seed(self) -> int:
        """The seed of the network."""
        return int(self.records[0].seed)

    @property
    def options(self) -> dict[str, str]:
        """The options that tell the network apart from networks of other groups."""
        return self.jobs[0].options


def read_sweeps(sweeps: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """Read the jobs of interpret.py in sweeps and searches.

    Returns:
        the jobs, and a line for each job that cannot be read.

    Raises:
        InputError: a folder is missing or holds no record of a job.
    """
    each = [read_jobs(sweep).measured() for sweep in sweeps]
    return [job for jobs, _ in each for job in jobs], [line for _, left_out in each for line in left_out]


def networks(jobs: Sequence[Job]) -> tuple[list[Network], list[str]]:
    """Group jobs by their networks.

    Returns:
        the networks, and a line for each network that has to be left out.
    """
    by_network: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        by_network.setdefault(job.network, []).append(job)
    usable, left_out = [], []
    for its_jobs in by_network.values():
        try:
            usable.append(_network(sorted(its_jobs, key=lambda job: float(job.record.mu))))
        except InputError as error:
            left_out.append(str(error))
    return usable, left_out


def _network(jobs: Sequence[Job]) -> Network:
    first = jobs[0].record
    model = model_text(first.model["name"], first.config["model"].get("_target_"), alone=True)
    name = f"{model} seed={first.seed}, {first.protocol['name']}"
    name += f", {first.protocol['draws']} draws"
    jobs = _each_once(name, jobs)
    records, arrays = [job.record for job in jobs], [job.predictions for job in jobs]
    mu = [float(record.mu) for record in records]
    if len(mu) < 2:
        raise InputError(f"{name}: {jobs[0].folder} has mu={mu[0]:g} only; give the sweep of several")
    if not any(record.filters.ablated for record in records):
        raise InputError(f"{name}: no filter is relevant at any mu, so nothing can tip it; give larger values of mu")
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
    """Drop jobs that another sweep or search has run too."""
    kept = [jobs[0]]
    for job in jobs[1:]:
        before = kept[-1]
        if job.record.mu != before.record.mu:
            kept.append(job)
        elif not all(np.array_equal(job.predictions[key], before.predictions[key]) for key in job.predictions):
            mu, folders = job.record.mu, f"{before.folder} and {job.folder}"
            raise InputError(f"{name}: mu={mu:g} gave different predictions in {folders}: leave one out")
    return kept


def _note(content: Any) -> dict[str, Any]:
    """Return the content of a note of a search; raise `ValueError` where it has not the values that are shown."""
    numbers = [content["evaluations"], content["level"]]
    numbers += [content.get(fact) for fact in ("saturation_mu", "stability") if content.get(fact) is not None]
    ends = [each[end] for each in content["crossings"] for end in ("low", "high", "at")]
    if not all(type(number) in (int, float) for number in [*numbers, *ends]) or not all(end > 0 for end in ends):
        raise ValueError("no note of a search")
    return content


def _searched(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the note of the search of a network; empty without one.

    Of several searches, this is the longest one's, with all crossings in the closest brackets of any search.
    """
    folders = dict.fromkeys(job.folder.parent.parent for job in jobs if job.folder.parent.name == EVALUATIONS)
    notes = []
    for note in (folder / SEARCH for folder in folders if (folder / SEARCH).is_file()):
        try:
            notes.append(_note(fit_to_print(read_json(note))))
        except UNREADABLE as error:
            raise InputError(f"{note} cannot be read ({error}); run the search again") from error
    if not notes:
        return {}
    longest = max(notes, key=lambda one: one["evaluations"])
    known = {job.record.mu: job.record.accuracy.selected - longest["level"] for job in jobs}
    exact = {(each["low"], each["high"]): each for one in notes for each in one["crossings"]}
    brackets = Bracketing(min(known), max(known)).brackets(known)
    return {**longest, "crossings": [exact.get(bracket[:2], bracket._asdict()) for bracket in brackets]}


def by_options(measured: Sequence[Network]) -> dict[tuple[tuple[str, str], ...], list[Network]]:
    """Return the networks that differ only by their seed, by the options that they share."""
    members: dict[tuple[tuple[str, str], ...], list[Network]] = {}
    for network in measured:
        members.setdefault(tuple(network.options.items()), []).append(network)
    return members
