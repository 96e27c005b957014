"""Checks of what a job's files hold of the filters of each class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tipping.ablation import ClassDrops, class_drops
from tipping.experiment.record import InterpretRecord

ROUNDING = 1e-9  # how far a drop may be from the one recomputed


def check_classes(record: InterpretRecord, held: Mapping[str, np.ndarray]) -> None:
    """Recompute the drops of a record's classes from the job's predictions.

    Raises:
        ValueError: a drop is another.
        LookupError: an array is missing.
    """
    if not record.by_class:
        return
    drops = drops_by_class(held)
    for entry in record.by_class:
        recorded = (entry.own_class, entry.collateral, entry.specificity)
        for one, drop in zip(recorded, drops[entry.kind, entry.label], strict=True):
            same = (one is None) == (drop is None)
            if not same or (one and drop and not abs(one.mean - drop.mean) <= ROUNDING):
                raise ValueError("by_class is not that of the job's arrays")


def drops_by_class(held: Mapping[str, np.ndarray]) -> dict[tuple[str, int], ClassDrops]:
    """Return what each kind of set costs each class that has filters, by kind and class.

    Args:
        held: a job's ``predictions.npz`` with the arrays of `ByClass`.
    """
    labels_N, labels_M, rows_A = held["labels"], held["class_others_labels"], held["class_rows"]
    drop_AN = (held["intact"] == labels_N).astype(int) - (held["class_own"] == labels_N)
    right_M = (held["class_others_intact"] == labels_M).astype(int)
    drops = {}
    for label, other_AM in zip(held["class_labels"].tolist(), held["class_others"], strict=True):
        drop_AM = right_M - (other_AM == labels_M)
        for kind in dict.fromkeys(rows_A.tolist()):
            chosen_A = rows_A == kind
            drops[kind, label] = class_drops(label, labels_N, drop_AN[chosen_A], labels_M, drop_AM[chosen_A])
    return drops
