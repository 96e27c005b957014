"""Checks of what a job's files hold of the filters of each class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tipping.ablation import class_drops
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
    labels_N, labels_M, rows_A = held["labels"], held["class_others_labels"], held["class_rows"]
    drop_AN = (held["intact"] == labels_N).astype(int) - (held["class_own"] == labels_N)
    intact_M, numbers = held["class_others_intact"] == labels_M, held["class_labels"].tolist()
    for entry in record.by_class:
        drop_AM = intact_M.astype(int) - (held["class_others"][numbers.index(entry.label)] == labels_M)
        chosen_A = rows_A == entry.kind
        drops = class_drops(entry.label, labels_N, drop_AN[chosen_A], labels_M, drop_AM[chosen_A])
        for recorded, drop in zip((entry.own_class, entry.collateral, entry.specificity), drops, strict=True):
            same = (recorded is None) == (drop is None)
            if not same or (recorded and drop and not abs(recorded.mean - drop.mean) <= ROUNDING):
                raise ValueError("by_class is not that of the job's arrays")
