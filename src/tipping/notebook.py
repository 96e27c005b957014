"""What a notebook needs: relevant filters of any network and loader, what is left without them, and where it tips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from tipping.ablation import DropCurve, chance_of
from tipping.ablation import drop_curve as measured_curve
from tipping.data import Split
from tipping.errors import InputError
from tipping.mu_lasso import MuLassoProblem, Solution, homotopy
from tipping.network import Filters
from tipping.selection import LAYER_MATCHED, Draws, Selection, collect, select_each
from tipping.tipping_points import Curves, TippingPoint, tipping_point

if TYPE_CHECKING:
    import altair as alt

Batches = Iterable[tuple[Tensor, Tensor]]
SHOWN = 20  # rows of a table in a notebook


@dataclass(frozen=True)
class RelevantFilters:
    """The relevant filters of a network at one mu.

    Attributes:
        filters: all of the network's.
        mu: the L1 radius of the mu-lasso of each class.
        selection: its weights W, certificate and controls.
    """

    filters: Filters
    mu: float
    selection: Selection

    @property
    def order(self) -> np.ndarray:
        """Positions of the relevant filters, strongest first: (K,)."""
        return self.selection.order_K

    @property
    def certified(self) -> bool:
        """Whether the objective of every class is within the tolerance of its minimum."""
        return bool(self.selection.solution.certified_MC.all())

    def rows(self) -> list[dict[str, Any]]:
        """Rank the relevant filters: a row for each, with its layer, channel, strength Σ_c |w_fc| and weight by class;
        a filter that is measured at several places has the sum of its weights."""
        layers, layer_F, channel_F = self.filters.index
        weights_FC = np.zeros((len(layer_F), self.selection.weights_RC.shape[1]))
        np.add.at(weights_FC, self.filters.filter_R, self.selection.weights_RC)
        return [
            {
                "layer": layers[layer_F[f]],
                "channel": int(channel_F[f]),
                "strength": float(self.selection.strength_F[f]),
                **{f"class {c}": float(weight) for c, weight in enumerate(weights_FC[f])},
            }
            for f in self.order.tolist()
        ]

    def table(self) -> Any:
        """Rank the relevant filters, as a pandas frame where pandas is installed, otherwise as `rows`."""
        try:
            import pandas
        except ImportError:
            return self.rows()
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        certificate = "certified" if self.certified else "NOT certified"
        return (
            f"{len(self.order)} of {len(self.filters.index.layer_F)} filters relevant at mu={self.mu:g} ({certificate})"
        )

    def _repr_html_(self) -> str:
        rows = self.rows()
        return f"<p>{self!r}</p>{_html(rows[:SHOWN])}" + (f"<p>… {len(rows) - SHOWN} more</p>" if rows[SHOWN:] else "")


@dataclass(frozen=True)
class Curve:
    """Accuracy against the number of filters ablated: the relevant ones, strongest first, beside random controls.

    Attributes:
        measured: counts and accuracies.
        chance: the accuracy of giving every image the most frequent class.
        labels_N: of the images.
    """

    measured: DropCurve
    chance: float
    labels_N: np.ndarray

    def tipping_point(self, of: str = "selected") -> TippingPoint:
        """Find how many filters leave accuracy midway between intact and chance, with a 95 % interval by a bootstrap of
        images and controls; infinite where the curve does not fall so far.

        Args:
            of: `selected` filters, or `random` ones.
        """
        right_OPN = self.measured.predictions_OPN == self.labels_N
        removed_P = np.array(self.measured.removed[1:], dtype=float)
        random_PDN = right_OPN[2:, 1:].swapaxes(0, 1)
        curves = Curves(removed_P, removed_P, right_OPN[0, 0], right_OPN[0, 1:], random_PDN)
        return tipping_point([curves], self.chance, np.random.default_rng(0), axis="filters", of=of)

    def rows(self) -> list[dict[str, Any]]:
        """List the points: filters removed, and accuracy without the selected and without random ones, the mean."""
        random_P = np.mean(self.measured.random, axis=0)
        points = zip(self.measured.removed, self.measured.selected, random_P.tolist(), strict=True)
        return [{"removed": removed, "selected": selected, "random": random} for removed, selected, random in points]

    def plot(self) -> alt.LayerChart:
        """Draw both, as an altair chart: the band spans the controls."""
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
        return f"<p>{self!r}</p>{_html(self.rows())}"


@overload
def relevant_filters(
    network: Filters | nn.Module, batches: Batches, mu: float = 100, *, draws: Draws = LAYER_MATCHED
) -> RelevantFilters: ...
@overload
def relevant_filters(
    network: Filters | nn.Module, batches: Batches, mu: Sequence[float], *, draws: Draws = LAYER_MATCHED
) -> list[RelevantFilters]: ...
def relevant_filters(
    network: Filters | nn.Module,
    batches: Batches,
    mu: float | Sequence[float] = 100,
    *,
    draws: Draws = LAYER_MATCHED,
) -> RelevantFilters | list[RelevantFilters]:
    """Find the relevant filters of a network by the mu-lasso [oramas2019]: those with a weight for some class.

    For each class c, min ½‖X w − l_c‖² subject to ‖w‖₁ ≤ mu, with the responses X (N, R) of the filters to the images
    and one-hot labels l_c, by the exact path in mu.

    Args:
        network: its filters, or a model, whose filters are then found by watching the first image.
        batches: any iterable of images (N, C, H, W) and integer labels (N,), such as a DataLoader of the training
            images; they are moved to the model's device.
        mu: one value, or several: a list is then returned, for which the path is followed once.
        draws: of the random controls that `drop_curve` compares with.

    Raises:
        InputError: the network has no filters, or the batches hold something else.
    """
    model = network.model if isinstance(network, Filters) else network
    split = gathered(batches, model)
    filters = network if isinstance(network, Filters) else Filters.of(model, split.images_NCHW[:1])
    if not 0 <= int(split.labels_N.min()) <= int(split.labels_N.max()) < filters.classes:
        raise InputError(f"batches: labels must go from 0 to {filters.classes - 1}, one for each logit of the network")
    several = [float(value) for value in (mu if isinstance(mu, Iterable) else [mu])]
    if not several or not all(0 < value < np.inf for value in several):
        raise InputError(f"mu={mu}: give finite numbers over 0")
    try:
        found = select_each(collect(filters, split), filters, several, solver=_exactly, draws=draws)
    except ArithmeticError as error:
        raise InputError(str(error)) from error
    each = [RelevantFilters(filters, value, one) for value, one in zip(several, found, strict=True)]
    return each if isinstance(mu, Iterable) else each[0]


def _exactly(problem: MuLassoProblem, mu: Sequence[float]) -> Solution:
    return homotopy(problem, largest_mu=max(mu)).solution(mu)


def drop_curve(relevant: RelevantFilters, batches: Batches, points: int = 8) -> Curve:
    """Measure accuracy as the relevant filters go, strongest first, beside as many random ones of the same layers.

    Args:
        batches: of the test images, as in `relevant_filters`.
        points: at so many counts, evenly spaced.
    """
    split = gathered(batches, relevant.filters.model)
    order_K, controls = relevant.order, relevant.selection.controls
    measured = measured_curve(relevant.filters, split, order_K, controls, points)
    return Curve(measured, chance_of(split), split.labels_N.cpu().numpy())


def gathered(batches: Batches, model: nn.Module) -> Split:
    """Put the batches of a loader together, on a model's device.

    Raises:
        InputError: there are none, or one is no pair of images and integer labels.
    """
    device = next(model.parameters()).device
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for number, batch in enumerate(batches):
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        if not pair or batch[0].ndim != 4 or batch[1].shape != batch[0].shape[:1] or batch[1].is_floating_point():
            raise InputError(f"batch {number}: give pairs of images (N, C, H, W) and whole labels (N,)")
        if images and batch[0].shape[1:] != images[0].shape[1:]:
            raise InputError(f"batch {number}: its images are of another size than those before; resize them")
        images.append(batch[0].to(device))
        labels.append(batch[1].to(device).long())
    if not images:
        raise InputError("batches: there are none; give a DataLoader, or a list of (images, labels)")
    return Split(torch.cat(images), torch.cat(labels))


def _html(rows: Sequence[dict[str, Any]]) -> str:
    """Render a table in HTML; the names of layers may hold anything."""
    from markupsafe import escape

    def cell(value: Any) -> str:
        return str(escape(f"{value:.3g}" if isinstance(value, float) else value))

    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
