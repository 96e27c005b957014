"""The report's network, many times: what is left without its relevant filters, as rows of docs/results/figure4.csv."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpu.work import Pace, Rows, Work, columns_of
from tipping.ablation import DropCurve, evaluate_ablations
from tipping.data import Dataset
from tipping.experiment import outcome
from tipping.experiment.config import Config
from tipping.experiment.network import find_or_train
from tipping.experiment.record import InterpretRecord
from tipping.experiment.subject import Subject
from tipping.network import build
from tipping.results import tables
from tipping.selection import Selection, with_controls

FILE = "answer.csv"
DROPOUT = (0.5, 0.0)
PROTOCOLS, CONTROLS = ("described", "keras_report"), ("layer", "norm")


def run(work: Work) -> None:
    """Train and interpret one network after another; the rows of each under a protocol are kept at once.

    Raises:
        OutOfTime: some of those aimed at are left.
    """
    rows, pace = Rows(work.out / FILE, columns_of("figure4")), Pace(work, "answer, a network")
    for seed in range(work.size.seeds):
        for dropout in DROPOUT:
            there = {row["protocol"] for row in rows.having(**{"model.dropout": dropout, "seed": seed})}
            if left := [protocol for protocol in PROTOCOLS if protocol not in there]:
                with pace.piece(len(left) / len(PROTOCOLS)):
                    for some in of_network(work, dropout, seed, left):
                        rows.add(*some)
                print(f"dropout {dropout:g}, seed {seed}", flush=True)


def of_network(
    work: Work, dropout: float, seed: int, protocols: Sequence[str] = PROTOCOLS
) -> Iterator[list[dict[str, Any]]]:
    """The rows of one network under each protocol: controls × mu.

    The protocols explain the same labels by the same responses and ablate the same filters, each in its own way: one
    selection path, and one draw of each control, serves them all.
    """
    given = (*work.size.network, f"model.dropout={dropout}", f"seed={seed}")
    options = work.options(*given)
    dataset = work.dataset(options)
    model = build(options.model, dataset.image_shape, len(dataset.classes), seed).to(work.device)
    find_or_train(model, dataset, options, work.store)
    drawn: dict[tuple[float, str], Selection] = {}
    for protocol in protocols:
        own = work.options(*given, f"protocol={protocol}")
        subject = Subject.from_options(model, dataset, own)
        drawn = drawn or selected(work, subject)
        yield list(rows_of(work, subject, dataset, drawn))


def selected(work: Work, subject: Subject) -> dict[tuple[float, str], Selection]:
    """The selection at each mu, with each kind of control."""
    problem, _ = subject.responses(work.store)
    path = subject.select_each(problem, work.size.mu)
    return {
        (mu, control): with_controls(selection, subject.filters, mu, replace(subject.draws, match=control))
        for mu, selection in zip(work.size.mu, path, strict=True)
        for control in CONTROLS
    }


def at(options: Config, mu: float, control: str) -> Config:
    """The options of a job at some mu and with some kind of control."""
    return replace(options, mu=float(mu), protocol=replace(options.protocol, control=control))


def rows_of(
    work: Work, subject: Subject, dataset: Dataset, drawn: dict[tuple[float, str], Selection]
) -> Iterator[dict[str, Any]]:
    """The rows of one protocol, all of whose ablations are evaluated together."""
    images = dataset.split(subject.options.protocol.evaluated_on)
    intact_N = subject.intact(images, work.store)
    sets = [[selection.order_K, *selection.controls] for selection in drawn.values()]
    predictions = evaluate_ablations(
        subject.filters, images, [one for some in sets for one in some], **subject.manner(work.store)
    )
    parts = np.split(predictions, np.cumsum([len(some) for some in sets])[:-1])
    for (key, selection), predictions_AN in zip(drawn.items(), parts, strict=True):
        options = at(subject.options, *key)
        curve = DropCurve.of_ends(intact_N, predictions_AN, images.labels_N, len(selection.order_K))
        came_of_it = outcome.outcome(options, subject.filters.index, selection, images, intact_N, predictions_AN, curve)
        record = InterpretRecord(**work.described(options), **came_of_it, store={}, made={}, seconds={})
        row = tables.job_row(record, [])
        yield row | {"curve_selected": "", "curve_random": ""}  # a curve of two points is none
