"""How much two selections overlap, beside chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tipping.selection.relevance import Selection

PERMUTATIONS = 1000


@dataclass(frozen=True)
class Overlap:
    """How alike two selections of one architecture are, beside what chance gives.

    Attributes:
        jaccard: filters relevant in both, as a share of those relevant in either; None without any.
        rank_correlation: Spearman's, of the relevance of all filters; None where one is the same for all.
        jaccard_by_chance, rank_correlation_by_chance: the range of 95 % of selections like the second one whose
            relevances are shuffled among the live filters of each layer.
    """

    jaccard: float | None
    jaccard_by_chance: tuple[float, float] | None
    rank_correlation: float | None
    rank_correlation_by_chance: tuple[float, float] | None


def overlap(first: Selection, second: Selection, layer_F: np.ndarray, rng: np.random.Generator) -> Overlap:
    """Measure the overlap of two selections."""
    from scipy.stats import rankdata  # here, as only a sanity check needs it

    relevant_F = first.relevant_F
    ranks_F = rankdata(first.strength_F)
    order_F = np.arange(len(layer_F))
    groups = [np.flatnonzero(second.live_F & (layer_F == layer)) for layer in np.unique(layer_F)]
    shuffled_SF = np.tile(order_F, (PERMUTATIONS + 1, 1))
    for group in groups:
        shuffled_SF[1:, group] = rng.permuted(np.tile(group, (PERMUTATIONS, 1)), axis=1)
    jaccards_S = _jaccard(relevant_F, second.relevant_F[shuffled_SF])
    correlations_S = _correlation(ranks_F, rankdata(second.strength_F)[shuffled_SF])
    jaccard, jaccard_by_chance = _first_and_range(jaccards_S)
    correlation, correlation_by_chance = _first_and_range(correlations_S)
    return Overlap(jaccard, jaccard_by_chance, correlation, correlation_by_chance)


def _jaccard(one_F: np.ndarray, others_SF: np.ndarray) -> np.ndarray:
    either_S = (one_F | others_SF).sum(1)
    shares_S: np.ndarray = np.divide(
        (one_F & others_SF).sum(1), either_S, out=np.full(len(either_S), np.nan), where=either_S > 0
    )
    return shares_S


def _correlation(one_F: np.ndarray, others_SF: np.ndarray) -> np.ndarray:
    one_F = one_F - one_F.mean()
    others_SF = others_SF - others_SF.mean(1, keepdims=True)
    scale_S = np.sqrt((one_F**2).sum() * (others_SF**2).sum(1))
    values_S: np.ndarray = np.divide(others_SF @ one_F, scale_S, out=np.full(len(scale_S), np.nan), where=scale_S > 0)
    return values_S


def _first_and_range(values_S: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """Return the first value, and the range of 95 % of the others; None where they are not defined."""
    if np.isnan(values_S).any():
        return None, None
    low, high = np.quantile(values_S[1:], (0.025, 0.975)).tolist()
    return float(values_S[0]), (low, high)
