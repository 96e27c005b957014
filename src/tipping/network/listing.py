"""The layers of a network as rows, to be seen before they are believed: what is measured and ablated, where and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from tipping.network.discovery import FilterLayer, candidates, is_gate
from tipping.network.kinds import ACTIVATIONS, CONVOLUTIONS, MIXING, NORMALISING, filters_in
from tipping.network.watching import Watched

NORMS = (*NORMALISING, nn.BatchNorm1d, nn.LayerNorm)


def kind_in_words(layer: nn.Module) -> str:
    """Return what a layer is: a convolution and its size, a dense layer, or the name of its class."""
    if not isinstance(layer, CONVOLUTIONS):
        return "dense" if isinstance(layer, nn.Linear) else type(layer).__name__
    transposed = "transposed " if isinstance(layer, nn.ConvTranspose2d) else ""
    groups = f" in {layer.groups} groups" if layer.groups > 1 else ""
    return f"{transposed}convolution {'x'.join(map(str, layer.kernel_size))}{groups}"


def row_of(layer: FilterLayer, module: nn.Module, measured: Sequence[str], ablated: str) -> dict[str, str | int]:
    """Return the row of a layer in the table of a network's layers.

    Args:
        layer: the layer.
        module: the layer's module.
        measured: the submodules at whose outputs the layer's filters are measured.
        ablated: the submodule at whose output they are ablated; empty where they are not.
    """
    return {
        "layer": layer.name,
        "kind": kind_in_words(module),
        "filters": filters_in(module),
        "maps": "" if layer.size is None else "x".join(map(str, layer.size)) or "1",
        "measured": ", ".join(measured),
        "ablated": ablated or "nowhere",
        "why": layer.why if ablated else "protocol.sites=conv spares filters whose maps are single values",
    }


def left_out(
    model: nn.Module, watched: Watched, kept: Collection[str], *, dense: bool, only: Sequence[str] | None
) -> dict[str, str]:
    """Return the reason for each layer with weights that mix channels and that does not count, by the layer's name.

    Args:
        model: the network.
        watched: what happened as an image passed the network.
        kept: the names of the layers that count.
        dense: whether units of dense layers count.
        only: names and patterns of the layers that were asked for.
    """
    known, unseen = candidates(watched), watched.unseen(dense=True)
    why = {}
    for name, layer in _mixing(model, unseen).items():
        if name in kept:
            continue
        if name in known and is_gate(watched, known[name]):
            why[name] = "a gate: its numbers multiply other maps; model.layers can name it"
        elif name in known and isinstance(layer, nn.Linear) and not dense:
            why[name] = "protocol.dense=true counts its units"
        elif name in known and only:
            why[name] = "model.layers does not name it"
        elif name in unseen or (name in watched.passed and not isinstance(layer, MIXING)):
            why[name] = _out_of_reach(layer, name in watched.passed)
        elif name not in watched.passed:
            why[name] = "no image passes it"
        else:
            why[name] = "it gives the classes"
    return why


def _mixing(model: nn.Module, unseen: Collection[str]) -> dict[str, nn.Module]:
    """Return the layers whose weights could mix channels: those with filters, others with weights of two sides, and
    those that were seen to."""
    others = (*ACTIVATIONS, *NORMS, nn.utils.parametrize.ParametrizationList)
    return {
        name or type(model).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, MIXING)
        or name in unseen
        or (
            not isinstance(module, others)
            and any(sum(side > 1 for side in weight.shape) > 1 for weight in module.parameters(recurse=False))
        )
    }


def _out_of_reach(layer: nn.Module, called: bool) -> str:
    """Return why a layer that takes part is neither measured nor ablated."""
    if not isinstance(layer, MIXING):
        return "filters are looked for in nn.Conv2d, nn.ConvTranspose2d and nn.Linear only"
    if isinstance(layer, nn.Linear):
        return "it is applied at each position of its maps" if called else "its weights are used, but it is not called"
    return "it does not give a map for each filter" if called else "its weights are used, but it is not called"
