"""Build a network from the class or function that makes it, and its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tipping.errors import InputError
from tipping.network.hooks import evaluating
from tipping.network.outputs import giving_logits, in_words
from tipping.network.source import maker_of

OURS = ("name", "checkpoint", "layers")  # options of `model` that are no arguments of its class
SIZES = {  # the names under which a class or function may take what the data set decides
    "image_shape": ("image_shape",),
    "classes": ("classes", "num_classes"),
    "channels": ("in_channels", "in_chans"),
}


def build(options: dict[str, Any], image_shape: tuple[int, int, int], classes: int | None, seed: int) -> nn.Module:
    """Build a new network by the configured class or function; its initial weights depend on the seed only.

    The class or function receives the image's shape and the number of classes as `sizes_for` says. A network that gives
    more than logits is made to give these alone.

    Args:
        options: the path of the class or function under `_target_`, its arguments, and the options in `OURS`, which are
            not arguments.
        image_shape: (channels, height, width).
        classes: the number of logits; None leaves it to the network, which then was trained elsewhere, and to its
            arguments.

    Raises:
        InputError: `_target_` makes no network, an argument is out of its range, or given though the data set gives it,
            or the number of classes is nowhere given, or the network does not give logits (N, classes) for the images.
        hydra.errors.InstantiationException: an argument is unknown.
    """
    arguments = {key: value for key, value in options.items() if key not in OURS}
    maker = maker_of(options["_target_"])
    _check_arguments(arguments, maker, classes)
    sizes = sizes_for(maker, image_shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate(arguments, **{name: size for name, size in sizes.items() if name not in arguments})
        if not isinstance(model, nn.Module):
            raise InputError(f"model._target_={options['_target_']}: gives {in_words(model)}, no torch.nn.Module")
        if any(map(is_lazy, _tensors(model))):  # weights are drawn when it first takes an image
            _try(model, options, image_shape, classes)
    _check_tensors(model, options)
    if all(tensor.ndim < 5 for tensor in _tensors(model)):  # torch refuses others
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # much faster on a CPU
    return _try(model, options, image_shape, classes)


def _check_arguments(arguments: dict[str, Any], maker: Callable[..., Any], classes: int | None) -> None:
    """Raise `InputError` if the user gives what the data set gives, or not the number of classes where it does not."""
    for option in ("image_shape", *(["classes"] if classes else [])):
        if option in arguments:
            raise InputError(f"model.{option}={arguments[option]}: the data set gives it; leave it out")
    taken = inspect.signature(maker).parameters
    needed = [name for name in SIZES["classes"] if name in taken and taken[name].default is inspect.Parameter.empty]
    for option in needed:
        if not classes and option not in arguments:
            remedy = f"how many it was trained on, as +model.{option}=1000"
            raise InputError(f"model._target_={arguments['_target_']} needs the number of classes: give {remedy}")


def sizes_for(maker: Callable[..., Any], image_shape: tuple[int, int, int], classes: int | None) -> dict[str, Any]:
    """Return what a class or function that makes a network receives of the data set, by the names of its parameters.

    It receives what its signature names: `image_shape`; `classes` or `num_classes`; `in_channels` or `in_chans`. One
    that names no such parameter but takes any (``**kwargs``) receives more: a class `image_shape` and `classes`, a
    function `num_classes`, and a function of timm `in_chans` too.

    Args:
        maker: the class or function.
        image_shape: (channels, height, width).
        classes: the number of classes; None leaves it to the network.
    """
    values = {"image_shape": image_shape, "classes": classes, "channels": image_shape[0]}
    taken = inspect.signature(maker).parameters
    names = {size: name for size, known in SIZES.items() for name in known[::-1] if name in taken}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        anything = {"image_shape": "image_shape", "classes": "classes"}
        if not isinstance(maker, type):
            of_timm = maker.__module__.partition(".")[0] == "timm"
            anything = {"classes": "num_classes", **({"channels": "in_chans"} if of_timm else {})}
        names = anything | names
    return {name: values[size] for size, name in names.items() if values[size] is not None}


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


def _try(
    model: nn.Module, options: dict[str, Any], image_shape: tuple[int, int, int], classes: int | None
) -> nn.Module:
    """Return a network that gives logits alone: the network itself, or one that shares its modules.

    Raises:
        InputError: it does not give logits for an image.
    """
    size, name = "x".join(map(str, image_shape)), options.get("name", options["_target_"])
    image_1CHW = torch.zeros(1, *image_shape)
    try:
        model = giving_logits(model, image_1CHW)
        with evaluating(model), torch.no_grad():
            logits = model(image_1CHW)
    except Exception as error:  # whatever the network's own code raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"model={name} does not take images of {size}: {reason}") from error
    right = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == 1
    if not right or logits.shape[1] != (classes or max(2, logits.shape[1])):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else in_words(logits)
        raise InputError(f"model={name} must make logits (N, {classes or 'C'}) of images of {size}, not {shape}")
    return model
