"""Orders in which filters are removed: those of a selector's scores, over all layers or layer by layer."""

from __future__ import annotations

import numpy as np


def within_layers(score_F: np.ndarray, layer_F: np.ndarray) -> np.ndarray:
    """Return scores divided by the L2 norm of the scores in their layer: (F,) [molchanov2017].

    The scores of a layer where all are 0 stay 0.
    """
    norm_L = np.sqrt(np.bincount(layer_F, weights=score_F**2))
    scaled_F: np.ndarray = score_F / np.where(norm_L > 0, norm_L, 1)[layer_F]
    return scaled_F


def layer_matched_order(order_A: np.ndarray, reference_K: np.ndarray, layer_F: np.ndarray) -> np.ndarray:
    """Return an order with as many filters of each layer as a reference, among the first k of both for every k: (K,).

    Each place of the reference is taken by the next filter of the same layer in a selector's own order.

    Args:
        order_A: all filters that may be ablated, in the selector's own order.
        reference_K: the order to match.
        layer_F: the layer of each filter.
    """
    matched_K = np.empty_like(reference_K)
    for layer in np.unique(layer_F[reference_K]):
        places = np.flatnonzero(layer_F[reference_K] == layer)
        matched_K[places] = order_A[layer_F[order_A] == layer][: len(places)]
    return matched_K


def counts_along(total: int, *others: int) -> list[int]:
    """Return the numbers of filters at which a curve is measured: 0, the powers of √2 up to the total, and others."""
    powers = range(int(2 * np.log2(total)) + 1 if total else 0)
    return sorted({0, total, *others, *(round(2 ** (power / 2)) for power in powers)})
