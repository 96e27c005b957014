"""Ablate filters by masks: hooks that replace maps, or weights set to zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network import Filters, Hook, hooked, weights_of_first_input

SCOPES = ("filter", "first_input_channel")


@contextmanager
def ablated(
    filters: Filters, gone: np.ndarray, *, value: Tensor | None = None, scope: str = "filter"
) -> Iterator[None]:
    """Ablate some filters of a network within the context, and restore the network afterwards. Contexts can be nested.

    Args:
        filters: the filters of the network.
        gone: positions of the filters to ablate in the network's filter index: (K,).
        value: the constant that replaces the map of each of the F filters when it is ablated: (F,). Zero by default;
            `selection.mean_activations` gives each filter's mean.
        scope: `filter` replaces the filter's map after the activation, so that neither bias nor normalisation restores
            it; `first_input_channel` sets only the filter's bias and its weights of the first input channel to zero.

    Raises:
        ValueError: `gone` holds an unknown position, `scope` is unknown, or `value` has another shape or is not finite.
            With `first_input_channel` also: a value is given, or a layer is parametrized.
    """
    channels = gone_channels(filters, gone)
    check_scope(scope, value)
    with ExitStack() as stack:
        if filters.given is not filters.model:  # no hook reaches the calls of functions in `given`
            stack.callback(filters.given.register_forward_pre_hook(_refuse).remove)
        if scope == "filter":
            values, sites = layer_values(filters, value), filters.sites
            hooks = [(layer, sites[layer], _replacing(channels[layer], values[layer])) for layer in channels]
            stack.enter_context(hooked(filters.model, hooks))
        else:
            for layer, gone_C in channels.items():
                stack.enter_context(_without_first_input(filters.model.get_submodule(layer), gone_C))
        yield


def _refuse(given: nn.Module, _: object) -> None:
    raise InputError(
        f"{type(given).__name__} calls activations as functions, or gives more than logits, and is out of reach: call "
        "filters.model, which shares its weights"
    )


def gone_channels(filters: Filters, gone: np.ndarray) -> dict[str, Tensor]:
    """Return which channels are ablated, for each layer that loses any: boolean (C,), by layer.

    Raises:
        ValueError: a position is not in the network's filter index.
    """
    index, device = filters.index, next(filters.model.parameters()).device
    gone = np.asarray(gone)
    whole = len(gone) == 0 or np.issubdtype(gone.dtype, np.integer)
    if not whole or not ((gone >= 0) & (gone < len(index.layer_F))).all():
        raise ValueError(f"filters must be positions from 0 to {len(index.layer_F) - 1}, got {gone.tolist()}")
    gone_F = np.isin(np.arange(len(index.layer_F)), gone)
    by_layer = {layer: gone_F[index.layer_F == position] for position, layer in enumerate(index.layers)}
    return {layer: torch.from_numpy(gone_C).to(device) for layer, gone_C in by_layer.items() if gone_C.any()}


def check_scope(scope: str, value: Tensor | None) -> None:
    """Raise `ValueError` for an unknown scope, or for a value with `first_input_channel`."""
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
    if scope == "first_input_channel" and value is not None:
        raise ValueError("value must be None with scope='first_input_channel', which sets weights to zero")


def layer_values(filters: Filters, value: Tensor | None) -> dict[str, Tensor]:
    """Return the constant of each channel when it is ablated, by layer: (C,).

    Raises:
        ValueError: `value` does not hold one finite number for each filter.
    """
    index, example = filters.index, next(filters.model.parameters())
    value = torch.zeros(len(index.layer_F)) if value is None else value
    if value.shape != index.layer_F.shape or not bool(value.isfinite().all()):
        raise ValueError(f"value must hold a finite number for each of the {len(index.layer_F)} filters")
    value = value.to(example)
    return {layer: value[torch.from_numpy(index.layer_F == i)] for i, layer in enumerate(index.layers)}


def _replacing(gone_C: Tensor, value_C: Tensor) -> Hook:
    def hook(_: nn.Module, __: object, maps_NCHW: Tensor) -> Tensor:
        return replaced(maps_NCHW, gone_C, value_C)

    return hook


def replaced(maps_NCHW: Tensor, gone_C: Tensor, value_C: Tensor) -> Tensor:
    """Return maps, or outputs (N, C) of dense units, in which ablated channels are replaced by their constants."""
    shape = (-1, *[1] * (maps_NCHW.ndim - 2))
    return torch.where(gone_C.view(shape), value_C.view(shape).to(maps_NCHW.dtype), maps_NCHW)


def weights_without_first_input(layer: nn.Module, gone_C: Tensor) -> Mapping[str, Tensor]:
    """Return a layer's parameters, with bias and weights of the first input channel set to zero for some channels.

    Raises:
        ValueError: the layer is parametrized, so that it has no plain weights.
    """
    parameters = {name: parameter.detach().clone() for name, parameter in layer.named_parameters(recurse=False)}
    if "weight" not in parameters:
        raise ValueError(f"scope='first_input_channel' needs plain weights, not those of a {type(layer).__name__}")
    first = weights_of_first_input(layer, parameters["weight"])
    first[gone_C.view(first.shape[:2])] = 0
    if "bias" in parameters:
        parameters["bias"][gone_C] = 0
    return parameters


@contextmanager
def _without_first_input(layer: nn.Module, gone_C: Tensor) -> Iterator[None]:
    before = dict(layer.named_parameters(recurse=False))
    try:
        for name, tensor in weights_without_first_input(layer, gone_C).items():
            setattr(layer, name, nn.Parameter(tensor, requires_grad=before[name].requires_grad))
        yield
    finally:
        for name, parameter in before.items():
            setattr(layer, name, parameter)
