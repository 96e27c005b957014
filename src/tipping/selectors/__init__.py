"""Selectors: ways to score filters by their relevance, which the arena compares."""

from tipping.selectors.evidence import Budget, Evidence
from tipping.selectors.registry import COSTS, SELECTORS, Selector, score
from tipping.selectors.scores import Scores

__all__ = [
    "COSTS",
    "SELECTORS",
    "Budget",
    "Evidence",
    "Scores",
    "Selector",
    "score",
]
