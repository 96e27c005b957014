"""The arena: which selector finds the filters that a network uses?"""

from tipping.arena.classes import ByClass
from tipping.arena.comparison import Difference, corrected, paired_difference, rank_correlation, shared
from tipping.arena.contest import MATCHED, OWN, RANDOM, Arena, Result
from tipping.arena.lines import Lines, mean_along, measure_lines
from tipping.arena.orders import counts_along, layer_matched_order, within_layers

__all__ = [
    "MATCHED",
    "OWN",
    "RANDOM",
    "Arena",
    "ByClass",
    "Difference",
    "Lines",
    "Result",
    "corrected",
    "counts_along",
    "layer_matched_order",
    "mean_along",
    "measure_lines",
    "paired_difference",
    "rank_correlation",
    "shared",
    "within_layers",
]
