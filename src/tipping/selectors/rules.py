"""The rules by which relevance goes back through a network, and what has no rule."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.errors import InputError
from tipping.network import ACTIVATIONS, MIXING, PASSING, Filters, Graph, NotAGraph, passed_on
from tipping.selectors.layers import as_written, norms_after

FUNCTIONS = (passed_on, torch.flatten, torch.reshape, functional.dropout, functional.max_pool2d)
METHODS = ("flatten", "reshape", "view", "contiguous")
PASSES = (*PASSING, nn.Flatten, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
AVERAGING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def rules_of(zennit: Any, filters: Filters, image_1CHW: Tensor) -> Any:
    """Return the rules of zennit for a network: z⁺ for convolutions, ε for dense layers, and batch normalisation merged
    into the layer before it.

    Raises:
        InputError: an operation of the network has no rule, or the network is no graph.
    """
    norms = {layer: norm for layer, norm in norms_after(filters, image_1CHW).items() if _merges(filters, layer, norm)}
    merged = zennit.canonizers.NamedMergeBatchNorm([((layer,), norm) for layer, norm in norms.items()])
    rules = zennit.composites.EpsilonPlus(canonizers=[merged])
    try:
        graph = Graph.trace(filters, image_1CHW)
    except NotAGraph as error:
        raise InputError(f"selector=lrp: {error}; leave it out") from error
    uses = Counter(graph.modules.values())
    for node in graph.nodes[1:]:
        module = graph.modules.get(node)
        if module is None:
            ruled = node.target in (METHODS if node.op == "call_method" else FUNCTIONS)
        elif type(module) in (*PASSES, *ACTIVATIONS):
            ruled = type(module) in PASSES or rules.module_map({}, "", module) is not None
        else:  # the rule keeps what a module is given last
            ruled = uses[module] == 1 and (node.target in norms.values() or _ruled(module))
        if node in graph.maps and not ruled:
            name = node.name if module is None else f"{node.target} ({type(module).__name__})"
            raise InputError(f"selector=lrp: {name} has no rule for relevance; leave it out")
    return rules


def _ruled(module: nn.Module) -> bool:
    """Return whether there is a rule for a layer or a pooling module; that of a layer takes its parameters."""
    if isinstance(module, MIXING):
        return as_written(module) and "weight" in dict(module.named_parameters(recurse=False))
    return type(module) in AVERAGING


def _merges(filters: Filters, layer: str, norm: str) -> bool:
    """Return whether a normalisation can be merged into the weights of a layer."""
    module, after = filters.model.get_submodule(layer), filters.model.get_submodule(norm)
    plain = type(after) in (nn.BatchNorm1d, nn.BatchNorm2d) and after.affine and after.track_running_stats
    return bool(plain) and not (isinstance(module, nn.ConvTranspose2d) and module.groups > 1)
