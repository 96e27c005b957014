"""The networks, as plain modules, and any other one by its class and checkpoint."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

from tipping.errors import InputError, require, require_whole
from tipping.layers import evaluating
from tipping.store import is_state, load

OURS = ("name", "checkpoint", "layers")  # options of `model` that are no arguments of its class


class KerasCNN(nn.Sequential):
    """The report's Keras network (its Figure 2): 3x3 "same" convolutions with ReLU, then three dense layers.

    Weights start as in Keras: Glorot-uniform, biases zero [glorot2010].

    Args:
        image_shape: (channels, height, width).
        classes: number of classes.
        filters: filters in each convolution.
        depth: number of convolutions.
        dropout: probability of dropping a unit before the last layer, in [0, 1).
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, filters: int, depth: int, dropout: float
    ) -> None:
        require_whole("model.filters", filters, 1)
        require_whole("model.depth", depth, 1)
        number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
        require(number and 0 <= dropout < 1, "model.dropout", dropout, "give a number in [0, 1)")
        channels, height, width = image_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(1, depth + 1):
            layers[f"conv{i}"] = nn.Conv2d(channels if i == 1 else filters, filters, 3, padding="same")
            layers[f"relu{i}"] = nn.ReLU()
        layers["flatten"] = nn.Flatten()
        layers["dense1"] = nn.Linear(filters * height * width, 128)
        layers["dense1_relu"] = nn.ReLU()
        layers["dense2"] = nn.Linear(128, 128)
        layers["dense2_relu"] = nn.ReLU()
        layers["dropout"] = nn.Dropout(dropout)
        layers["dense3"] = nn.Linear(128, classes)
        super().__init__(layers)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)


class MatConvNet(nn.Sequential):
    """MatConvNet's MNIST network: convolutions of 20, 50 and 500 filters; the last one gives the classes.

    Its first two convolutions have no ReLU: their maps are taken as they are, before pooling.

    Args:
        image_shape: (channels, 28, 28).
        classes: number of classes.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        channels, height, width = image_shape
        if (height, width) != (28, 28):
            raise InputError(f"model=matconvnet needs 28x28 images, these are {height}x{width}: use model=keras_cnn")
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(channels, 20, 5),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(50, 500, 4),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(500, classes, 1),
                flatten=nn.Flatten(),
            )
        )


def build(options: dict[str, Any], image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A new network of the configured class; its initial weights depend on the seed only.

    The class is given `image_shape` and `classes` if it takes them.

    Raises:
        InputError: `_target_` is no network's class, an argument is out of its range, or the network does not make
            logits (N, classes) of the images.
        hydra.errors.InstantiationException: an argument is unknown.
    """
    arguments = {key: value for key, value in options.items() if key not in OURS}
    known = {"image_shape": image_shape, "classes": classes}
    for option in known.keys() & arguments.keys():
        raise InputError(f"model.{option}={arguments[option]}: the data set gives it; leave it out")
    taken = inspect.signature(_class(options["_target_"])).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        known = {key: value for key, value in known.items() if key in taken}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = instantiate(arguments, **known)
    channels_last: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # by far faster on CPU
    _try(channels_last, options, image_shape, classes)
    return channels_last


def _class(path: str) -> type[nn.Module]:
    """A network's class by its dotted path, looked for in the working directory too."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = get_class(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"model._target_={path}: cannot be imported ({error}); give the path of a class") from error
    if not issubclass(found, nn.Module):
        raise InputError(f"model._target_={path}: is no torch.nn.Module")
    return found


def _try(model: nn.Module, options: dict[str, Any], image_shape: tuple[int, int, int], classes: int) -> None:
    """Raise `InputError` unless the network makes logits of an image."""
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


def source_digest(path: str) -> str | None:
    """A digest of the file that defines a network's class, where it is none of ours; with it, its weights change."""
    found: Any = _class(path)  # hashable, whatever mypy says of types
    return _source_digest(found)


@functools.cache  # what was imported counts, not what the file has become since
def _source_digest(found: Any) -> str | None:
    if found.__module__ == __name__:
        return None
    try:
        text = Path(inspect.getfile(found)).read_bytes()
    except (OSError, TypeError):  # of an interactive session
        return None
    return hashlib.sha256(text).hexdigest()


def file_digests(options: Mapping[str, Any]) -> dict[str, str | None]:
    """SHA-256 of the files that decide a network beside its options: its class's, where it is none of ours, and its
    checkpoint's.

    Raises:
        InputError: the class cannot be imported.
        OSError: the checkpoint cannot be read.
    """
    checkpoint = options.get("checkpoint")
    return {
        "source": source_digest(options["_target_"]),
        "checkpoint": checkpoint and hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
    }


def load_checkpoint(model: nn.Module, path: str) -> None:
    """Give a network the weights of a file, saved by ``torch.save``: a state dict, or a dictionary with one under
    `state_dict` (as Lightning writes, whose prefix ``model.`` is taken off) or `tensors` (as the store's).

    Raises:
        InputError: unreadable, of another architecture, or not finite.
    """
    try:
        content = load(Path(path))
    except OSError as error:
        raise InputError(f"model.checkpoint={path} cannot be read ({error}); give a file of weights") from error
    except ValueError as error:
        remedy = "save weights alone, by torch.save(model.state_dict(), …)"
        raise InputError(f"model.checkpoint={path} cannot be read as weights: {remedy}") from error
    for key in ("state_dict", "tensors"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not is_state(content) or any(tensor.is_complex() for tensor in content.values()):
        raise InputError(f"model.checkpoint={path} holds no state dict: save one by torch.save(model.state_dict(), …)")
    weights = content if set(content) == set(model.state_dict()) else _unprefixed(content)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.checkpoint={path} is of another architecture: {reason[:200]}") from error
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise InputError(f"model.checkpoint={path} holds weights that are not finite: train it anew")


def _unprefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}
