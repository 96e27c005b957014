"""The filters that are relevant to one class, and sets of as many others to compare them with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tipping.network import Filters
from tipping.selection.controls import Candidates, Draws, draw_control, draw_controls
from tipping.selection.relevance import Selection, by_filter, candidates_of, strongest_first

KINDS = {  # of sets of filters, for a class
    "own": "its own filters",
    "random": "as many random ones",
    "least_relevant": "as many of the same layers with the least weight for it",
    "others": "as many of the same layers, those with the most weight for another class first",
    "for": "its own filters with positive weight",
    "against": "its own filters with negative weight",
    "kept": "all but its own filters",
    "kept_random": "all but as many random ones",
}


@dataclass(frozen=True)
class ClassSets:
    """The sets of filters that are removed to see what a class relies on.

    Attributes:
        label: the class.
        order_K: its own filters that may be ablated: those with a weight for the class, the strongest first.
        random: random controls of these, each (K,).
        sets: by a name in `KINDS`, the sets of filters to remove: one, or of random ones one for each control.
    """

    label: int
    order_K: np.ndarray
    random: list[np.ndarray]
    sets: dict[str, list[np.ndarray]]


def strength_by_class(selection: Selection, filters: Filters) -> np.ndarray:
    """Return the relevance of each filter to each class, Σ |w_rc| over its responses r: (F, C)."""
    return by_filter(np.abs(selection.weights_RC), filters)


def class_sets(selection: Selection, filters: Filters, mu: float, draws: Draws) -> list[ClassSets]:
    """Return the sets of filters of each class that any filter has a weight for.

    A filter speaks for a class where the sum of its weights for it is positive, and against it where it is negative.
    Filters of other classes are taken by their largest relevance to another class, in each layer; where a layer has too
    few, then those that are relevant to no class, and own ones last.
    """
    strength_FC, sign_FC = strength_by_class(selection, filters), by_filter(selection.weights_RC, filters)
    candidates = candidates_of(selection, filters)
    labels = np.flatnonzero((strength_FC > 0).any(0)).tolist()
    return [_sets(label, strength_FC, sign_FC[:, label], candidates, mu, draws) for label in labels]


def _sets(
    label: int, strength_FC: np.ndarray, sign_F: np.ndarray, candidates: Candidates, mu: float, draws: Draws
) -> ClassSets:
    strength_F = strength_FC[:, label]
    order_K = strongest_first(strength_F, (strength_F > 0) & candidates.ablatable_F)
    others_F = np.delete(strength_FC, label, axis=1).max(1, initial=0.0)
    others_F[strength_F > 0] = -1  # the last choice
    everything = np.flatnonzero(candidates.ablatable_F)
    random = draw_controls(order_K, replace(candidates, strength_F=strength_F), mu, draws, label)

    def least(key_F: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng((draws.seed, label))
        return draw_control(order_K, replace(candidates, strength_F=key_F), rng, "least_relevant")

    return ClassSets(
        label,
        order_K,
        random,
        {
            "own": [order_K],
            "random": random,
            "least_relevant": [least(strength_F)],
            "others": [least(-others_F)],
            "for": [order_K[sign_F[order_K] > 0]],
            "against": [order_K[sign_F[order_K] < 0]],
            "kept": [np.setdiff1d(everything, order_K)],
            "kept_random": [np.setdiff1d(everything, control) for control in random],
        },
    )
