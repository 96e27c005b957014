"""The part of an image on which values of a network's maps depend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.network import evaluating, hooked
from tipping.visualize.rules import RELUS, RELUS_IN_PLACE, Replacing, Sides

Site = tuple[str, str]  # a layer, and the submodule that gives its maps


@dataclass(frozen=True)
class Field:
    """A receptive field: rows [top, bottom) and columns [left, right) of the image."""

    top: int
    bottom: int
    left: int
    right: int


def receptive_fields(
    model: nn.Module, image_1CHW: Tensor, site: Site, positions: Sequence[tuple[int, int]]
) -> list[Field]:
    """Return the part of the image on which the values of a layer's maps at some positions depend.

    Found by sending a signal back through the network with its weights all alike and positive, means in place of
    maxima, no activations and no normalisation: unless the network subtracts maps, it cannot cancel, and what it
    reaches is the receptive field. What a normalisation by an image's own statistics depends on beyond that is left
    out; where nothing is reached, as through operations that let no such signal back, it is the whole image.
    """
    reached: list[Tensor] = []

    def hook(_: nn.Module, __: object, maps: Tensor) -> None:
        values_HW = maps.reshape(*maps.shape[:2], *sides(maps))[0].sum(0)
        reached[:] = [values_HW[position] for position in positions]

    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        image_1CHW = torch.ones_like(image_1CHW, dtype=next(model.parameters(), image_1CHW).dtype).requires_grad_()
        with Replacing(POSITIVE), hooked(model, [(*site, hook)]):
            model(image_1CHW.clone())
        signals = [torch.autograd.grad(value, image_1CHW, retain_graph=True)[0] for value in reached]
    return [_reached(signal_1CHW[0].sum(0)) for signal_1CHW in signals]


def sides(maps: Tensor) -> tuple[int, int]:
    """Return height and width of maps (N, F, H, W), or of values (N, F) as maps of one position."""
    return (1, 1) if maps.ndim == 2 else (maps.shape[2], maps.shape[3])


def _reached(signal_HW: Tensor) -> Field:
    rows, columns = signal_HW.nonzero(as_tuple=True)
    if not len(rows):
        return Field(0, signal_HW.shape[0], 0, signal_HW.shape[1])
    return Field(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)


class Span(NamedTuple):
    """Along one side of the image, what the values at position p of a map depend on, whole also beyond the image.

    It is the `size` pixels from start + stride · p on.
    """

    start: int
    stride: int
    size: int


def spans(model: nn.Module, image_1CHW: Tensor, site: Site, shape: tuple[int, int]) -> tuple[Span, Span]:
    """Return the rows and the columns on which a layer's maps of some shape depend, from the receptive fields along
    their diagonal; the whole image where its borders cut off too much of these to tell."""
    length = max(shape)
    positions = [(min(p, shape[0] - 1), min(p, shape[1] - 1)) for p in range(length)]
    fields = receptive_fields(model, image_1CHW, site, positions)
    rows = _span([(field.top, field.bottom) for field in fields[: shape[0]]], image_1CHW.shape[2])
    return rows, _span([(field.left, field.right) for field in fields[: shape[1]]], image_1CHW.shape[3])


def _span(fields: Sequence[tuple[int, int]], side: int) -> Span:
    """Return the span that is the field at each position, as far as that lies in the image; of several, that of the
    smallest stride; the whole image if there is none, or if it may be cut off on both sides everywhere."""
    if len(fields) == 1:
        return Span(fields[0][0], 0, fields[0][1] - fields[0][0])
    starts = [(p, start) for p, (start, _) in enumerate(fields) if start > 0]
    ends = [(p, end) for p, (_, end) in enumerate(fields) if end < side]
    for stride in range(1, side + 1) if starts and ends else ():
        first = starts[-1][1] - stride * starts[-1][0]
        span = Span(first, stride, ends[0][1] - stride * ends[0][0] - first)
        if all(_holds(span, p, field, side) for p, field in enumerate(fields)):
            return span
    return Span(0, 0, side)


def _holds(span: Span, position: int, field: tuple[int, int], side: int) -> bool:
    """Return whether a span is a field at a position, as far as it lies in the image."""
    start = span.start + span.stride * position
    return (max(0, start), min(side, start + span.size)) == field


def _alike_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, *shape: Any, **named: Any
) -> Tensor:
    alike = torch.full_like(weight, 1 / weight[0].numel(), dtype=input.dtype)
    return functional.conv2d(input, alike, None, stride, *shape, **named)


def _alike_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return input.mean(-1, keepdim=True).expand(*input.shape[:-1], len(weight))


def _mean_pool2d(
    input: Tensor,
    kernel_size: Sides,
    stride: Sides | None = None,
    padding: Sides = 0,
    dilation: Sides = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    sizes = zip(_pair(kernel_size), _pair(dilation), strict=True)
    window = tuple((size - 1) * apart + 1 for size, apart in sizes)  # dilated, it reaches as far
    return functional.avg_pool2d(input, window, stride or kernel_size, padding, ceil_mode)


def _mean_adaptive(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    return functional.adaptive_avg_pool2d(input, output_size)


def _left_out(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


def _pair(sides: Sides) -> tuple[int, ...]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)


ACTIVATIONS = (
    *(*RELUS, *RELUS_IN_PLACE, functional.relu6, functional.leaky_relu),
    *(functional.prelu, functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu),
    *(functional.mish, functional.sigmoid, torch.sigmoid, Tensor.sigmoid, functional.tanh, torch.tanh, Tensor.tanh),
    *(functional.softplus, functional.softsign, functional.hardtanh, functional.hardswish, functional.hardsigmoid),
)


POSITIVE: dict[Any, Callable[..., Tensor]] = {
    functional.conv2d: _alike_conv2d,
    functional.linear: _alike_linear,
    functional.max_pool2d: _mean_pool2d,
    torch.max_pool2d: _mean_pool2d,
    functional.adaptive_max_pool2d: _mean_adaptive,
    **dict.fromkeys(ACTIVATIONS, _left_out),
    functional.batch_norm: _left_out,
    functional.group_norm: _left_out,
    functional.instance_norm: _left_out,
    functional.layer_norm: _left_out,
}
