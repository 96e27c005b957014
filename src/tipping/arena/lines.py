"""Accuracy and loss along an order of filters, where the first are removed, and where only the first are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tipping.ablation import evaluate_losses
from tipping.data import Split
from tipping.network import Filters
from tipping.tipping_points import Curves, TippingPoint, area, tipping_point


@dataclass(frozen=True)
class Lines:
    """The measurements along D orders of filters at P counts, on N images.

    Attributes:
        counts_P: the numbers of filters, rising from 0.
        removed_DPN: the predicted classes where the first filters of the order are removed.
        kept_DPN: the predicted classes where all filters but the first are removed.
        removed_loss_DP, kept_loss_DP: the mean cross-entropy there, in nats.
    """

    counts_P: np.ndarray
    removed_DPN: np.ndarray
    kept_DPN: np.ndarray
    removed_loss_DP: np.ndarray
    kept_loss_DP: np.ndarray

    def accuracies(self, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the accuracies, in [0, 1], where filters are removed, and where they are kept: each (D, P)."""
        return (self.removed_DPN == labels_N).mean(2), (self.kept_DPN == labels_N).mean(2)

    def tipping_point(self, labels_N: np.ndarray, chance: float) -> TippingPoint:
        """Estimate how many filters have to be removed until accuracy is midway between intact and chance.

        The 95 % interval is a bootstrap of images, and of the orders where there are several.
        """
        right_DPN = self.removed_DPN == labels_N
        counts_P = self.counts_P.astype(float)
        curves = Curves(counts_P, counts_P, right_DPN[0, 0], right_DPN[0], right_DPN.swapaxes(0, 1))
        of = "selected" if len(right_DPN) == 1 else "random"
        return tipping_point([curves], chance, np.random.default_rng(0), axis="filters", of=of)


def measure_lines(
    filters: Filters,
    images: Split,
    orders: Sequence[np.ndarray],
    counts: Sequence[int],
    *,
    value: Tensor | None = None,
    scope: str = "filter",
) -> Lines:
    """Measure predictions and losses along orders of filters.

    Args:
        orders: D orders of filters that may be ablated, each of max(counts) positions at least.
        counts: P numbers of filters, rising from 0.
        value, scope: as in `ablated`.
    """
    everything = np.flatnonzero(filters.ablatable_F)
    removed = [order[:count] for order in orders for count in counts]
    kept = [np.setdiff1d(everything, first) for first in removed]
    measured = evaluate_losses(filters, images, [*removed, *kept], value=value, scope=scope)
    shape = (2, len(orders), len(counts))
    removed_DPN, kept_DPN = measured.predictions_AN.reshape(*shape, len(images))
    removed_loss_DP, kept_loss_DP = measured.losses_AN.mean(1, dtype=float).reshape(shape)
    return Lines(np.array(counts), removed_DPN, kept_DPN, removed_loss_DP, kept_loss_DP)


def mean_along(counts_P: Sequence[int], accuracy_DP: Sequence[Sequence[float]]) -> float:
    """Return the area under the mean of D curves divided by its width: the mean accuracy along the order."""
    return area(np.array(counts_P), np.mean(accuracy_DP, axis=0))
