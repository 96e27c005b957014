"""What the relevant filters of each class cost it, and the others, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tipping.ablation import evaluate_ablations
from tipping.errors import InputError, require
from tipping.experiment.by_class import entries_by_class, measure_by_class
from tipping.experiment.record_parts import ClassEntry
from tipping.notebook.loader import Batches, gathered
from tipping.notebook.measuring import require_draws
from tipping.notebook.results import RelevantFilters, require_kind
from tipping.notebook.showing import Row, Tabular, table_html
from tipping.results.by_class import Matrix, class_matrix, entry_row
from tipping.selection import LAYER_MATCHED, Draws, class_sets
from tipping.selectors import MU_LASSO

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True)
class AblatedClasses(Tabular):
    """What it costs to ablate the filters of each class by themselves, beside other filters.

    Attributes:
        entries: for each class that has filters, what each kind of set costs.
        matrix: what the filters of each class cost each class.
        classes: the names of the classes.
    """

    entries: list[ClassEntry]
    matrix: Matrix
    classes: Sequence[str]

    def rows(self) -> list[Row]:
        """List the drops of accuracy of each class and of the others, by kind of set, with their intervals."""
        return [entry_row(entry, self.classes) for entry in self.entries]

    def plot(self) -> alt.LayerChart:
        """Draw what the filters of each class cost each class."""
        from tipping.results.class_charts import matrix_chart

        removed, measured, drop_CC = self.matrix
        rows, columns = ([self.classes[label] for label in labels] for labels in (removed, measured))
        return matrix_chart(rows, columns, drop_CC)

    def __repr__(self) -> str:
        its = [one for one in self.entries if one.kind == "own" and one.own_class and one.collateral]
        if not its:
            return "no class that has filters has images"
        own_class, collateral = (
            100 * float(np.mean([getattr(one, name).mean for one in its])) for name in ("own_class", "collateral")
        )
        return (
            f"{len(its)} classes: without its own filters a class loses {own_class:.1f} points on average, "
            f"the others lose {collateral:.1f}"
        )

    def _repr_html_(self) -> str:
        rows = [row for row in self.rows() if row["kind"] == "own"]
        return f"<p>{self!r}</p>{table_html(rows)}"


def ablate_classes(relevant: RelevantFilters, batches: Batches, *, draws: Draws = LAYER_MATCHED) -> AblatedClasses:
    """Ablate the filters with a weight for each class by themselves, beside other filters.

    `tipping.selection.KINDS` says which; the drops and their intervals are those of `tipping.ablation.class_drops`.

    Args:
        relevant: the relevant filters of a network.
        batches: the images on which accuracy is measured, as in `drop_curve`; put together in memory.
        draws: the random sets of each class.

    Raises:
        InputError: draws are out of range; no filter is relevant, or another selector than the mu-lasso chose them;
            fewer than two classes have images; or the batches hold something else.
    """
    require_kind(relevant, RelevantFilters, "what tipping.relevant_filters returns")
    remedy = "the filters of a class are those with a weight for it; give those of the mu-lasso"
    require(relevant.selector == MU_LASSO, "selector", relevant.selector, remedy)
    require_draws(draws)
    if not len(relevant.order):
        raise InputError(f"mu={relevant.mu:g}: no filter is relevant; give a larger mu or other images")
    filters = relevant.filters
    images = gathered(batches, filters.given, filters.classes)
    labels_N = images.labels_N.cpu().numpy()
    if len(np.unique(labels_N)) < 2:
        raise InputError("batches: all images are of one class; give images of several")
    (intact_N,) = evaluate_ablations(filters, images, [np.array([], dtype=int)])
    sets = class_sets(relevant.selection, filters, relevant.mu, draws)
    measured = measure_by_class(filters, images, images, (intact_N, intact_N), sets, relevant.order, {})
    matrix = class_matrix(measured.arrays())
    assert matrix, "there are images"
    names = relevant.classes or [str(label) for label in range(filters.classes)]
    return AblatedClasses(entries_by_class(measured, sets, labels_N, intact_N, filters.classes), matrix, names)
