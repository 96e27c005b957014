"""Selectors: ways to score filters by their relevance, which the arena compares."""

from tipping.selectors.choosing import chosen_by
from tipping.selectors.evidence import DEFAULT_BUDGET, Budget, Evidence
from tipping.selectors.registry import COSTS, MU_LASSO, SELECTORS, Selector, require_selector, score
from tipping.selectors.scores import Scores, own_order, ties_of

__all__ = [
    "COSTS",
    "DEFAULT_BUDGET",
    "MU_LASSO",
    "SELECTORS",
    "Budget",
    "Evidence",
    "Scores",
    "Selector",
    "chosen_by",
    "own_order",
    "require_selector",
    "score",
    "ties_of",
]
