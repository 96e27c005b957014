"""The layers of a network's filters: weights, a row for each filter, and the normalisation after a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tipping.errors import InputError
from tipping.network import MIXING, Filters, Hook, evaluating, restored


def weights_of_filters(filters: Filters) -> Iterator[Tensor]:
    """Yield the weights of each layer with filters, a row for each filter: (filters, inputs), in float64 on the CPU.

    A transposed convolution has its filters along its second axis, within each group.

    Raises:
        InputError: a layer has no plain weights.
    """
    for name in filters.index.layers:
        layer = filters.model.get_submodule(name)
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor):
            raise InputError(f"{name} has no plain weights; leave selectors by weights out")
        weight = weight.detach().double().cpu()
        if isinstance(layer, nn.ConvTranspose2d):
            grouped = weight.view(layer.groups, -1, *weight.shape[1:])  # (groups, inputs, filters of the group, H, W)
            weight = grouped.transpose(1, 2).flatten(0, 1)
        yield weight.flatten(1)


def norms_after(filters: Filters, image_1CHW: Tensor) -> dict[str, str]:
    """Find the batch normalisation that is given the output of each layer with filters, as an image passes.

    Returns:
        the names of the normalising submodules, by layer; without layers that have none, or more than one.
    """
    model, norms = filters.model, {layer: set[str]() for layer in filters.sites}
    outputs: dict[str, tuple[Tensor, int]] = {}  # with their versions, since an activation may overwrite them

    def note(layer: str) -> Hook:
        def hook(_: nn.Module, __: object, maps_1CHW: Tensor) -> None:
            outputs[layer] = maps_1CHW, maps_1CHW._version

        return hook

    def compare(norm: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def hook(_: nn.Module, given: tuple[object, ...]) -> None:
            for layer, (maps_1CHW, version) in outputs.items():
                if given and given[0] is maps_1CHW and maps_1CHW._version == version:
                    norms[layer].add(norm)

        return hook

    with torch.inference_mode(False), torch.no_grad(), restored(model), evaluating(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if name in filters.sites:
                stack.callback(module.register_forward_hook(note(name)).remove)
            if isinstance(module, _BatchNorm):
                stack.callback(module.register_forward_pre_hook(compare(name)).remove)
        model(image_1CHW.clone())
    return {layer: next(iter(names)) for layer, names in norms.items() if len(names) == 1}


def not_as_written(filters: Filters) -> str | None:
    """Return the name of the first layer with filters that does not compute what its class in torch does, if any."""
    return next((name for name in filters.sites if not as_written(filters.model.get_submodule(name))), None)


def as_written(layer: nn.Module) -> bool:
    """Return whether a layer with filters computes what its class in torch does."""
    kind = next(kind for kind in MIXING if isinstance(layer, kind))
    methods = [method for method in ("forward", "_conv_forward") if hasattr(kind, method)]
    alike = (getattr(type(layer), method) is getattr(kind, method) for method in methods)
    return all(alike) and not any(method in vars(layer) for method in methods)
