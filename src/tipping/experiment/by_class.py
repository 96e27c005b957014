"""The filters of each class ablated by themselves: what it costs that class, and the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tipping.ablation import evaluate_ablations
from tipping.data import Split
from tipping.experiment.class_files import drops_by_class
from tipping.experiment.record_parts import ClassEntry, Estimate
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.network import Filters
from tipping.selection import ClassSets, Selection, class_sets
from tipping.tipping_points import Curves, tipping_point

POINTS = 8  # numbers of its own filters at which the accuracy of a class is measured


@dataclass(frozen=True)
class ByClass:
    """The predictions of a network without the filters of each class.

    Attributes:
        rows: the kind of set of each of A rows; of random ones, one row for each draw.
        each_AN: the predictions for the images evaluated, each without the sets of its own class; those of the intact
            network where its class has no filters.
        labels_C: the classes that have filters.
        other_CAM: the predictions for some of the images, of all classes, without the sets of each of these classes.
        intact_M, labels_M: the predictions of the intact network for these images, and their labels.
        alone_KM: the predictions for these images without each relevant filter alone, in the order of the selection.
        counts: for each of these classes, the numbers of its own filters removed along its curve.
        curve: for each of these classes, the predictions for those of the same images that are its own, along the
            orders of its own filters and of each random control: (1 + draws, P, images).
    """

    rows: tuple[str, ...]
    each_AN: np.ndarray
    labels_C: np.ndarray
    other_CAM: np.ndarray
    intact_M: np.ndarray
    labels_M: np.ndarray
    alone_KM: np.ndarray
    counts: list[np.ndarray]
    curve: list[np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that a job's ``predictions.npz`` holds of it.

        These are ``class_rows`` (A,), ``class_own`` (A, N), ``class_labels`` (C,), ``class_others`` (C, A, M) with
        ``class_others_intact`` and ``class_others_labels`` (M,), ``class_alone`` (K, M), and, one class after the
        other, ``class_counts`` and ``class_curve``.
        """
        return {
            "class_rows": np.array(self.rows),
            "class_own": self.each_AN,
            "class_labels": self.labels_C,
            "class_others": self.other_CAM,
            "class_others_intact": self.intact_M,
            "class_others_labels": self.labels_M,
            "class_alone": self.alone_KM,
            "class_counts": np.concatenate([*self.counts, np.array([], dtype=int)]),
            "class_curve": np.concatenate([*(one.ravel() for one in self.curve), self.each_AN[:0].ravel()]),
        }


def ablate_by_class(
    subject: Subject, selection: Selection, images: Split, intact_N: np.ndarray, store: Store
) -> tuple[ByClass, list[ClassEntry], np.ndarray | None]:
    """Ablate the filters of each class by themselves, and each relevant filter alone.

    Args:
        images: the images evaluated.
        intact_N: the predictions of the intact network for these.
        store: keeps predictions and mean activations.

    Returns:
        the predictions, the entries of the record, and the drop of accuracy without each relevant filter alone, in the
        order of the selection: (K,); None where there are no images of all classes.
    """
    filters, count = subject.filters, subject.options.by_class.images
    few = images[:0] if count is None else images.spread(count)
    intact = intact_N, intact_N[:0] if count is None else subject.intact(few, store)
    sets = class_sets(selection, filters, subject.options.mu, subject.draws)
    measured = measure_by_class(filters, images, few, intact, sets, selection.order_K, subject.manner(store))
    entries = entries_by_class(measured, sets, images.labels_N.cpu().numpy(), intact_N, filters.classes)
    if count is None:
        return measured, entries, None
    right_M = measured.intact_M == measured.labels_M
    return measured, entries, right_M.mean() - (measured.alone_KM == measured.labels_M).mean(1)


def measure_by_class(
    filters: Filters,
    images: Split,
    few: Split,
    intact: tuple[np.ndarray, np.ndarray],
    sets: Sequence[ClassSets],
    order_K: np.ndarray,
    manner: Mapping[str, Any],
) -> ByClass:
    """Measure a network without the filters of each class, and without each relevant filter by itself.

    Args:
        images: the images evaluated: each without the sets of its own class.
        few: some of these, of all classes: without the sets of every class; there may be none.
        intact: the predictions of the intact network for both.
        sets: the sets of each class that has filters.
        order_K: the relevant filters.
        manner: the keyword arguments of `evaluate_ablations`.
    """
    rows = tuple(kind for kind, some in sets[0].sets.items() for _ in some) if sets else ()
    every = [gone for one in sets for some in one.sets.values() for gone in some]
    each_AN = np.repeat(intact[0][None], len(rows), axis=0)
    labels_N, labels_M = images.labels_N.cpu().numpy(), few.labels_N.cpu().numpy()
    counts, curve = [], []
    for one, gone in zip(sets, _chunks(every, len(rows)), strict=True):
        if len(positions := np.flatnonzero(labels_N == one.label)):
            its = images[torch.from_numpy(positions)]
            each_AN[:, positions] = evaluate_ablations(filters, its, gone, **manner)
        counts.append(np.unique(np.linspace(0, len(one.order_K), POINTS + 1).round().astype(int)))
        its = few[torch.from_numpy(np.flatnonzero(labels_M == one.label))]
        orders = [order[:count] for order in (one.order_K, *one.random) for count in counts[-1]]
        along = evaluate_ablations(filters, its, orders, **manner) if len(its) else each_AN[:0, :0]
        curve.append(along.reshape(1 + len(one.random), len(counts[-1]), len(its)))
    more = [*every, *order_K[:, None]]
    measured = evaluate_ablations(filters, few, more, **manner) if len(few) else each_AN[:0, :0].reshape(len(more), 0)
    return ByClass(
        rows,
        each_AN,
        np.array([one.label for one in sets], dtype=int),
        measured[: len(every)].reshape(len(sets), len(rows), len(few)),
        intact[1],
        labels_M,
        measured[len(every) :],
        counts,
        curve,
    )


def _chunks(items: Sequence[np.ndarray], size: int) -> Iterator[Sequence[np.ndarray]]:
    return (items[start : start + size] for start in range(0, len(items), size)) if size else iter(())


def entries_by_class(
    measured: ByClass,
    sets: Sequence[ClassSets],
    labels_N: np.ndarray,
    intact_N: np.ndarray,
    classes: int,
) -> list[ClassEntry]:
    """Return the entries of a record: for each class that has filters, what each kind of set costs.

    Args:
        labels_N, intact_N: the labels of the images evaluated, and the predictions of the intact network for them.
        classes: the number of logits.
    """
    drops = drops_by_class({**measured.arrays(), "labels": labels_N, "intact": intact_N})
    entries = []
    for number, one in enumerate(sets):
        tips = _tips(measured, number, classes)
        for kind, some in one.sets.items():
            own_class, collateral, specificity = (drop and Estimate(*drop) for drop in drops[kind, one.label])
            ends = tips.get(kind, (None, None, None))
            entries.append(ClassEntry(kind, one.label, len(some[0]), own_class, collateral, specificity, *ends))
    return entries


def _tips(measured: ByClass, number: int, classes: int) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Estimate how many of its own filters, and how many random ones, a class survives: the point and its interval.

    It tips where its accuracy is midway between the intact one and 1 / the number of classes.
    """
    right_DPM = measured.curve[number] == measured.labels_C[number]
    counts_P = measured.counts[number].astype(float)
    if not right_DPM.size or len(counts_P) < 2:
        return {}
    random_PDM = right_DPM[1:].swapaxes(0, 1)
    curves = Curves(counts_P, counts_P, right_DPM[0, 0], right_DPM[0], random_PDM)
    points = {}
    for kind, curve in (("own", "selected"), ("random", "random")):
        point = tipping_point([curves], 1 / classes, np.random.default_rng(0), axis="filters", of=curve)
        ends = (max(point.at, 0.0), max(point.low, 0.0), point.high)
        points[kind] = tuple(None if np.isinf(end) else float(end) for end in ends)
    return points  # type: ignore[return-value]
