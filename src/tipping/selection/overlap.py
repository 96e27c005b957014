"""The overlap of two selections, beside the overlap expected by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tipping.selection.relevance import Selection

PERMUTATIONS = 1000


@dataclass(frozen=True)
class Overlap:
    """The overlap of two selections of one architecture, and the overlap expected by chance.

    Attributes:
        jaccard: the share of filters relevant in both selections among those relevant in either; None where no filter
            is relevant.
        rank_correlation: Spearman's correlation of the relevance of all filters; None where a selection gives all
            filters the same relevance.
        jaccard_by_chance, rank_correlation_by_chance: the central 95 % range over permutations of the second selection,
            which shuffle relevance among the live filters of each layer.
    """

    jaccard: float | None
    jaccard_by_chance: tuple[float, float] | None
    rank_correlation: float | None
    rank_correlation_by_chance: tuple[float, float] | None


def overlap(first: Selection, second: Selection, layer_F: np.ndarray, rng: np.random.Generator) -> Overlap:
    """Measure the overlap of two selections, and of the first with permutations of the second.

    Args:
        layer_F: the layer of each filter.
        rng: the generator of the permutations.
    """
    from scipy.stats import rankdata  # here: only sanity checks need it

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
    """Return the first value, and the central 95 % range of all other values; None for both where a value is nan."""
    if np.isnan(values_S).any():
        return None, None
    low, high = np.quantile(values_S[1:], (0.025, 0.975)).tolist()
    return float(values_S[0]), (low, high)
