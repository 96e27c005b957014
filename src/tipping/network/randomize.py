"""Initialise layers of a trained network anew, for sanity checks [adebayo2018]."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network.hooks import evaluating


def layers_to_randomize(model: nn.Module, wanted: str, image_1CHW: Tensor) -> list[str]:
    """Return the names of the layers with weights to initialise anew, in the order in which an image passes them.

    Args:
        wanted: `none`; `all`; ``only:LAYER``, one layer; or ``from:LAYER``, that layer and all layers after it, down to
            the output (cascading randomisation).

    Raises:
        InputError: `wanted` has another form, or names no layer with weights.
    """
    if wanted == "none":
        return []
    layers: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: layers.append(name))
        for name, module in model.named_modules()
        if _tensors(module)
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(image_1CHW.clone())
    finally:
        for handle in handles:
            handle.remove()
    layers = list(dict.fromkeys(layers))
    kind, _, layer = wanted.partition(":")
    if (kind, layer) != ("all", "") and (kind not in ("from", "only") or layer not in layers):
        known = ", ".join(layers)
        raise InputError(f"randomize={wanted}: give none, all, from:LAYER or only:LAYER, a layer of {known}")
    first = layers.index(layer) if layer else 0
    return layers[first : first + 1] if kind == "only" else layers[first:]


def randomize(model: nn.Module, layers: Sequence[str], anew: nn.Module) -> bool:
    """Copy the weights of some layers from a newly initialised network of the same class, in place.

    Args:
        anew: the newly initialised network.

    Returns:
        whether any weight changes; none does where the class sets trained weights.
    """
    changed = False
    with torch.no_grad():
        for layer in layers:
            theirs = _tensors(anew.get_submodule(layer))
            for name, tensor in _tensors(model.get_submodule(layer)).items():
                changed = changed or not torch.equal(tensor, theirs[name].to(tensor))
                tensor.copy_(theirs[name])
    return changed


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy of a network that shares nothing with it.

    Tensors that modules keep beside parameters and buffers are detached, in the network too: torch copies none that a
    pass with gradients has made, such as the weights of pruned layers and of older forms of weight normalisation.
    """
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())
    return copy.deepcopy(model)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's weights and buffers, with the parametrizations of its weights but without its submodules."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in tensors.items() if "." not in name or name.startswith("parametrizations.")}
