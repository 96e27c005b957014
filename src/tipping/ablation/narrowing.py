"""Passes of a chain without some of its filters, which do not compute these at all.

An ablated filter's map is the same for every image, and so is all that modules which treat each map by itself make of
it; the next convolution or dense layer, being linear, adds the constant part of its input to its output. What is left
is a narrower chain of the remaining filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation.masks import replaced, weights_without_first_input
from tipping.network import MIXING, Chain

SWAMPED = (
    16  # times an image's largest value left in a channel, beyond which taking off the rest has lost too many digits
)
TOGETHER = 16  # positions whose largest values are looked for side by side
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pass:
    """What an ablation leaves to compute.

    Attributes:
        start: position of the convolution or dense layer it begins at, up to which the network is intact.
        first: makes that module's output from its input and its output in the intact network.
        rest: the modules after it.
        rounded: whether its logits may differ from those of the masked network by rounding.
    """

    start: int
    first: Callable[[Tensor, Callable[[], Tensor]], Tensor]
    rest: list[Step]
    rounded: bool = True


class Prefix:
    """The intact network's maps of some images, computed only as far as they are asked for, in rising order."""

    def __init__(self, chain: Chain, images_NCHW: Tensor) -> None:
        self._modules, self._position = chain.modules, 0
        self._input = images_NCHW.clone()  # a first module may work in place
        self._output: Tensor | None = None

    def input(self, position: int) -> Tensor:
        """Return what the module at a position gets; earlier positions can no longer be asked for."""
        while self._position < position:
            self._input, self._output = self.output(), None
            self._position += 1
        return self._input

    def output(self) -> Tensor:
        """Return what the module asked for last gives."""
        if self._output is None:
            self._output = self._modules[self._position](self._input)
        return self._output

    def finish(self, narrow: Pass) -> Tensor:
        """Return the logits under an ablation."""
        maps = narrow.first(self.input(narrow.start), self.output)
        for step in narrow.rest:
            maps = step(maps)
        return maps


def first_layer(chain: Chain, gone: Mapping[str, Tensor]) -> int:
    """Position of the first filter layer among these; that of the end for none."""
    return min((chain.layers[layer] for layer in gone), default=len(chain.modules))


def without(chain: Chain, gone: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Pass:
    """Return the pass of an ablation of whole filters.

    Args:
        gone: which channels of each layer that loses some are ablated: boolean (C,).
        values: what the maps of each layer's channels consist of when ablated: (C,).
    """
    if not gone:
        return _intact(chain)
    site = min(chain.sites[layer] for layer in gone)
    start = next(position for position in chain.mixing if position > site)
    if any(bool(gone_C.all()) for gone_C in gone.values()):  # behind such a layer, nothing is left of the image
        logits_1C = _masked(chain, gone, values)
        return Pass(start, lambda maps, _: logits_1C.repeat(len(maps), 1), [])
    first, rest = None, []
    at_layer = {chain.layers[layer]: gone_C for layer, gone_C in gone.items()}
    at_site = {chain.sites[layer]: layer for layer in gone}
    channels: _Channels | None = None  # those that the maps consist of; None for all
    for position in range(site, len(chain.modules)):
        module = chain.modules[position]
        if position >= start and type(module) in MIXING:
            out = (~at_layer[position]).nonzero()[:, 0] if position in at_layer else None
            mixing = _Mixing(module, channels, out)
            if position == start:
                first = mixing.from_intact()
            else:
                rest.append(mixing.from_narrow())
            channels = None if out is None else _Channels(out)
        elif position > site:
            if position > start:
                rest.append(partial(_mapwise, module, None if channels is None else channels.kept))
            if channels is not None:
                channels = channels.after(module, chain.shapes[position - 1])
        if position in at_site:
            layer = at_site[position]
            channels = _Channels.at_site(gone[layer], values[layer], chain.shapes[position])
    assert first is not None
    return Pass(start, first, rest)


def without_first_input(chain: Chain, gone: Mapping[str, Tensor]) -> Pass:
    """Return the pass of an ablation of filters' first input channels: full width, from the first layer concerned."""
    if not gone:
        return _intact(chain)
    steps: list[Step] = list(chain.modules)
    all_changed = {}
    for layer, gone_C in gone.items():
        module = chain.modules[chain.layers[layer]]
        changed = all_changed[layer] = weights_without_first_input(module, gone_C)
        steps[chain.layers[layer]] = partial(_mix, module, weight=changed["weight"], bias=changed.get("bias"))
    layer = min(gone, key=chain.layers.__getitem__)
    start, rows = chain.layers[layer], gone[layer].nonzero()[:, 0]
    changed = {name: tensor[rows] for name, tensor in all_changed[layer].items()}

    def first(maps: Tensor, output: Callable[[], Tensor]) -> Tensor:
        few = _mix(chain.modules[start], maps, changed["weight"], changed.get("bias"))
        return output().index_copy(1, rows, few)

    return Pass(start, first, steps[start + 1 :])


def _intact(chain: Chain) -> Pass:
    last = chain.mixing[-1]
    return Pass(last, lambda _, output: output(), list(chain.modules[last + 1 :]), rounded=False)


def _masked(chain: Chain, gone: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of an ablation for a black image, with masks."""
    at_site = {chain.sites[layer]: layer for layer in gone}
    maps = torch.zeros_like(chain.image_1CHW)
    for position, module in enumerate(chain.modules):
        maps = module(maps)
        if position in at_site:
            maps = replaced(maps, gone[at_site[position]], values[at_site[position]])
    return maps


@dataclass(frozen=True)
class _Channels:
    """Maps that consist of some of a layer's channels, and of the constant maps of the others.

    Attributes:
        kept: the channels that are computed.
        removed: the others, at which the constants are.
        constant: their maps, the same for every image: (1, R, H, W).
        size: features for each channel, once the maps are flattened.
    """

    kept: Tensor
    removed: Tensor | None = None
    constant: Tensor | None = None
    size: int = 1

    @classmethod
    def at_site(cls, gone_C: Tensor, value_C: Tensor, shape: torch.Size) -> _Channels:
        kept, removed = (~gone_C).nonzero()[:, 0], gone_C.nonzero()[:, 0]
        constant = value_C[removed].view(1, -1, *[1] * (len(shape) - 2)).expand(1, -1, *shape[2:])
        return cls(kept, removed, constant.clone())  # a module may work in place

    def after(self, module: nn.Module, shape: torch.Size) -> _Channels:
        """Return the channels a module that treats each by itself makes of these, whose shape was this."""
        constant = None if self.constant is None else _mapwise(module, self.removed, self.constant)
        size = shape[2:].numel() if type(module) is nn.Flatten and len(shape) > 2 else self.size
        return _Channels(self.kept, self.removed, constant, size)

    def pick(self, maps: Tensor, chosen: Tensor) -> Tensor:
        """Pick channels, which may be flattened, of maps or of a layer's weights: along dimension 1."""
        if self.size == 1:
            return _pick(maps, chosen)
        return maps.view(len(maps), -1, self.size).index_select(1, chosen).flatten(1)


class _Mixing:
    """A convolution or dense layer whose input consists of some channels, and that gives some of its own.

    Args:
        module: the layer.
        channels: its input's; None for all.
        out: the channels it gives; None for all.
    """

    def __init__(self, module: nn.Module, channels: _Channels | None, out: Tensor | None) -> None:
        weight, bias = module.get_parameter("weight"), module.bias
        assert bias is None or isinstance(bias, Tensor)
        self.module, self.channels, self.out = module, channels, out
        self.weight = weight if out is None else weight[out]
        self.bias = bias if out is None or bias is None else bias[out]

    def from_narrow(self) -> Step:
        """From the kept channels of the input."""
        if self.channels is None:
            return partial(_mix, self.module, weight=self.weight, bias=self.bias)
        weight = self._columns(self.channels.kept)
        shift = self._shift()
        if shift is None:
            return partial(_mix, self.module, weight=weight, bias=self.bias)
        bias = shift.reshape(*shift.shape[:2], -1)[0, :, 0]
        if bool((shift == bias.view(1, -1, *[1] * (shift.ndim - 2))).all()):  # the same all over the map: a bias
            return partial(_mix, self.module, weight=weight, bias=bias if self.bias is None else bias + self.bias)
        return lambda maps: _mix(self.module, maps, weight, self.bias).add_(shift)

    def from_intact(self) -> Callable[[Tensor, Callable[[], Tensor]], Tensor]:
        """From all channels of the intact input; or, where fewer were removed than kept, from the intact output less
        their share of it."""
        channels = self.channels
        assert channels is not None
        removed, constant, out = channels.removed, channels.constant, self.out
        assert removed is not None
        assert constant is not None
        if len(removed) >= len(channels.kept):
            narrow = self.from_narrow()
            return lambda maps, _: narrow(channels.pick(maps, channels.kept))
        weight = self._columns(removed)

        def first(maps: Tensor, output: Callable[[], Tensor]) -> Tensor:
            change = _mix(self.module, constant - channels.pick(maps, removed), weight, None)
            result = change + (output() if out is None else _pick(output(), out))
            largest_NC = _largest(result)
            lost_N = ~((_largest(change) <= SWAMPED * largest_NC) & largest_NC.isfinite()).all(1)
            if bool(lost_N.any()):  # images whose difference has lost its digits
                result[lost_N] = self.from_narrow()(channels.pick(maps[lost_N], channels.kept))
            return result

        return first

    def _columns(self, chosen: Tensor) -> Tensor:
        assert self.channels is not None
        return self.channels.pick(self.weight, chosen)

    def _shift(self) -> Tensor | None:
        """Return what the constant part of the input adds to the output; None for nothing."""
        assert self.channels is not None
        constant, removed = self.channels.constant, self.channels.removed
        if constant is None or removed is None or not bool(constant.any()):
            return None
        return _mix(self.module, constant, self._columns(removed), None)


def _largest(maps: Tensor) -> Tensor:
    """Return the largest magnitude in each channel of each image, which later layers may bring to one scale; NaN if
    there is one.

    Several positions at a time, and no absolute values: several times as fast as ``maps.abs().amax``.
    """
    last = maps.movedim(1, -1).contiguous()
    count, channels = len(maps), maps.shape[1]
    positions = math.prod(last.shape[1:-1])
    together = math.gcd(positions, TOGETHER)
    rows = last.view(count, positions // together, together * channels)
    return torch.maximum(rows.amax(1), -rows.amin(1)).view(count, together, channels).amax(1)


def _pick(maps: Tensor, chosen: Tensor) -> Tensor:
    """Pick channels, along dimension 1, in channels-last order; several times as fast as indexing."""
    last = maps.movedim(1, -1).contiguous()
    rows = last.view(-1, last.shape[-1])
    return rows.gather(1, chosen.expand(len(rows), -1)).view(*last.shape[:-1], -1).movedim(-1, 1)


def _mix(module: nn.Module, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what a convolution or dense layer with other weights gives."""
    if isinstance(module, nn.Conv2d):
        return module._conv_forward(maps, weight, bias)
    return functional.linear(maps, weight, bias)


def _mapwise(module: nn.Module, channels: Tensor | None, maps: Tensor) -> Tensor:
    """Return what a module that treats each channel by itself makes of some channels; it may overwrite them."""
    if type(module) is nn.ReLU:
        return maps.relu_()
    if isinstance(module, nn.BatchNorm2d) and channels is not None:
        given = (module.running_mean, module.running_var, module.weight, module.bias)
        mean, variance, weight, bias = (None if tensor is None else tensor[channels] for tensor in given)
        return functional.batch_norm(maps, mean, variance, weight, bias, training=False, eps=module.eps)
    result: Tensor = module(maps)
    return result
