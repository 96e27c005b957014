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
