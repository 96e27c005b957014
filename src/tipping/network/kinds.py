"""What a module does to the channels of a layer's maps: by its class, or, where the class is unknown, by trying it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
MIXING = (*CONVOLUTIONS, nn.Linear)  # the layers with filters
PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid),
    *(nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
NORMALISING = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
SPLITS = 6  # random halves of the channels: a permutation of channels may keep one of them to itself


class Kind(Enum):
    """What a module does to maps, as far as it matters where filters are measured and ablated."""

    MIXING = MIXING
    PASSING = PASSING
    ACTIVATION = ACTIVATIONS
    POOLING = POOLING
    NORMALISING = NORMALISING


ON_THE_WAY = (Kind.POOLING, Kind.NORMALISING, Kind.PASSING)  # what maps may pass before an activation


def known_kind(module: nn.Module) -> Kind | None:
    """Return the kind of a module of a known class, else None.

    A subclass of a layer with filters has filters. A subclass of another class is not known by it: timm's
    `BatchNormAct2d` is a `BatchNorm2d`, and activates too.
    """
    if isinstance(module, MIXING):
        return Kind.MIXING
    return next((kind for kind in Kind if type(module) in kind.value), None)


def kind_by_class(module: nn.Module) -> Kind | None:
    """Return the kind of the first known class that a module inherits from, for modules that cannot be tried."""
    return next((kind for kind in Kind if isinstance(module, kind.value)), None)


def filters_in(layer: nn.Module) -> int:
    """Return the number of filters of a layer: the output channels of a convolution, the units of a dense layer."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def weights_of_first_input(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a view of a layer's weights: those by which each filter reads the first input channel, or the first of
    the filter's group.

    Returns:
        (groups, filters of a group, …): a convolution's weights are (filters, channels, …), those of a transposed one
        (channels, filters of a group, …), where the channels of the first group come first.
    """
    groups = int(getattr(layer, "groups", 1))
    by_group = weight.view(groups, -1, *weight.shape[1:])
    return by_group[:, 0] if isinstance(layer, nn.ConvTranspose2d) else by_group[:, :, 0]


def may_keep_channels(module: nn.Module, shape: torch.Size) -> bool:
    """Return whether a module of an unknown class could treat the channels of maps apart: it holds no layer that
    mixes them, and no weights with two sides, unless they are a number for each value of a map.

    Args:
        shape: the shape of the maps, (N, C, H, W) or (N, C).
    """
    if any(isinstance(inner, MIXING) for inner in module.modules()):
        return False
    tensors = (*module.parameters(), *module.buffers())
    return all(sum(side > 1 for side in one.shape) <= 1 or one.shape[-len(shape) + 1 :] == shape[1:] for one in tensors)


def tried_kind(module: nn.Module, maps_1CHW: Tensor) -> Kind | None:
    """Return the kind of a module, found by giving a copy of the module random maps.

    A module keeps channels apart if channel k of the output depends on channel k of the input alone. Such a module is
    an activation if it also treats each position alone and is not affine, normalising if it is affine, passing if it
    is the identity, and pooling if positions are mixed. A module whose output has the shape of the input and does not
    change with the scale of the input is normalising too, though it may mix channels.

    Args:
        maps_1CHW: maps that the module was given, (1, C, H, W) or (1, C): their shape, type and scale are tried.

    Returns:
        None where the module does something else with channels, fails on random maps, or cannot be copied.
    """
    try:
        tried = copy.deepcopy(module).eval()  # a copy, since a module may count its calls
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return _kind(lambda maps: tried(maps.clone()), maps_1CHW)
    except Exception:  # whatever the module's own code raises on maps that no layer gave
        return None


def noise_of(image_1CHW: Tensor) -> Tensor:
    """Return an image of noise, of the range of another image."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(image_1CHW.shape, generator=draw).to(image_1CHW)
    low, high = image_1CHW.min(), image_1CHW.max()
    return low + noise * torch.where(high > low, high - low, 1)


def _kind(apply: Callable[[Tensor], Tensor], maps_1CHW: Tensor) -> Kind | None:
    """Return the kind of a function of maps."""
    draw = torch.Generator().manual_seed(0)

    def random(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=draw).to(maps_1CHW)

    shape, positions = maps_1CHW.shape, maps_1CHW.shape[2:]
    scale = 3 * maps_1CHW.float().square().mean().sqrt().clamp(min=1).to(maps_1CHW)  # reaches where functions bend
    first, second = scale * random(shape), scale * random(shape)
    first_out, second_out = apply(first), apply(second)

    def apart(chosen: Tensor) -> bool:
        """Return whether the output at the chosen channels or positions is that of `first` alone, and elsewhere that
        of `second`."""
        return _close(apply(torch.where(chosen, first, second)), torch.where(chosen, first_out, second_out))

    halves = (torch.randperm(shape[1], generator=draw) < (shape[1] + 1) // 2 for _ in range(SPLITS))
    channels_apart = all(apart(half.to(maps_1CHW.device).view(1, -1, *[1] * len(positions))) for half in halves)
    if first_out.shape != shape:
        return Kind.POOLING if channels_apart else None
    if not channels_apart or not apart(random(torch.Size((1, 1, *positions))) > 0):
        mixes = Kind.POOLING if channels_apart else None
        return Kind.NORMALISING if _close(apply(10 * first), first_out) else mixes
    if torch.equal(first_out, first) and torch.equal(second_out, second):
        return Kind.PASSING
    affine = _close(apply((first + second) / 2), (first_out + second_out) / 2)
    return Kind.NORMALISING if affine else Kind.ACTIVATION


def _close(one: Tensor, other: Tensor) -> bool:
    """Return whether tensors are equal but for rounding."""
    bound = 1e-3 if one.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return one.shape == other.shape and torch.allclose(one, other, rtol=bound, atol=bound * float(other.abs().max()))
