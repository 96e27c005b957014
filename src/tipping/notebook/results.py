"""The results of a notebook, as objects that show themselves: relevant filters, curves, tipping points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tipping.ablation import DropCurve
from tipping.errors import InputError, require
from tipping.network import Filters
from tipping.notebook.showing import Row, Tabular, table_html
from tipping.selection import Selection, ranked_filters
from tipping.selectors import MU_LASSO
from tipping.tipping_points import Curves, TippingPoint, tipping_point

if TYPE_CHECKING:
    import altair as alt

SHOWN = 20  # rows of a table that a notebook shows


def require_kind(value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Check that a value is of a kind.

    Raises:
        InputError: the value is of another kind; the message says to give `remedy`.
    """
    if not isinstance(value, kind):
        raise InputError(f"something of type {type(value).__name__}: give {remedy}")


@dataclass(frozen=True)
class RelevantFilters(Tabular):
    """The relevant filters of a network at one mu.

    Attributes:
        filters: all filters of the network.
        mu: the L1 radius of the mu-lasso of each class.
        selection: the selection, with its weights W, its certificate and its controls.
        classes: the names of the classes; None where they are not known.
        selector: what has chosen the filters.
    """

    filters: Filters
    mu: float
    selection: Selection
    classes: Sequence[str] | None = None
    selector: str = MU_LASSO

    @property
    def order(self) -> np.ndarray:
        """The positions of the relevant filters, strongest first: (K,)."""
        return self.selection.order_K

    @property
    def certified(self) -> bool:
        """Whether the objective of every class is within the tolerance of its minimum."""
        return bool(self.selection.solution.certified_MC.all())

    def rows(self) -> list[Row]:
        """Rank the relevant filters: a row for each with its layer, channel, strength Σ_c |w_fc| and weight by class.

        The weights of a filter that is measured at several places are added up.
        """
        weights_RC, strength_F = self.selection.weights_RC, self.selection.strength_F
        names = self.classes or [str(label) for label in range(weights_RC.shape[1])]
        places = [place[:2] for place in self.filters.places]
        return ranked_filters(places, weights_RC, self.order, names, strength_F=strength_F)

    def plot(self) -> alt.Chart:
        """Draw the strength of the strongest filters, as an altair chart."""
        from tipping.results import charts

        return charts.strengths(self.rows()[:SHOWN])

    def __repr__(self) -> str:
        certificate = "certified" if self.certified else "NOT certified"
        filters = f"{len(self.order)} of {len(self.filters.index.layer_F)} filters"
        if self.selector == MU_LASSO:
            return f"{filters} relevant at mu={self.mu:g} ({certificate})"
        return f"{filters} chosen by {self.selector}, as many as are relevant at mu={self.mu:g} ({certificate})"

    def _repr_html_(self) -> str:
        rows = self.rows()
        return f"<p>{self!r}</p>{table_html(rows[:SHOWN])}" + (
            f"<p>… {len(rows) - SHOWN} more</p>" if rows[SHOWN:] else ""
        )


@dataclass(frozen=True)
class Curve(Tabular):
    """The accuracy-drop curve of relevant filters, ablated strongest first, beside that of random controls.

    Attributes:
        measured: the numbers of filters ablated, and the accuracies.
        chance: the accuracy of giving every image the most frequent class.
        labels_N: the labels of the images.
    """

    measured: DropCurve
    chance: float
    labels_N: np.ndarray

    def tipping_point(self, of: str = "selected") -> TippingPoint:
        """Estimate how many filters have to be removed until accuracy is midway between intact and chance.

        The 95 % interval is a bootstrap of images and controls. The tipping point is infinite where the curve does not
        fall so far.

        Args:
            of: the filters that are removed, `selected` or `random`.

        Raises:
            InputError: no filter is relevant, so none is removed along the curve; or `of` is something else.
        """
        require(of in ("selected", "random"), "of", of, "give selected or random")
        if len(self.measured.removed) < 2:
            raise InputError("curve: no filter is relevant, so none is removed; give a larger mu or other images")
        right_OPN = self.measured.predictions_OPN == self.labels_N
        removed_P = np.array(self.measured.removed, dtype=float)  # from 0, where nothing is removed
        curves = Curves(removed_P, removed_P, right_OPN[0, 0], right_OPN[0], right_OPN[2:].swapaxes(0, 1))
        return tipping_point([curves], self.chance, np.random.default_rng(0), axis="filters", of=of)

    def rows(self) -> list[Row]:
        """List the points: filters removed, accuracy without the selected ones, mean accuracy without random ones."""
        random_P = np.mean(self.measured.random, axis=0)
        points = zip(self.measured.removed, self.measured.selected, random_P.tolist(), strict=True)
        return [{"removed": removed, "selected": selected, "random": random} for removed, selected, random in points]

    def plot(self) -> alt.LayerChart:
        """Draw both curves as an altair chart, whose band spans the controls."""
        from tipping.results import charts

        removed = np.array(self.measured.removed)
        kinds = {charts.RELEVANT: [self.measured.selected], charts.RANDOM: self.measured.random}
        lines = {kind: [(removed, np.array(line)) for line in some] for kind, some in kinds.items()}
        return charts.drop(lines, "filters")

    def __repr__(self) -> str:
        last = self.rows()[-1]
        return (
            f"accuracy {100 * self.measured.selected[0]:.1f} % intact, {100 * last['selected']:.1f} % without "
            f"{last['removed']} relevant filters, {100 * last['random']:.1f} % without as many random ones"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{table_html(self.rows())}"


@dataclass(frozen=True)
class Tipping(Tabular):
    """The number of filters removed at which accuracy tips: midway between intact and chance.

    Attributes:
        selected: the tipping point as the relevant filters are removed, strongest first.
        random: the tipping point as random filters are removed.
        ablated: the largest number of filters removed.
    """

    selected: TippingPoint
    random: TippingPoint
    ablated: int

    def rows(self) -> list[Row]:
        """List both tipping points with the ends of their 95 % intervals; infinite where accuracy does not tip."""
        points = {"relevant": self.selected, "random": self.random}
        return [{"filters": kind, "tips_at": one.at, "low": one.low, "high": one.high} for kind, one in points.items()]

    def __repr__(self) -> str:
        return f"{self._words('relevant', self.selected)}; {self._words('random', self.random)}"

    def _words(self, kind: str, point: TippingPoint) -> str:
        if point.at == -np.inf:
            return f"{kind} filters: the intact network is no better than chance"
        if not np.isfinite(point.at):
            return f"{kind} filters: does not tip, even without {self.ablated}"
        interval = f"95 % interval {point.low:.1f} to {point.high:.1f}"
        return f"{kind} filters: tips at {point.at:.1f} of {self.ablated} removed ({interval})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{table_html(self.rows())}"
