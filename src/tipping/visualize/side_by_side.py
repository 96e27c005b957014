"""A check whether pictures depend on what a network has learned: its signals beside those of a randomised copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tipping.data import Split
from tipping.network import Filters
from tipping.selection import Selection
from tipping.visualize.gallery import filter_names, filters_of, strongest_of_each_class
from tipping.visualize.rules import RULES
from tipping.visualize.signals import Backward


@dataclass(frozen=True)
class Beside:
    """The signals of the same filters to the same images in two networks.

    Attributes:
        names: the names of B filters: the strongest of each class that is drawn in the first network.
        images_BCHW: for each filter, the image to which it responds most in the first network, before it was
            normalised.
        first, second: by rule, the signals (B, C, H, W) of the two networks.
        similarity: by rule, the mean rank correlation of the sizes of the two signals at all pixels [adebayo2018];
            None where it is not defined.
    """

    names: list[str]
    images_BCHW: np.ndarray
    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    similarity: dict[str, float | None]


def beside(
    first: Filters, selection: Selection, second: Filters, images: Split, strongest_R: Tensor, backward: Backward
) -> Beside:
    """Compare the signals of a network's relevant filters with those of the same filters in another network.

    Args:
        first: the filters of the network.
        selection: the relevant filters of this network.
        second: the filters of the other network, of the same architecture.
        images: images, of which some are shown.
        strongest_R: for each response of the first network, the position of the image where it is largest.
        backward: how signals are sent back; all rules are used in place of its own.
    """
    responses = list(dict.fromkeys(response for _, response in strongest_of_each_class(selection.weights_RC, 1)))
    filters, all_names = filters_of(first, responses), filter_names(first)
    images_BCHW = images[strongest_R[responses]].images_NCHW
    signals: list[dict[str, np.ndarray]] = []
    for network in (first, second) if filters else ():
        sights = {rule: backward.look(network.model, images_BCHW, filters, rule) for rule in RULES}
        signals.append({rule: sight.signals_BCHW.cpu().numpy() for rule, sight in sights.items()})
    return Beside(
        names=[all_names[response] for response in responses],
        images_BCHW=images.unnormalised(images_BCHW).cpu().numpy(),
        first=signals[0] if signals else {},
        second=signals[1] if signals else {},
        similarity={rule: similarity(signals[0][rule], signals[1][rule]) if signals else None for rule in RULES},
    )


def similarity(first_BCHW: np.ndarray, second_BCHW: np.ndarray) -> float | None:
    """Compute Spearman's correlation of the sizes Σ_c |s_c| of two signals at all pixels, the mean over images.

    Images where one of the sizes is constant are left out. The correlation is None if no image remains.
    """
    from scipy.stats import rankdata  # imported here because only a sanity check needs it

    sizes = [np.abs(signals).sum(1).reshape(len(signals), -1) for signals in (first_BCHW, second_BCHW)]
    correlations = [
        np.corrcoef(rankdata(one), rankdata(other))[0, 1]
        for one, other in zip(*sizes, strict=True)
        if np.ptp(one) > 0 and np.ptp(other) > 0
    ]
    return float(np.mean(correlations)) if correlations else None
