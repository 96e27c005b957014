"""The networks, as plain modules, and which of their layers have filters.

A network names its filter layers in ``filter_layers``: for each convolution, the submodule whose output
holds the activation maps, an (N, filters, H, W) tensor. Responses are measured and filters are ablated there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tipping.config import InputError, require, require_whole

Hook = Callable[[nn.Module, object, Tensor], Tensor | None]  # may replace the maps


class FilterIndex(NamedTuple):
    """Which layer and channel each of the network's F filters is."""

    layers: tuple[str, ...]  # names, in the order of the network
    layer_F: np.ndarray  # position in `layers`
    channel_F: np.ndarray


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
        self.filter_layers = {f"conv{i}": f"relu{i}" for i in range(1, depth + 1)}
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
        self.filter_layers = {"conv1": "conv1", "conv2": "conv2", "conv3": "relu3"}


def build(options: dict[str, Any], image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A new network of the configured class; its initial weights depend on the seed only.

    Raises:
        InputError: an argument is out of its range, or the images do not fit the network.
        hydra.errors.InstantiationException: `_target_` or an argument is unknown.
    """
    arguments = {key: value for key, value in options.items() if key != "name"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = instantiate(arguments, image_shape=image_shape, classes=classes)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # by far the faster layout on CPU


def activations(model: nn.Module) -> dict[str, nn.Module]:
    """For each filter layer, the submodule whose output holds its activation maps.

    Raises:
        ValueError: the network does not name its filter layers.
    """
    names = getattr(model, "filter_layers", None)
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{type(model).__name__} must have filter_layers, such as {{'conv1': 'relu1'}}")
    return {layer: model.get_submodule(name) for layer, name in names.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the network is in eval mode, its convolutions not in TF32; afterwards all is as before."""
    training = [module for module in model.modules() if module.training]
    cudnn = torch.backends.cudnn
    model.eval()
    try:
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def hooked(model: nn.Module, hooks: dict[str, Hook]) -> Iterator[None]:
    """Within it, each named filter layer's maps go through its forward hook; afterwards the model is as before.

    Where layers share one activation module, each hook sees the call after its own layer's.
    """
    modules: dict[str, nn.Module] = activations(model)
    handles: list[RemovableHandle] = []
    try:
        for layer, hook in hooks.items():
            source, site = model.get_submodule(layer), modules[layer]
            if site is not source:
                forget, note, hook = _after_own_layer(hook)
                handles.append(model.register_forward_pre_hook(forget))  # what a pass that failed left behind
                handles.append(source.register_forward_hook(note))
            handles.append(site.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _after_own_layer(hook: Hook) -> tuple[Callable[[nn.Module, object], None], Hook, Hook]:
    """Hooks for a network before it runs, for a layer, which notes that it ran, and for its activation, which acts
    only then."""
    ran = False

    def forget(_: nn.Module, __: object) -> None:
        nonlocal ran
        ran = False

    def note(_: nn.Module, __: object, ___: Tensor) -> None:
        nonlocal ran
        ran = True

    def act(module: nn.Module, inputs: object, maps: Tensor) -> Tensor | None:
        nonlocal ran
        ran, due = False, ran
        return hook(module, inputs, maps) if due else None

    return forget, note, act


def filter_index(model: nn.Module) -> FilterIndex:
    """The (layer, channel) of every filter of the network, layer after layer."""
    layers = tuple(activations(model))
    sizes = [len(model.get_submodule(layer).weight) for layer in layers]  # type: ignore[arg-type]
    return FilterIndex(
        layers,
        layer_F=np.repeat(np.arange(len(layers)), sizes),
        channel_F=np.concatenate([np.arange(size) for size in sizes]),
    )
