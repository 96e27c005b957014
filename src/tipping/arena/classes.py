"""The filters that a selector scores highest for each class by itself, and what removing them costs the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tipping.ablation import class_drops
from tipping.network import Filters
from tipping.selection import Selection, strength_by_class
from tipping.selectors import Scores, own_order, ties_of


class ByClass(NamedTuple):
    """The predictions of a network without the filters of one class after another.

    Attributes:
        labels_C: the classes.
        removed_CDN: the predicted classes without D sets of filters of each class.
    """

    labels_C: np.ndarray
    removed_CDN: np.ndarray

    def mean_drops(self, intact_N: np.ndarray, labels_N: np.ndarray) -> tuple[float, float] | None:
        """Return the own-class and the collateral drop of accuracy, means over the classes that have both; None where
        no class has.

        Args:
            intact_N: the predictions of the intact network.
        """
        right_N = (intact_N == labels_N).astype(int)
        drops = [
            class_drops(label, labels_N, drop_DN, labels_N, drop_DN)
            for label, drop_DN in zip(self.labels_C.tolist(), right_N - (self.removed_CDN == labels_N), strict=True)
        ]
        each = [(one.own_class.mean, one.collateral.mean) for one in drops if one.own_class and one.collateral]
        if not each:
            return None
        own_class, collateral = np.mean(each, axis=0).tolist()
        return own_class, collateral


def counts_by_class(selection: Selection, filters: Filters) -> dict[int, int]:
    """Count the filters that may be ablated and have a weight for each class; classes without any are left out."""
    count_C = (strength_by_class(selection, filters)[filters.ablatable_F] > 0).sum(0)
    return {label: int(count_C[label]) for label in np.flatnonzero(count_C).tolist()}


def sets_by_class(
    scores: Scores | None, counts: Mapping[int, int], ablatable_F: np.ndarray, draws: int, seed: int
) -> list[list[np.ndarray]] | None:
    """Return for each class as many filters as counted: those that a selector scores highest for it, or random ones.

    Args:
        scores: the scores by class; None for random sets, of which there are several.
        counts: the number of filters by class.
        draws: the number of random sets.

    Returns:
        the sets of each class; None where the selector does not tell classes apart.
    """
    if scores is None:
        rng, everything = np.random.default_rng((seed, 6)), np.flatnonzero(ablatable_F)
        return [[rng.permutation(everything)[:count] for _ in range(draws)] for count in counts.values()]
    if scores.values.ndim == 1:
        return None
    return [[own_order(scores.values[:, label], ablatable_F, ties_of(seed))[:count]] for label, count in counts.items()]
