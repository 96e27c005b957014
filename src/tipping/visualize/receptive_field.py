"""The part of an image on which values of a network's maps depend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.network import evaluating, hooked, keeping_maps
from tipping.visualize.rectifiers import HARDTANHS, RECTIFIERS, SATURATING
from tipping.visualize.rules import Replacing, Sides

Site = tuple[str, str]  # a layer, and the submodule that gives its maps


@dataclass(frozen=True)
class Field:
    """A receptive field.

    Attributes:
        rows, columns: the first row and column of the image in the field, and the first ones beyond the field.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]


def receptive_fields(
    model: nn.Module, image_1CHW: Tensor, site: Site, positions: Sequence[tuple[int, int]]
) -> list[Field]:
    """Find the parts of the image on which the values of a layer's maps depend at some positions.

    A signal is sent back through the network with equal positive weights, means in place of maxima, no activations and
    no normalisation. Unless the network subtracts maps, the signal cannot cancel: the pixels that it reaches are the
    receptive field. A normalisation by the statistics of an image depends on more, which is left out. Where the signal
    reaches no pixel, because an operation lets none back, the field is the whole image.

    Args:
        model: the network.
        image_1CHW: an image of the size in question; its values do not matter.
        site: the layer, and the submodule that gives its maps.
        positions: rows and columns of the maps.

    Returns:
        the receptive field of each position.
    """
    reached: list[Tensor] = []

    def hook(_: nn.Module, __: object, maps: Tensor) -> None:
        values_HW = maps.reshape(*maps.shape[:2], *sides(maps))[0].sum(0)
        reached[:] = [values_HW[position] for position in positions]

    with torch.inference_mode(False), evaluating(model), keeping_maps(), torch.enable_grad():
        image_1CHW = torch.ones_like(image_1CHW, dtype=next(model.parameters(), image_1CHW).dtype).requires_grad_()
        with Replacing(POSITIVE), hooked(model, [(*site, hook)]):
            model(image_1CHW.clone())
        signals = [torch.autograd.grad(value, image_1CHW, retain_graph=True)[0] for value in reached]
    return [_reached(signal_1CHW[0].sum(0)) for signal_1CHW in signals]


def sides(maps: Tensor) -> tuple[int, int]:
    """Return the height and width of maps (N, F, H, W); values (N, F) count as maps of one position."""
    return (1, 1) if maps.ndim == 2 else (maps.shape[2], maps.shape[3])


def _reached(signal_HW: Tensor) -> Field:
    rows, columns = signal_HW.nonzero(as_tuple=True)
    if not len(rows):
        return Field((0, signal_HW.shape[0]), (0, signal_HW.shape[1]))
    return Field((int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1))


class Span(NamedTuple):
    """The extent of receptive fields along one side of the image, also beyond the image.

    The field of position p of a map is the `size` pixels from start + stride · p on.
    """

    start: int
    stride: int
    size: int


def spans(model: nn.Module, image_1CHW: Tensor, site: Site, shape: tuple[int, int]) -> tuple[Span, Span]:
    """Find the rows and the columns on which a layer's maps of some shape depend.

    Both are derived from the receptive fields along the diagonal of the maps. They are the whole image where its
    borders cut off too much of the fields.

    Args:
        model, image_1CHW, site: as in `receptive_fields`.
        shape: the height and width of the maps.
    """
    length = max(shape)
    positions = [(min(p, shape[0] - 1), min(p, shape[1] - 1)) for p in range(length)]
    fields = receptive_fields(model, image_1CHW, site, positions)
    rows = _span([field.rows for field in fields[: shape[0]]], image_1CHW.shape[2])
    return rows, _span([field.columns for field in fields[: shape[1]]], image_1CHW.shape[3])


def _span(fields: Sequence[tuple[int, int]], side: int) -> Span:
    """Return the span of smallest stride that equals the field at each position within the image.

    The span is the whole image if there is none, or if every field may be cut off on both sides.
    """
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
    """Return whether a span equals a field at a position within the image."""
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
    window = tuple((size - 1) * apart + 1 for size, apart in sizes)  # a window that reaches as far as the dilated one
    return functional.avg_pool2d(input, window, stride or kernel_size, padding, ceil_mode)


def _mean_adaptive(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    return functional.adaptive_avg_pool2d(input, output_size)


def _left_out(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


def _pair(sides: Sides) -> tuple[int, ...]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)


ACTIVATIONS = (*RECTIFIERS, *SATURATING, *HARDTANHS)


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
