"""The scores of filters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """The scores of filters by a selector.

    Attributes:
        values: the scores, larger for what is to be removed first: (F,), or (F, C) by class.
        error_F: the standard error of each score, where the selector samples.
    """

    values: np.ndarray
    error_F: np.ndarray | None = None

    @property
    def overall_F(self) -> np.ndarray:
        """The score of each filter: the sum over classes."""
        return self.values if self.values.ndim == 1 else self.values.sum(1)


def own_order(score_F: np.ndarray, ablatable_F: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of all filters that may be ablated, by falling score; ties in random order: (A,)."""
    order_F = np.lexsort((rng.random(len(score_F)), -score_F))
    return order_F[ablatable_F[order_F]]


def ties_of(seed: int) -> np.random.Generator:
    """Return the generator that breaks ties between scores: alike for all selectors, in the arena and in jobs."""
    return np.random.default_rng((seed, 3))
