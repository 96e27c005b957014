"""What operations of a graph do to channels, and how they are run on some of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tipping.ablation.channels import Channels, pick
from tipping.network import ACTIVATIONS, PASSING, POOLING, Graph, apply, has_hooks, passed_on, same

if TYPE_CHECKING:
    from tipping.ablation.narrowing import Maker, State
    from tipping.ablation.plan import Plan

Step = Callable[["State"], Any]
DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
POINTWISE = (  # functions of one tensor that give a new one, number by number
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus"),
    *("softsign", "hardtanh", "hardswish", "hardsigmoid", "logsigmoid", "abs", "neg", "square", "sqrt", "exp", "clamp"),
    *("clamp_min", "clamp_max", "pow", "erf", "sign", "rsqrt", "reciprocal"),
)
MAPWISE = (  # functions of one tensor that treat each map by itself, as long as they leave the channels there
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "detach", "clone"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d", "interpolate", "pad"),
    *("mean", "sum", "amax", "amin"),
)


class Operation:
    """An operation of which nothing is known: it takes all channels of what it is given, and gives all of its own.

    Attributes:
        inputs: the operations whose values it takes.
        layer: the operation that calls a layer whose weights it uses: itself, unless it stands for several.
        mixes: whether it is known to be a convolution or dense layer.
        groups: the groups of a convolution.
        adds: whether it is known to take the same channels of all its inputs that are wanted of its value.
        fresh: whether its value is a tensor that nothing else holds.
        shape: the shape of its value for two images; (2, 1) where its value is no tensor with a row for each image.
    """

    mixes = False
    adds = False
    fresh = False
    groups = 1

    def __init__(self, graph: Graph, node: fx.Node, inputs: Sequence[fx.Node] | None = None) -> None:
        self.graph, self.node, self.layer = graph, node, node
        self.module = graph.modules.get(node)
        self.inputs = tuple(node.all_input_nodes if inputs is None else inputs)
        self.is_map = node in graph.maps
        self.shape: torch.Size = graph.values[node].shape if self.is_map else torch.Size((2, 1))

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.shape[1]

    def after(self, plan: Plan) -> Channels:
        """Return the channels of the value, given those of the inputs."""
        if self.is_map and all(plan.known(one).gone.all() for one in self.inputs if one in self.graph.maps):
            return Channels(np.ones(self.width, dtype=bool), np.zeros(self.width, dtype=bool))
        return Channels.all_changed(self.width)

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return which channels of each input are needed to compute some channels of the value."""
        return [np.ones(plan.operations[one].width, dtype=bool) for one in self.inputs]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that computes some channels of the value."""
        copies = self.node in self.graph.overwriting
        arguments = maker.arguments(self.node, {one: maker.whole(one, copies) for one in self.inputs})
        _, weights = maker.plan.ablation.reweighted.get(self.node, (None, None))
        chosen = maker.index(wanted) if len(wanted) < self.width else None

        def step(state: State) -> Any:
            value = apply(self.node, self.module, *arguments(state), weights)
            if self.is_map:
                value = maker.laid_out(value)
                return value if chosen is None else pick(value, chosen)
            return value

        return step


class Images(Operation):
    """The images."""

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that gives the images."""
        return lambda state: maker.laid_out(state.images_NCHW)


class Fixed(Operation):
    """A value that does not depend on the images."""

    def __init__(self, graph: Graph, node: fx.Node) -> None:
        super().__init__(graph, node, ())

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that gives the value."""
        value = self.graph.values[self.node]
        return lambda _: value


class Shape(Operation):
    """The shape of a value, or one of its sides: that of all channels."""

    def __init__(self, graph: Graph, node: fx.Node) -> None:
        super().__init__(graph, node, ())
        self.sides = graph.values[node.all_input_nodes[0]].shape[1:]

    @staticmethod
    def fits(graph: Graph, node: fx.Node) -> bool:
        """Return whether an operation gives the shape of a value with a row for each image."""
        asks = (node.op, node.target) in (("call_method", "size"), ("call_method", "dim"))
        asks |= node.target is getattr and node.args[1:] in (("shape",), ("ndim",))
        return asks and node.all_input_nodes == [node.args[0]] and node.args[0] in graph.maps

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that gives the shape."""

        def step(state: State) -> Any:
            whole = torch.empty((state.count, *self.sides), device="meta")
            return apply(self.node, None, (whole, *self.node.args[1:]), self.node.kwargs)

        return step


class Mapwise(Operation):
    """An operation that treats each channel of one input by itself."""

    def __init__(self, graph: Graph, node: fx.Node) -> None:
        source = node.all_input_nodes[0]
        super().__init__(graph, node, (source, *(one for one in node.all_input_nodes if one is not source)))
        self.name = called_name(node) if self.module is None else ""
        self.passes = node.target is passed_on or isinstance(self.module, (*PASSING, *DROPPING))
        self.rectifies = self.name == "relu" or type(self.module) is nn.ReLU
        known = type(self.module) in (*ACTIVATIONS, *POOLING, *NORMS)
        self.fresh = (known or self.name in POINTWISE) and not self.passes

    @staticmethod
    def fits(graph: Graph, node: fx.Node) -> bool:
        """Return whether an operation is known to be of this kind."""
        if not node.all_input_nodes or node not in graph.maps:
            return False
        source, value = node.all_input_nodes[0], graph.values[node]
        if source not in graph.maps or graph.values[source].shape[1] != value.shape[1] or source in graph.fixed:
            return False
        if any(one in graph.maps for one in node.all_input_nodes[1:]) or (node.args[:1] != (source,)):
            return False
        module = graph.modules.get(node)
        if module is not None:
            kinds = (*PASSING, *DROPPING, *ACTIVATIONS, *POOLING, *NORMS)
            return type(module) in kinds and plain(module) and getattr(module, "running_mean", 0) is not None
        known = node.target is passed_on or calls(node, (*POINTWISE, *MAPWISE))
        return known and Mapwise._tried(graph, node, source)

    @staticmethod
    def _tried(graph: Graph, node: fx.Node, source: fx.Node) -> bool:
        """Return whether some channels give what they give among all."""
        width = graph.values[source].shape[1]
        for chosen in (torch.arange(width)[::2], torch.arange(width)[-1:]):
            index = chosen.to(graph.values[source].device)

            def given(one: fx.Node, index: Tensor = index) -> Any:
                return graph.values[one].index_select(1, index) if one is source else graph.values[one]

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), given)
            if not same(apply(node, None, args, kwargs), graph.values[node].index_select(1, index)):
                return False
        return True

    def after(self, plan: Plan) -> Channels:
        """Return the channels of the input."""
        return plan.known(self.inputs[0])

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return the same channels of the input."""
        return [computed, *(np.ones(1, dtype=bool) for _ in self.inputs[1:])]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that treats some channels."""
        maps = maker.take(self.inputs[0], wanted)
        get = maps.get
        if self.passes:
            maker.owned[self.node] = maps.fresh
            return get
        if self.rectifies:
            return (lambda state: get(state).relu_()) if maps.fresh else (lambda state: get(state).relu())
        if isinstance(self.module, NORMS):
            return _normalised(self.module, maker, wanted, get)
        if isinstance(self.module, nn.PReLU) and self.module.num_parameters > 1:
            slopes = self.module.weight[maker.index(wanted)]
            return lambda state: functional.prelu(get(state), slopes)
        overwrites = self.node in self.graph.overwriting
        if overwrites and not maps.fresh:
            get = lambda state: maps.get(state).clone()  # noqa: E731
        others = {one: maker.take(one, np.arange(1)).get for one in self.inputs[1:]}
        arguments = maker.arguments(self.node, {self.inputs[0]: get, **others})
        return lambda state: apply(self.node, self.module, *arguments(state))


NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def _normalised(module: nn.BatchNorm2d | nn.BatchNorm1d, maker: Maker, wanted: np.ndarray, get: Step) -> Step:
    chosen = maker.index(wanted)
    tensors = (module.running_mean, module.running_var, module.weight, module.bias)
    mean, variance, weight, bias = (None if tensor is None else tensor[chosen] for tensor in tensors)
    return lambda state: functional.batch_norm(get(state), mean, variance, weight, bias, eps=module.eps)


def plain(module: nn.Module) -> bool:
    """Return whether a module does what its class does."""
    return "forward" not in vars(module) and not has_hooks(module)


def called_name(node: fx.Node) -> str:
    """Return the name of the function or method that an operation calls, without the end for "in place"."""
    return str(getattr(node.target, "__name__", node.target)).rstrip("_")


def calls(node: fx.Node, names: tuple[str, ...]) -> bool:
    """Return whether an operation calls torch's or Python's function, or tensors' method, of one of some names."""
    return called_name(node) in names if node.op == "call_method" else node.target in _functions(names)


@cache
def _functions(names: tuple[str, ...]) -> set[Any]:
    """Return the functions of some names, also those that work in place."""
    homes = (torch, functional, operator)
    every = {getattr(home, f"{name}{end}", None) for home in homes for name in names for end in ("", "_")}
    return (every | {getattr(operator, f"i{name}", None) for name in names}) - {None}
