"""Compare selectors over networks: paired differences, with intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, spearmanr

from tipping.tipping_points import student

EXACT = 10**5  # ways to exchange two selectors on each network up to which all are counted; beyond, a sample


class Difference(NamedTuple):
    """The difference of a selector to another, over networks.

    Attributes:
        mean: the mean difference.
        low, high: its 95 % confidence interval by Student's t over networks; nan for a single network.
        p: the two-sided p-value of exchanging the two selectors on each network; nan for a single network.
        corrected: the p-value corrected for the number of selectors compared [holm1979].
    """

    mean: float
    low: float
    high: float
    p: float
    corrected: float = np.nan


def paired_difference(first_S: Sequence[float], second_S: Sequence[float]) -> Difference:
    """Compare a measure of two selectors on the same S networks.

    Raises:
        ValueError: the numbers of networks differ, or there is none.
    """
    difference_S = np.asarray(first_S, dtype=float) - np.asarray(second_S, dtype=float)
    if difference_S.ndim != 1 or not len(difference_S):
        raise ValueError("there must be as many networks of both, one at least")
    if len(difference_S) == 1:
        return Difference(float(difference_S[0]), np.nan, np.nan, np.nan)
    mean, low, high = student(difference_S)
    if np.ptp(difference_S) == 0 and mean == 0:
        return Difference(0.0, 0.0, 0.0, 1.0)
    exchanged = permutation_test(
        (difference_S,), np.mean, permutation_type="samples", n_resamples=EXACT, vectorized=True, rng=0
    )
    return Difference(mean, low, high, float(exchanged.pvalue))


def corrected(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Return differences with p-values corrected by Holm's step-down procedure [holm1979].

    The k-th smallest of m p-values is multiplied by m − k + 1, and is at least the one before. Differences without a
    p-value are not counted.
    """
    tested = sorted((one.p, name) for name, one in differences.items() if np.isfinite(one.p))
    adjusted, largest = {}, 0.0
    for number, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - number)))
        adjusted[name] = largest
    return {name: one._replace(corrected=adjusted.get(name, np.nan)) for name, one in differences.items()}


def rank_correlation(first_F: np.ndarray, second_F: np.ndarray) -> float:
    """Return Spearman's correlation of the scores of two selectors; nan where one scores all filters alike."""
    if np.ptp(first_F) == 0 or np.ptp(second_F) == 0:
        return float("nan")
    return float(spearmanr(first_F, second_F).statistic)


def shared(first_F: np.ndarray, second_F: np.ndarray, count: int) -> tuple[float, float]:
    """Return the share of the filters with the largest scores that two selectors have in common, and the share
    expected by chance.

    Where scores tie, each selector chooses among them at random, and the share is the one expected.

    Args:
        first_F, second_F: the scores of the same filters.
        count: the number of filters with the largest scores, over 0.
    """
    both = float((_among_first(first_F, count) * _among_first(second_F, count)).sum())
    return both / count, count / len(first_F)


def _among_first(score_F: np.ndarray, count: int) -> np.ndarray:
    """Return the probability that each filter is among the first by score, where ties are in random order: (F,)."""
    least = np.sort(score_F)[-count]
    above_F, tied_F = score_F > least, score_F == least
    among_F: np.ndarray = above_F + tied_F * (count - above_F.sum()) / tied_F.sum()
    return among_F
