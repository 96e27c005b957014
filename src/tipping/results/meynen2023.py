"""The accuracies of classes without their own filters beside the lab's on ImageNet [meynen2023].

For each of 1,000 classes its relevant filters were zeroed, and the accuracy on the validation images of this class was
measured. The numbers of the random control are of ten random filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment.record import InterpretRecord
from tipping.results.by_class import Classes

ONE_LAYER, ALL_MAPS = "last layer", "all maps"


class Published(NamedTuple):
    """A row of the published table: percentages, and the mean number of filters of a class."""

    intact: float
    without: float
    filters: float
    random: float


TABLE = {  # by network, and by whose filters were candidates
    ("vgg16", ONE_LAYER): Published(71.59, 50.53, 5.44, 71.39),
    ("vgg16", ALL_MAPS): Published(71.59, 48.71, 5.90, 71.39),
    ("resnet50", ONE_LAYER): Published(76.13, 69.74, 4.52, 76.08),
}
HEADS = ["network", "candidates", "classes", "", "intact %", "without own %", "filters a class", "without random %"]


def against_meynen2023(jobs: Sequence[tuple[InterpretRecord, Classes]]) -> list[list[str]]:
    """Put the means over classes of jobs with ``ablate=class`` beside the published ones: headings, and lines.

    A job of one layer is compared with the row of the last layer, another with that of all maps; networks are known by
    their names, `vgg16` and `resnet50`. The difference, ours minus theirs, is a line of its own. Our random filters are
    as many as the class's own, in the same layers.

    Raises:
        InputError: no job has ablated the filters of each class.
    """
    lines = [HEADS]
    for record, classes in jobs:
        if not record.by_class:
            continue
        name, candidates = record.model["name"], ONE_LAYER if len(record.filters.per_layer) == 1 else ALL_MAPS
        ours, theirs = over_classes(record, classes), TABLE.get((name, candidates))
        rows = {f"job {record.job}, mu = {record.mu:g}": ours}
        if theirs:
            rows |= {"published": theirs, "difference": Published(*np.subtract(ours, theirs).tolist())}
        start = [name, candidates, str(len(classes.rows))]
        lines += [[*start, kind, *(f"{value:.2f}" for value in row)] for kind, row in rows.items()]
    if len(lines) == 1:
        raise InputError("--against meynen2023: no job has ablated the filters of each class; give ablate=class")
    return lines


def over_classes(record: InterpretRecord, classes: Classes) -> Published:
    """Return the means over the classes that have images, as published; a class without filters loses nothing."""
    entries = {(entry.kind, entry.label): entry for entry in record.by_class}

    def mean_without(kind: str) -> float:
        drops = [(row["intact"], entries.get((kind, row["label"]))) for row in classes.rows]
        each = [intact - (entry.own_class.mean if entry and entry.own_class else 0.0) for intact, entry in drops]
        return 100 * float(np.mean(each))

    counts = [entry.filters if (entry := entries.get(("own", row["label"]))) else 0 for row in classes.rows]
    intact = 100 * float(np.mean([row["intact"] for row in classes.rows]))
    return Published(intact, mean_without("own"), float(np.mean(counts)), mean_without("random"))
