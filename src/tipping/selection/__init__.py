"""Responses of filters, the relevant filters, and random controls to compare the relevant filters with."""

from tipping.selection.controls import LAYER_MATCHED, MATCHES, Candidates, Draws, draw_controls
from tipping.selection.memory import require_memory
from tipping.selection.overlap import Overlap, overlap
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
    "LAYER_MATCHED",
    "MATCHES",
    "PLAIN",
    "Candidates",
    "Draws",
    "Measure",
    "Overlap",
    "Selection",
    "by_filter",
    "collect",
    "draw_controls",
    "explainable",
    "mean_activations",
    "on_halves",
    "overlap",
    "require_memory",
    "response_batches",
    "select_each",
    "selections",
    "stability",
    "strongest_first",
    "watch_maps",
    "with_controls",
]
