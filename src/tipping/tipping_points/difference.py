"""Compare the tipping points of two groups of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, t, ttest_ind

EXACT = 10**5  # ways to divide networks into two groups up to which all are counted; beyond, a sample


class Comparison(NamedTuple):
    """The comparison of the means of two groups of networks.

    Attributes:
        difference: the mean of the first group minus the mean of the second.
        low, high: the 95 % confidence interval of the difference [welch1947].
        p: the two-sided p-value of the permutation test: twice the smaller of the shares of divisions into two groups
            whose difference is at least as large, or at least as small.
    """

    difference: float
    low: float
    high: float
    p: float


def student(values_S: np.ndarray) -> tuple[float, float, float]:
    """Return the mean, and the low and high end of its 95 % confidence interval by Student's t.

    Args:
        values_S: at least two values.
    """
    at = float(values_S.mean())
    reach = float(t.ppf(0.975, len(values_S) - 1) * values_S.std(ddof=1) / np.sqrt(len(values_S)))
    return at, at - reach, at + reach


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare the mean tipping points of two groups of networks.

    Args:
        first, second: the tipping point of each network of the group.

    Raises:
        ValueError: a group has fewer than two networks, or a tipping point is censored.
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
