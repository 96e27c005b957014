"""Networks: build or load them, find their filters, watch and replace the maps of their layers."""

from tipping.network.checkpoints import load_checkpoint
from tipping.network.filters import FilterIndex, Filters, Maps
from tipping.network.graph import Graph, apply, same
from tipping.network.hooks import Hook, evaluating, hooked, keeping_maps, restored
from tipping.network.kinds import (
    ACTIVATIONS,
    CONVOLUTIONS,
    MIXING,
    NORMALISING,
    PASSING,
    POOLING,
    filters_in,
    weights_of_first_input,
)
from tipping.network.loading import OURS, build
from tipping.network.outputs import in_words, logits_of
from tipping.network.randomize import copy_of, layers_to_randomize, randomize
from tipping.network.source import file_digests, source_digest
from tipping.network.tracing import NotAGraph, has_hooks, passed_on, up_to_last

__all__ = [
    "ACTIVATIONS",
    "CONVOLUTIONS",
    "MIXING",
    "NORMALISING",
    "OURS",
    "PASSING",
    "POOLING",
    "FilterIndex",
    "Filters",
    "Graph",
    "Hook",
    "Maps",
    "NotAGraph",
    "apply",
    "build",
    "copy_of",
    "evaluating",
    "file_digests",
    "filters_in",
    "has_hooks",
    "hooked",
    "in_words",
    "keeping_maps",
    "layers_to_randomize",
    "load_checkpoint",
    "logits_of",
    "passed_on",
    "randomize",
    "restored",
    "same",
    "source_digest",
    "up_to_last",
    "weights_of_first_input",
]
