"""Build a network from its class and options."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tipping.errors import InputError
from tipping.network.hooks import evaluating
from tipping.network.source import class_of

OURS = ("name", "checkpoint", "layers")  # options of `model` that are no arguments of its class


def build(options: dict[str, Any], image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Build a new network of the configured class; its initial weights depend on the seed only.

    The class receives `image_shape` and `classes` if its constructor takes them.

    Args:
        options: the class's path under `_target_`, its arguments, and the options in `OURS`, which are not arguments.
        image_shape: (channels, height, width).

    Raises:
        InputError: `_target_` is no class of a network, an argument is out of its range, or the network does not give
            logits (N, classes) for the images.
        hydra.errors.InstantiationException: an argument is unknown.
    """
    arguments = {key: value for key, value in options.items() if key not in OURS}
    known = {"image_shape": image_shape, "classes": classes}
    for option in known.keys() & arguments.keys():
        raise InputError(f"model.{option}={arguments[option]}: the data set gives it; leave it out")
    taken = inspect.signature(class_of(options["_target_"])).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        known = {key: value for key, value in known.items() if key in taken}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = instantiate(arguments, **known)
        if any(map(is_lazy, _tensors(model))):  # weights are drawn when it first takes an image
            _try(model, options, image_shape, classes)
    _check_tensors(model, options)
    if all(tensor.ndim < 5 for tensor in _tensors(model)):  # torch refuses others
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # much faster on a CPU
    _try(model, options, image_shape, classes)
    return model


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _check_tensors(model: nn.Module, options: dict[str, Any]) -> None:
    """Raise `InputError` unless a network's state is tensors of known sizes, of plain numbers."""
    title = f"model={options.get('name', options['_target_'])}"
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise InputError(f"{title}: no image reaches {name}, whose size is so not known; give its layer sizes")
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.is_quantized or value.layout != torch.strided:
            raise InputError(f"{title}: its {name} is quantised, sparse, or no tensor; give a network of plain tensors")


def _try(model: nn.Module, options: dict[str, Any], image_shape: tuple[int, int, int], classes: int) -> None:
    """Raise `InputError` unless the network gives logits for an image."""
    size, name = "x".join(map(str, image_shape)), options.get("name", options["_target_"])
    try:
        with evaluating(model), torch.no_grad():
            logits = model(torch.zeros(1, *image_shape))
    except Exception as error:  # whatever the network's own code raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"model={name} does not take images of {size}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"model={name} must make logits (N, {classes}) of images of {size}, not {shape}")
