"""Operations that move numbers and leave them as they are: flattening, reshaping, slices, shuffles of channels."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

from tipping.ablation.channels import Channels
from tipping.ablation.operations import Operation, Step, plain
from tipping.network import Graph, apply

if TYPE_CHECKING:
    from tipping.ablation.narrowing import Maker
    from tipping.ablation.plan import Plan

METHODS = (
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "contiguous"),
    *("squeeze", "unsqueeze", "chunk", "split", "narrow"),
)
FUNCTIONS = (operator.getitem, *(getattr(torch, name) for name in METHODS if hasattr(torch, name)))
MODULES = (nn.Flatten, nn.Unflatten, nn.ChannelShuffle)


class Numbers(NamedTuple):
    """Where the numbers of a value come from.

    Attributes:
        source: the operation in whose value they are.
        positions: their positions in that value for the graph's two images; several tensors where there are several.
    """

    source: fx.Node
    positions: Any


def numbers_moved(graph: Graph, node: fx.Node, moved: Mapping[fx.Node, Numbers]) -> Numbers | None:
    """Return where the numbers of an operation's value come from; None unless it only moves them.

    Args:
        moved: the same of earlier operations whose values are not given by whole channels.
    """
    module, given = graph.modules.get(node), node.args[0] if node.args else None
    known = (
        (node.op == "call_method" and node.target in METHODS)
        or (node.op == "call_function" and node.target in FUNCTIONS)
        or (type(module) in MODULES and module is not None and plain(module))
    )
    if not known or not isinstance(given, fx.Node) or given in graph.fixed:
        return None
    if given in moved:
        before = moved[given]
    elif given in graph.maps:
        value = graph.values[given]
        before = Numbers(given, torch.arange(value.numel(), device=value.device).view(value.shape))
    else:
        return None

    def value_of(one: fx.Node) -> Any:
        return before.positions if one is given else graph.values[one]

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
    return Numbers(before.source, apply(node, module, args, kwargs))


class Movement(Operation):
    """An operation whose channels are channels of its input, or, if it flattens them, numbers of these.

    Attributes:
        origin: the channel of the input that each channel comes from.
        size: how many numbers a channel of the input is flattened into; 1 where it stays a channel.
    """

    def __init__(self, graph: Graph, node: fx.Node, source: fx.Node, origin: np.ndarray, size: int) -> None:
        super().__init__(graph, node, (source,))
        self.origin, self.size = origin, size

    @classmethod
    def through(cls, graph: Graph, node: fx.Node, numbers: Numbers) -> Movement | None:
        """Return the operation for an operation's numbers; None where it does something else with channels."""
        positions, shape = numbers.positions, graph.values[numbers.source].shape
        if node not in graph.maps or not isinstance(positions, Tensor):
            return None
        each = shape[1:].numel()
        first, second = positions.cpu()
        if not torch.equal(first + each, second):
            return None
        place = shape[2:].numel()
        rows = first.reshape(len(first), -1)
        if rows.shape[1] == place:  # channels stay whole
            origin = rows[:, 0] // place
            if not torch.equal(rows, origin[:, None] * place + torch.arange(place)):
                return None
            return cls(graph, node, numbers.source, origin.numpy(), 1)
        if rows.shape[1] > 1 or first.numel() % place:
            return None
        origin = first.reshape(-1, place)[:, 0] // place
        if not torch.equal(first.reshape(-1, place), origin[:, None] * place + torch.arange(place)):
            return None
        return cls(graph, node, numbers.source, origin.repeat_interleave(place).numpy(), place)

    def after(self, plan: Plan) -> Channels:
        """Return the channels where they have been moved."""
        return Channels(*(mask[self.origin] for mask in plan.known(self.inputs[0])))

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return the channels that the computed ones come from."""
        mask = np.zeros(plan.operations[self.inputs[0]].width, dtype=bool)
        mask[self.origin[computed]] = True
        return [mask]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that moves some channels."""
        if self.size == 1:
            maps, sides = maker.take(self.inputs[0], self.origin[wanted]), self.shape[2:]
            get = maps.get
            if self.graph.values[self.inputs[0]].shape[2:] == sides:
                maker.owned[self.node] = maps.fresh
                return get
            return lambda state: (maps := get(state)).reshape(*maps.shape[:2], *sides)
        channels = np.unique(self.origin[wanted])
        places = np.searchsorted(channels, self.origin[wanted]) * self.size + wanted % self.size
        get = maker.take(self.inputs[0], channels).get
        if np.array_equal(places, np.arange(len(channels) * self.size)):
            return lambda state: get(state).flatten(1)
        chosen = maker.index(places)
        return lambda state: get(state).flatten(1).index_select(1, chosen)
