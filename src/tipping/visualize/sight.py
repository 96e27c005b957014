"""What filters see: signals sent back from their maps to images, and the part of an image that a value depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tipping.config import SEEDS
from tipping.layers import Hook, evaluating, hooked
from tipping.visualize.rules import RELUS, RELUS_IN_PLACE, Replacing, Sides, backward_rule

TOGETHER = 64  # images sent through a network at once
Site = tuple[str, str]  # a layer, and the submodule that gives its maps


@dataclass(frozen=True)
class Sight:
    """B images, and what one filter makes of each.

    Attributes:
        signals_BCHW: what came back at the images.
        maps: of each, the filter's map (H, W); of a dense unit, its value as a map of one position.
    """

    signals_BCHW: Tensor
    maps: list[Tensor]

    @property
    def peaks(self) -> list[tuple[int, int]]:
        """Row and column of each map's largest magnitude."""
        return [divmod(int(maps_HW.abs().argmax()), maps_HW.shape[1]) for maps_HW in self.maps]


def look(
    model: nn.Module,
    images_BCHW: Tensor,
    filters: Sequence[tuple[Site, int]],
    *,
    rule: str = "guided",
    seed: str = "map",
    resample: str = "nearest",
    pooling: bool = False,
) -> Sight:
    """Send a signal back from one filter's map to each image.

    The signal that starts at a map a is a itself (`map`), or its value of largest magnitude, at its position, and zero
    elsewhere (`maximum`): a filter that does not respond leaves its image black. A layer that is used more than once
    sends it from its last use.

    Args:
        filters: for each image, where the filter's map is and its channel there.
        rule, resample, pooling: as in `backward_rule`.

    Raises:
        ValueError: unknown rule, seed or resampling; no image, or not a filter for each; a layer or channel that is not
            there, or not on the way of the images.
    """
    if seed not in SEEDS:
        raise ValueError(f"seed must be one of {', '.join(SEEDS)}, got {seed!r}")
    if not len(images_BCHW) or len(images_BCHW) != len(filters):
        raise ValueError(f"there must be one filter for each image, got {len(images_BCHW)} and {len(filters)}")
    names = {name for name, _ in model.named_modules()}
    if unknown := [name for site, _ in filters for name in site if name not in names]:
        raise ValueError(f"the network has no {unknown[0]}")
    with torch.inference_mode(False), evaluating(model), backward_rule(rule, resample, pooling):
        starts = range(0, len(images_BCHW), TOGETHER)
        parts = [
            _look(model, images_BCHW[start : start + TOGETHER], filters[start : start + TOGETHER], seed)
            for start in tqdm(starts, desc="signals", leave=False, disable=None)
        ]
    return Sight(torch.cat([part.signals_BCHW for part in parts]), [maps for part in parts for maps in part.maps])


def _look(model: nn.Module, images_BCHW: Tensor, filters: Sequence[tuple[Site, int]], seed: str) -> Sight:
    maps: dict[int, Tensor] = {}
    starts: dict[Site, Tensor] = {}

    def sending(site: Site) -> Hook:
        rows = [row for row, (other, _) in enumerate(filters) if other == site]
        channels = [filters[row][1] for row in rows]

        def hook(_: nn.Module, __: object, maps_NCHW: Tensor) -> None:
            for channel in channels:
                if not 0 <= channel < maps_NCHW.shape[1]:
                    raise ValueError(f"{site[0]} has {maps_NCHW.shape[1]} filters, no channel {channel}")
            mine = maps_NCHW.reshape(*maps_NCHW.shape[:2], *_sides(maps_NCHW))[rows, channels]
            maps.update(zip(rows, mine.detach().clone(), strict=True))
            flat = mine.flatten(1)
            sent = flat if seed == "map" else flat.gather(1, flat.abs().argmax(1, keepdim=True))
            starts[site] = sent.square().sum() / 2  # whose gradient is what is sent

        return hook

    images_BCHW = images_BCHW.detach().clone().requires_grad_()
    with torch.enable_grad(), hooked(model, [(*site, sending(site)) for site in dict.fromkeys(s for s, _ in filters)]):
        model(images_BCHW.clone())  # its first module may work in place
    if missed := [site[0] for site, _ in filters if site not in starts]:
        raise ValueError(f"{missed[0]} is not on the way of the images")
    (signals_BCHW,) = torch.autograd.grad(sum(starts.values(), torch.zeros(())), images_BCHW)
    return Sight(signals_BCHW, [maps[row] for row in range(len(filters))])


def _sides(maps: Tensor) -> tuple[int, int]:
    return (1, 1) if maps.ndim == 2 else (maps.shape[2], maps.shape[3])


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
    """The part of the image on which the values of a layer's maps at some positions depend.

    Found by sending a signal back through the network with its weights all alike and positive, means in place of
    maxima, no activations and no normalisation: unless the network subtracts maps, it cannot cancel, and what it
    reaches is the receptive field. What a normalisation by an image's own statistics depends on beyond that is left
    out; where nothing is reached, as through operations that let no such signal back, it is the whole image.
    """
    reached: list[Tensor] = []

    def hook(_: nn.Module, __: object, maps: Tensor) -> None:
        values_HW = maps.reshape(*maps.shape[:2], *_sides(maps))[0].sum(0)
        reached[:] = [values_HW[position] for position in positions]

    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        image_1CHW = torch.ones_like(image_1CHW, dtype=next(model.parameters(), image_1CHW).dtype).requires_grad_()
        with Replacing(POSITIVE), hooked(model, [(*site, hook)]):
            model(image_1CHW.clone())
        signals = [torch.autograd.grad(value, image_1CHW, retain_graph=True)[0] for value in reached]
    return [_reached(signal_1CHW[0].sum(0)) for signal_1CHW in signals]


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
    """The rows and the columns on which a layer's maps of some shape depend, from the receptive fields along their
    diagonal; the whole image where its borders cut off too much of these to tell."""
    length = max(shape)
    positions = [(min(p, shape[0] - 1), min(p, shape[1] - 1)) for p in range(length)]
    fields = receptive_fields(model, image_1CHW, site, positions)
    rows = _span([(field.top, field.bottom) for field in fields[: shape[0]]], image_1CHW.shape[2])
    return rows, _span([(field.left, field.right) for field in fields[: shape[1]]], image_1CHW.shape[3])


def _span(fields: Sequence[tuple[int, int]], side: int) -> Span:
    """The span that is the field at each position, as far as that lies in the image; of several, that of the smallest
    stride; the whole image if there is none, or if it may be cut off on both sides everywhere."""
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
    """Whether a span is a field at a position, as far as it lies in the image."""
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
