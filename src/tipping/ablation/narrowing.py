"""Run a chain without some of its filters, so that ablated filters are not computed at all.

An ablated filter's map is the same for every image. It stays so through modules that treat each map by itself. The next
convolution or dense layer is linear: constant input channels add a constant to its output. A narrower chain of the
remaining filters gives the rest.
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

SWAMPED = 16  # a difference has lost too many digits where what is subtracted exceeds this many times its result
TOGETHER = 16  # positions whose largest values are computed side by side
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pass:
    """The part of a chain that has to run under an ablation.

    Attributes:
        start: the position of the convolution or dense layer where the part begins; earlier maps are intact maps.
        first: a function that gives the output of this layer from the layer's intact input and, as a function, its
            intact output.
        rest: the steps after this layer.
        rounded: whether the logits may differ from those of the masked network by rounding.
    """

    start: int
    first: Callable[[Tensor, Callable[[], Tensor]], Tensor]
    rest: list[Step]
    rounded: bool = True


class Prefix:
    """The intact maps of some images along a chain, computed as far as they are needed, position by position."""

    def __init__(self, chain: Chain, images_NCHW: Tensor) -> None:
        self._modules, self._position = chain.modules, 0
        self._input = images_NCHW.clone()  # a copy: the first module may work in place
        self._output: Tensor | None = None

    def input(self, position: int) -> Tensor:
        """Return the input of the module at a position; afterwards, earlier positions are no longer available."""
        while self._position < position:
            self._input, self._output = self.output(), None
            self._position += 1
        return self._input

    def output(self) -> Tensor:
        """Return the output of the module at the current position."""
        if self._output is None:
            self._output = self._modules[self._position](self._input)
        return self._output

    def finish(self, narrow: Pass) -> Tensor:
        """Return the logits (N, C) under an ablation."""
        maps = narrow.first(self.input(narrow.start), self.output)
        for step in narrow.rest:
            maps = step(maps)
        return maps


def first_layer(chain: Chain, gone: Mapping[str, Tensor]) -> int:
    """Return the position in the chain of the first layer in `gone`; the chain's length where `gone` is empty."""
    return min((chain.layers[layer] for layer in gone), default=len(chain.modules))


def without(chain: Chain, gone: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Pass:
    """Return the pass of a chain in which whole filters are ablated.

    Args:
        gone: which channels are ablated, for each layer that loses any: boolean (C,).
        values: the constant of each channel when it is ablated, for each layer: (C,).
    """
    if not gone:
        return _intact(chain)
    site = min(chain.sites[layer] for layer in gone)
    start = next(position for position in chain.mixing if position > site)
    if any(bool(gone_C.all()) for gone_C in gone.values()):  # then the logits do not depend on the image
        logits_1C = _masked(chain, gone, values)
        return Pass(start, lambda maps, _: logits_1C.repeat(len(maps), 1), [])
    first, rest = None, []
    at_layer = {chain.layers[layer]: gone_C for layer, gone_C in gone.items()}
    at_site = {chain.sites[layer]: layer for layer in gone}
    channels: _Channels | None = None  # the channels of the current maps; None for all
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
    """Return the pass of a chain in which filters lose their bias and their weights of the first input channel.

    All layers keep their width; the pass begins at the first layer in `gone`.
    """
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
    """Return the logits (1, C) of a black image under an ablation by masks."""
    at_site = {chain.sites[layer]: layer for layer in gone}
    maps = torch.zeros_like(chain.image_1CHW)
    for position, module in enumerate(chain.modules):
        maps = module(maps)
        if position in at_site:
            maps = replaced(maps, gone[at_site[position]], values[at_site[position]])
    return maps


@dataclass(frozen=True)
class _Channels:
    """The channels of a layer whose maps are computed, and the constant maps of its other channels.

    Attributes:
        kept: the channels that are computed.
        removed: the channels with constant maps.
        constant: the constant maps, the same for every image: (1, R, H, W) for R removed channels.
        size: the number of features per channel once the maps are flattened; 1 before.
    """

    kept: Tensor
    removed: Tensor | None = None
    constant: Tensor | None = None
    size: int = 1

    @classmethod
    def at_site(cls, gone_C: Tensor, value_C: Tensor, shape: torch.Size) -> _Channels:
        """Return the channels at the site of a layer, where some are ablated to their constants."""
        kept, removed = (~gone_C).nonzero()[:, 0], gone_C.nonzero()[:, 0]
        constant = value_C[removed].view(1, -1, *[1] * (len(shape) - 2)).expand(1, -1, *shape[2:])
        return cls(kept, removed, constant.clone())  # a copy: a module may work in place

    def after(self, module: nn.Module, shape: torch.Size) -> _Channels:
        """Return the channels after a module that treats each channel by itself.

        Args:
            shape: the shape of the module's input.
        """
        constant = None if self.constant is None else _mapwise(module, self.removed, self.constant)
        size = shape[2:].numel() if type(module) is nn.Flatten and len(shape) > 2 else self.size
        return _Channels(self.kept, self.removed, constant, size)

    def pick(self, maps: Tensor, chosen: Tensor) -> Tensor:
        """Pick channels of maps or of a layer's weights, along dimension 1; both may be flattened."""
        if self.size == 1:
            return _pick(maps, chosen)
        return maps.view(len(maps), -1, self.size).index_select(1, chosen).flatten(1)


class _Mixing:
    """A convolution or dense layer that takes some input channels, and gives some of its output channels.

    Args:
        module: the layer.
        channels: the input channels; None for all.
        out: the output channels; None for all.
    """

    def __init__(self, module: nn.Module, channels: _Channels | None, out: Tensor | None) -> None:
        weight, bias = module.get_parameter("weight"), module.bias
        assert bias is None or isinstance(bias, Tensor)
        self.module, self.channels, self.out = module, channels, out
        self.weight = weight if out is None else weight[out]
        self.bias = bias if out is None or bias is None else bias[out]

    def from_narrow(self) -> Step:
        """Return the step that computes the output from the kept input channels."""
        if self.channels is None:
            return partial(_mix, self.module, weight=self.weight, bias=self.bias)
        weight = self._columns(self.channels.kept)
        shift = self._shift()
        if shift is None:
            return partial(_mix, self.module, weight=weight, bias=self.bias)
        bias = shift.reshape(*shift.shape[:2], -1)[0, :, 0]
        if bool((shift == bias.view(1, -1, *[1] * (shift.ndim - 2))).all()):  # equal all over the map, so a bias
            return partial(_mix, self.module, weight=weight, bias=bias if self.bias is None else bias + self.bias)
        return lambda maps: _mix(self.module, maps, weight, self.bias).add_(shift)

    def from_intact(self) -> Callable[[Tensor, Callable[[], Tensor]], Tensor]:
        """Return the function that computes the output from the intact input and output.

        Where fewer channels were removed than kept, it subtracts the share of the removed channels from the intact
        output; otherwise it computes the output from the kept channels.
        """
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
            if bool(lost_N.any()):  # images where the subtraction has lost digits
                result[lost_N] = self.from_narrow()(channels.pick(maps[lost_N], channels.kept))
            return result

        return first

    def _columns(self, chosen: Tensor) -> Tensor:
        assert self.channels is not None
        return self.channels.pick(self.weight, chosen)

    def _shift(self) -> Tensor | None:
        """Return what the constant input channels add to the output; None where they add nothing."""
        assert self.channels is not None
        constant, removed = self.channels.constant, self.channels.removed
        if constant is None or removed is None or not bool(constant.any()):
            return None
        return _mix(self.module, constant, self._columns(removed), None)


def _largest(maps: Tensor) -> Tensor:
    """Return the largest magnitude in each channel of each image: (N, C); NaN where a channel holds NaN.

    Each channel counts by itself, since later layers may bring channels to one scale. Several positions are compared at
    a time, without absolute values: this is several times as fast as ``maps.abs().amax``.
    """
    last = maps.movedim(1, -1).contiguous()
    count, channels = len(maps), maps.shape[1]
    positions = math.prod(last.shape[1:-1])
    together = math.gcd(positions, TOGETHER)
    rows = last.view(count, positions // together, together * channels)
    return torch.maximum(rows.amax(1), -rows.amin(1)).view(count, together, channels).amax(1)


def _pick(maps: Tensor, chosen: Tensor) -> Tensor:
    """Pick channels along dimension 1, in channels-last order: several times as fast as indexing."""
    last = maps.movedim(1, -1).contiguous()
    rows = last.view(-1, last.shape[-1])
    return rows.gather(1, chosen.expand(len(rows), -1)).view(*last.shape[:-1], -1).movedim(-1, 1)


def _mix(module: nn.Module, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the output of a convolution or dense layer under other weights."""
    if isinstance(module, nn.Conv2d):
        return module._conv_forward(maps, weight, bias)
    return functional.linear(maps, weight, bias)


def _mapwise(module: nn.Module, channels: Tensor | None, maps: Tensor) -> Tensor:
    """Return the output, for some channels, of a module that treats each channel by itself; may overwrite the maps."""
    if type(module) is nn.ReLU:
        return maps.relu_()
    if isinstance(module, nn.BatchNorm2d) and channels is not None:
        given = (module.running_mean, module.running_var, module.weight, module.bias)
        mean, variance, weight, bias = (None if tensor is None else tensor[channels] for tensor in given)
        return functional.batch_norm(maps, mean, variance, weight, bias, training=False, eps=module.eps)
    result: Tensor = module(maps)
    return result
