"""The layers of a network's filters: weights, a row for each filter."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network import Filters


def weights_of_filters(filters: Filters) -> Iterator[Tensor]:
    """Yield the weights of each layer with filters, a row for each filter: (filters, inputs), in float64 on the CPU.

    A transposed convolution has its filters along its second axis, within each group.

    Raises:
        InputError: a layer has no plain weights.
    """
    for name in filters.index.layers:
        layer = filters.model.get_submodule(name)
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor):
            raise InputError(f"{name} has no plain weights; leave selectors by weights out")
        weight = weight.detach().double().cpu()
        if isinstance(layer, nn.ConvTranspose2d):
            grouped = weight.view(layer.groups, -1, *weight.shape[1:])  # (groups, inputs, filters of the group, H, W)
            weight = grouped.transpose(1, 2).flatten(0, 1)
        yield weight.flatten(1)
