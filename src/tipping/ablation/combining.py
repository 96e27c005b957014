"""Operations that combine values: number by number, or side by side."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from tipping.ablation.channels import Channels
from tipping.ablation.operations import Operation, Step, called_name, calls
from tipping.network import Graph

if TYPE_CHECKING:
    from tipping.ablation.narrowing import Maker
    from tipping.ablation.plan import Plan

COMBINING = ("add", "sub", "mul", "div", "truediv", "maximum", "minimum")
ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    **{"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv},
    "truediv": operator.truediv,
}


class Elementwise(Operation):
    """A sum, difference, product or quotient, number by number, of maps with maps, gates or constants."""

    adds = True
    fresh = True

    def __init__(self, graph: Graph, node: fx.Node) -> None:
        super().__init__(graph, node, [one for one in node.all_input_nodes if one not in graph.fixed])
        self.name = called_name(node).removeprefix("i") if node.target in IN_PLACE else called_name(node)

    @staticmethod
    def fits(graph: Graph, node: fx.Node) -> bool:
        """Return whether an operation is known to be of this kind."""
        if node not in graph.maps or len(node.args) != 2 or not calls(node, COMBINING):
            return False
        if any(isinstance(value, fx.Node) for value in node.kwargs.values()):
            return False
        shape = graph.values[node].shape
        return all(_fits_in(graph, one, shape) for one in node.args) and any(
            one in graph.maps and one not in graph.fixed and graph.values[one].shape[1] == shape[1]
            for one in node.all_input_nodes
        )

    def after(self, plan: Plan) -> Channels:
        """Return the channels of the value: constant where all operands are, or a factor is 0 for every image."""
        given = [plan.known(one) for one in self.inputs]
        gone = np.logical_and.reduce([np.broadcast_to(one.gone, self.width) for one in given])
        if self.name == "mul":
            for node, channels in zip(self.inputs, given, strict=True):
                if (channels.gone & ~gone).any():
                    zero = (plan.value(node)[0] == 0).flatten(1).all(1).cpu().numpy()
                    gone = gone | (channels.gone & zero)
        intact = np.logical_and.reduce([np.broadcast_to(one.intact, self.width) for one in given])
        return Channels(gone, intact & ~gone)

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return the same channels of all operands."""
        widths = [plan.operations[one].width for one in self.inputs]
        return [computed if width == self.width else np.ones(1, dtype=bool) for width in widths]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that combines some channels."""
        first, second = (self._operand(maker, one, wanted) for one in self.node.args)
        kwargs, name = dict(self.node.kwargs), self.name
        if name in ("add", "mul") and not kwargs and not first[1] and second[1]:
            first, second = second, first
        get, other = first[0], second[0]
        if first[1] and name in ("add", "sub", "mul"):
            return lambda state: getattr(get(state), f"{name}_")(other(state), **kwargs)
        function = ARITHMETIC[name] if name in ARITHMETIC and not kwargs else getattr(torch, name)
        return lambda state: function(get(state), other(state), **kwargs)

    def _operand(self, maker: Maker, one: Any, wanted: np.ndarray) -> tuple[Step, bool]:
        """Return the step that gives an operand, and whether the result may be written into it."""
        if isinstance(one, fx.Node) and one not in self.graph.fixed:
            shape = self.graph.values[one].shape
            maps = maker.take(one, wanted if shape[1] == self.width else np.arange(1))
            return maps.get, maps.fresh and shape == self.shape
        value = self.graph.values[one] if isinstance(one, fx.Node) else one
        if isinstance(value, Tensor) and value.ndim:
            value = value.reshape(*[1] * (len(self.shape) - value.ndim), *value.shape)
            value = value.index_select(1, maker.index(wanted)) if value.shape[1] > 1 else value
        return lambda _: value, False


IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


def _fits_in(graph: Graph, one: Any, shape: torch.Size) -> bool:
    """Return whether an operand has as many dimensions as a result, and its channels, or one for all."""
    if not isinstance(one, fx.Node):
        return isinstance(one, (int, float))
    value = graph.values[one]
    if one in graph.fixed:
        broadcast = (
            isinstance(value, Tensor) and value.ndim <= len(shape) and (value.ndim < len(shape) or len(value) == 1)
        )
        return isinstance(value, (int, float)) or (broadcast and value.is_floating_point())
    return one in graph.maps and value.ndim == len(shape) and value.shape[1] in (1, shape[1])


class Concatenation(Operation):
    """A concatenation of channels."""

    fresh = True

    def __init__(self, graph: Graph, node: fx.Node) -> None:
        super().__init__(graph, node, node.args[0])  # type: ignore[arg-type]
        ends = np.cumsum([graph.values[one].shape[1] for one in self.inputs])
        self.parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    @staticmethod
    def fits(graph: Graph, node: fx.Node) -> bool:
        """Return whether an operation is known to be of this kind."""
        functions = (torch.cat, torch.concat, torch.concatenate)
        if node.target not in functions or node not in graph.maps or not isinstance(node.args[0], Sequence):
            return False
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        given, ndim = node.args[0], graph.values[node].ndim
        return dim in (1, 1 - ndim) and all(one in graph.maps and one not in graph.fixed for one in given)

    def after(self, plan: Plan) -> Channels:
        """Return the channels of all inputs one after another."""
        given = [plan.known(one) for one in self.inputs]
        return Channels(*(np.concatenate(masks) for masks in zip(*given, strict=True)))

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return the part of each input."""
        return [computed[part] for part in self.parts]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that concatenates some channels."""
        gets = []
        for one, part in zip(self.inputs, self.parts, strict=True):
            inner = wanted[(wanted >= part.start) & (wanted < part.stop)] - part.start
            if len(inner):
                gets.append(maker.take(one, inner).get)
        return lambda state: torch.cat([get(state) for get in gets], 1)
