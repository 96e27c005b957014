"""Responses of filters, the relevant filters, and random controls to compare the relevant filters with."""

from tipping.selection.class_sets import KINDS, ClassSets, class_sets, strength_by_class
from tipping.selection.controls import LAYER_MATCHED, MATCHES, Candidates, Draws, draw_controls
from tipping.selection.memory import require_memory
from tipping.selection.overlap import Overlap, overlap
from tipping.selection.ranking import ranked_filters
from tipping.selection.relevance import (
    Selection,
    by_filter,
    explainable,
    select_each,
    selections,
    strongest_first,
    with_controls,
)
from tipping.selection.responses import PLAIN, Measure, collect, mean_activations, response_batches, watch_maps
from tipping.selection.stability import on_halves, stability

__all__ = [
    "KINDS",
    "LAYER_MATCHED",
    "MATCHES",
    "PLAIN",
    "Candidates",
    "ClassSets",
    "Draws",
    "Measure",
    "Overlap",
    "Selection",
    "by_filter",
    "class_sets",
    "collect",
    "draw_controls",
    "explainable",
    "mean_activations",
    "on_halves",
    "overlap",
    "ranked_filters",
    "require_memory",
    "response_batches",
    "select_each",
    "selections",
    "stability",
    "strength_by_class",
    "strongest_first",
    "watch_maps",
    "with_controls",
]
