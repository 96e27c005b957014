"""Do pictures depend on what a network has learned? Its signals beside those of the same network, randomised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tipping.network import Filters
from tipping.selection import Selection
from tipping.visualize.gallery import filter_names, filters_of, strongest_of_each_class
from tipping.visualize.rules import RULES
from tipping.visualize.signals import Backward


@dataclass(frozen=True)
class Beside:
    """The same filters and images in two networks.

    Attributes:
        names: of B filters: each class's strongest in the first network.
        images_BCHW: the image that each responds to most there.
        first, second: by each rule, the signals (B, C, H, W) of the two networks.
        similarity: of each rule, the mean rank correlation of the size of the signals at all pixels [adebayo2018];
            None where no filter sends any.
    """

    names: list[str]
    images_BCHW: np.ndarray
    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    similarity: dict[str, float | None]


def beside(
    first: Filters, selection: Selection, second: Filters, images_NCHW: Tensor, strongest_R: Tensor, backward: Backward
) -> Beside:
    """Signals of a network's relevant filters, beside those of the same filters of another of its architecture.

    Args:
        images_NCHW: those shown are among them.
        strongest_R: for each response of the first network, the position of the image where it is largest.
    """
    responses = list(dict.fromkeys(response for _, response in strongest_of_each_class(selection.weights_RC, 1)))
    filters, all_names = filters_of(first, responses), filter_names(first)
    images_BCHW = images_NCHW[strongest_R[responses]]
    signals: list[dict[str, np.ndarray]] = []
    for network in (first, second) if filters else ():
        sights = {rule: backward.look(network.model, images_BCHW, filters, rule) for rule in RULES}
        signals.append({rule: sight.signals_BCHW.cpu().numpy() for rule, sight in sights.items()})
    return Beside(
        names=[all_names[response] for response in responses],
        images_BCHW=images_BCHW.cpu().numpy(),
        first=signals[0] if signals else {},
        second=signals[1] if signals else {},
        similarity={rule: similarity(signals[0][rule], signals[1][rule]) if signals else None for rule in RULES},
    )


def similarity(first_BCHW: np.ndarray, second_BCHW: np.ndarray) -> float | None:
    """Spearman's correlation of the sizes Σ_c |s_c| of two signals at all pixels, the mean over images.

    Images where one of them is the same all over are left out; None if all are.
    """
    from scipy.stats import rankdata  # here, as only a sanity check needs it

    sizes = [np.abs(signals).sum(1).reshape(len(signals), -1) for signals in (first_BCHW, second_BCHW)]
    found = [
        np.corrcoef(rankdata(one), rankdata(other))[0, 1]
        for one, other in zip(*sizes, strict=True)
        if np.ptp(one) > 0 and np.ptp(other) > 0
    ]
    return float(np.mean(found)) if found else None
