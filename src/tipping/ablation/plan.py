"""Plan an ablation: which channels of which values are constant, which are intact, and which have to be computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, fx

from tipping.ablation.channels import Channels
from tipping.ablation.masks import replaced
from tipping.network import Graph, apply

if TYPE_CHECKING:
    from tipping.ablation.operations import Operation

TOGETHER = 16  # output channels that a convolution computes side by side: fewer take as long
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Ablation:
    """What an ablation does to the operations of a graph.

    Attributes:
        replaced: for operations after which filters are ablated, whether each channel is, and its constant: boolean
            (C,) and (C,), once for each layer.
        reweighted: for operations that call a layer, whether each output channel gets other weights, boolean (C,), and
            the weights of the layer.
    """

    replaced: Mapping[fx.Node, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    reweighted: Mapping[fx.Node, tuple[Tensor, Weights]] = field(default_factory=dict)

    def gone(self, node: fx.Node) -> np.ndarray | None:
        """Return which channels are ablated after an operation, boolean (C,); None where no filters are."""
        masks = [gone_C.cpu().numpy() for gone_C, _ in self.replaced.get(node, ())]
        return np.logical_or.reduce(masks) if masks else None


class Plan:
    """What of a graph has to be computed under an ablation.

    Attributes:
        channels: the channels of each value that the ablation reaches.
        computed: the channels that are computed of each such value that is needed: positions, in order.
        users: how many operations that are computed take each value.
        reads: the operations whose intact values are taken.
        by_change: the convolutions and dense layers whose intact output is changed by what differs in their input.
        filled: the convolutions and dense layers that give the constants of ablated filters among the other channels,
            and where these are ablated: what takes them adds all channels, and to put them together takes longer.
    """

    def __init__(self, graph: Graph, operations: Mapping[fx.Node, Operation], ablation: Ablation) -> None:
        self.graph, self.operations, self.ablation = graph, operations, ablation
        self.channels: dict[fx.Node, Channels] = {}
        self.computed: dict[fx.Node, np.ndarray] = {}
        self.users: Counter[fx.Node] = Counter()
        self.reads: set[fx.Node] = set()
        self.by_change: set[fx.Node] = set()
        self.filled: dict[fx.Node, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._reached = {*ablation.replaced, *ablation.reweighted}
        for node in graph.nodes:
            if not self._reached.isdisjoint(node.all_input_nodes):
                self._reached.add(node)
        self._follow()
        self._demand()

    def known(self, node: fx.Node) -> Channels:
        """Return the channels of an operation's value."""
        return self.channels.get(node) or Channels.all_intact(self.operations[node].width)

    def value(self, node: fx.Node) -> Any:
        """Return the value of an operation for the graph's two images, with the filters ablated by masks."""
        todo = [node]
        while todo:
            node = todo[-1]
            if node in self._values or node not in self._reached:
                todo.pop()
            elif missing := [one for one in node.all_input_nodes if one in self._reached and one not in self._values]:
                todo += missing
            else:
                self._values[todo.pop()] = self._masked(node)
        return self._values[node] if node in self._reached else self.graph.values[node]

    def _masked(self, node: fx.Node) -> Any:
        """Return the value of an operation whose inputs are there."""

        def given(one: fx.Node) -> Any:
            return self._values[one] if one in self._reached else self.graph.values[one]

        args, kwargs = self.graph.copied(node, fx.node.map_arg((node.args, node.kwargs), given))
        _, weights = self.ablation.reweighted.get(node, (None, None))
        value = apply(node, self.graph.modules.get(node), args, kwargs, weights)
        for gone_C, value_C in self.ablation.replaced.get(node, ()):
            value = replaced(value, gone_C, value_C)
        return value

    def _follow(self) -> None:
        """Find the channels of each value that the ablation reaches."""
        for node in self.graph.nodes:
            if node not in self.operations or node not in self._reached:
                continue
            operation = self.operations[node]
            reached = not self.channels.keys().isdisjoint(operation.inputs)
            again = self.ablation.reweighted.get(operation.layer)
            gone_C = self.ablation.gone(node)
            if not reached and again is None and gone_C is None:
                continue
            channels = operation.after(self) if reached else Channels.all_intact(operation.width)
            if again is not None:
                changed = again[0].cpu().numpy() if operation.mixes else np.ones(operation.width, dtype=bool)
                channels = Channels(channels.gone, channels.intact & ~changed)
            if gone_C is not None and self._fills(node, gone_C):
                self.filled[operation.inputs[0]] = node
            elif gone_C is not None:
                channels = Channels(channels.gone | gone_C, channels.intact & ~gone_C)
            self.channels[node] = channels

    def _fills(self, node: fx.Node, gone_C: np.ndarray) -> bool:
        """Return whether the layer before an operation may as well give the constants of filters ablated after it."""
        (source, *_), kept = self.operations[node].inputs, int((~gone_C).sum())
        layer = self.operations[source]
        return (
            layer.mixes
            and layer.groups == 1
            and source in self.channels
            and bool(self.channels[source].changed.all())
            and len(source.users) == 1
            and all(self.operations[user].adds for user in node.users if user in self.operations)
            and kept > 0
            and -(-kept // TOGETHER) == -(-len(gone_C) // TOGETHER)
        )

    def _demand(self) -> None:
        """Find what is computed, from the logits back."""
        need = {self.graph.output: np.ones(self.operations[self.graph.output].width, dtype=bool)}
        self._read(self.graph.output, need[self.graph.output])
        for node in reversed(self.channels):
            if node not in need:
                continue
            computed = need[node] & self.channels[node].changed
            self.computed[node] = computed.nonzero()[0]
            if not computed.any():
                continue
            operation = self.operations[node]
            for one, mask in zip(operation.inputs, operation.needs(computed, self), strict=True):
                self.users[one] += 1
                need[one] = need[one] | mask if one in need else mask
                self._read(one, mask)

    def _read(self, node: fx.Node, mask: np.ndarray) -> None:
        if node not in self.channels or bool((mask & self.channels[node].intact).any()):
            self.reads.add(node)


class WholePlan(Plan):
    """The plan by which the intact network is computed: all channels of all values."""

    def _follow(self) -> None:
        for node, operation in self.operations.items():
            self.channels[node] = Channels.all_changed(operation.width)
