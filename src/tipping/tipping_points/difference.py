"""Two groups of networks, compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, t, ttest_ind

EXACT = 10**5  # ways to deal networks to two groups that are counted one by one


class Comparison(NamedTuple):
    """The difference of the means of two groups, its 95 % interval [welch1947], and p: twice the share of all ways to
    deal the networks to the groups that make it as large, to its side."""

    difference: float
    low: float
    high: float
    p: float


def student(values_S: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of two values at least, and its 95 % interval by Student's t."""
    at = float(values_S.mean())
    reach = float(t.ppf(0.975, len(values_S) - 1) * values_S.std(ddof=1) / np.sqrt(len(values_S)))
    return at, at - reach, at + reach


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Two groups of networks by their tipping points.

    Raises:
        ValueError: a group has fewer than two networks, or one is censored.
    """
    for group in (first, second):
        if len(group) < 2 or not np.isfinite(group).all():
            raise ValueError(f"each group must have two tipping points at least, and none censored, got {list(group)}")
    welch = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    dealt = permutation_test((first, second), _difference, n_resamples=EXACT, vectorized=True, rng=0)
    return Comparison(float(dealt.statistic), float(welch.low), float(welch.high), float(dealt.pvalue))


def _difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    difference: np.ndarray = np.mean(first, axis) - np.mean(second, axis)
    return difference
