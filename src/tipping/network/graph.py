"""Networks as graphs of operations: who feeds whom, what each gives, and where filters are ablated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from tipping.network.filters import Filters
from tipping.network.hooks import owner, restored
from tipping.network.kinds import noise_of
from tipping.network.tracing import Call, NotAGraph, Tracing


@dataclass(frozen=True)
class Graph:
    """A network in eval mode as a graph of operations, tried on two images.

    No operation changes a value that a later one takes: operations that work in place are given copies, and what takes
    the overwritten value takes the new one.

    Attributes:
        nodes: the operations in the order in which they run; the first gives the images.
        output: the operation that gives the logits.
        modules: the module of each operation that calls one.
        sites: the operations after which filters are ablated, with the layers of these filters.
        layers: the operations that call each layer with filters.
        overwriting: the operations that write into what they are given.
        values: the value of each operation for the two images.
        maps: the operations whose values are tensors of numbers with a row for each image, and further dimensions.
        fixed: the operations whose values do not depend on the images.
    """

    nodes: tuple[fx.Node, ...]
    output: fx.Node
    modules: Mapping[fx.Node, nn.Module]
    sites: Mapping[fx.Node, tuple[str, ...]]
    layers: Mapping[str, tuple[fx.Node, ...]]
    overwriting: frozenset[fx.Node]
    values: Mapping[fx.Node, Any]
    maps: frozenset[fx.Node]
    fixed: frozenset[fx.Node]

    @classmethod
    def trace(cls, filters: Filters, image_1CHW: Tensor) -> Graph:
        """Return the graph of a network in eval mode, without gradients, whose weights are of full precision.

        Raises:
            NotAGraph: the network has no such graph, or treats an image otherwise on another pass or beside others.
        """
        model, sites = filters.model, filters.sites
        _check_precision(model)
        layers = {name: model.get_submodule(name) for name in sites}
        places = [model.get_submodule(name) for name in sites.values()]
        tracing = Tracing((*layers.values(), *places), places, ())
        devices = [image_1CHW.device] if image_1CHW.is_cuda else []
        tracking = torch.inference_mode(False), torch.no_grad()  # or nothing shows that a tensor is overwritten
        with tracking[0], tracking[1], restored(model), torch.random.fork_rng(devices):  # it may keep state, and draw
            pair_2CHW = torch.cat([image_1CHW, noise_of(image_1CHW)])
            run = _Run(tracing.traced(model), model, tracing.calls)
            run.settle(pair_2CHW)
            values, alone = run.values(pair_2CHW), run.values(image_1CHW)
            _check_logits(model, pair_2CHW, values[run.output], alone[run.output])
        calls = tracing.calls
        return cls(
            run.nodes,
            run.output,
            run.modules,
            _sites(model, sites, calls),
            {name: tuple(call.last for call in calls if call.module is layer) for name, layer in layers.items()},
            frozenset(run.overwriting),
            values,
            frozenset(node for node, value in values.items() if _of_images(value, alone[node])),
            _fixed(run.nodes),
        )

    def copied(self, node: fx.Node, value: Any) -> Any:
        """Return a value that an operation may be given: a copy of what the operation would write into."""
        return copies(value) if node in self.overwriting else value


def copies(value: Any) -> Any:
    """Return a value with copies of its tensors."""
    return tree_map_only(Tensor, torch.clone, value)


class _Run:
    """The operations of a network as torch.fx gives them, run on images."""

    def __init__(self, graph: fx.Graph, model: nn.Module, calls: Sequence[Call]) -> None:
        *nodes, self._end = graph.nodes
        self.nodes, self._calls = tuple(nodes), {call.result: call for call in calls}
        self.modules = {node: model.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
        self.overwriting: set[fx.Node] = set()
        self._model, self._order = model, {node: position for position, node in enumerate(graph.nodes)}
        self._writes: list[tuple[int, Tensor]] = []  # where in the order something is overwritten, and what

    @property
    def output(self) -> fx.Node:
        """The operation whose value the network returns."""
        result = self._end.args[0]
        if not isinstance(result, fx.Node):
            raise NotAGraph("it does not return a tensor")
        return result

    def values(self, images_NCHW: Tensor) -> dict[fx.Node, Any]:
        """Return the value of each operation; those that work in place are given copies."""
        values: dict[fx.Node, Any] = {}
        for node in self.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            if node in self.overwriting:
                args, kwargs = copies((args, kwargs))
            values[node] = self._value(node, images_NCHW, args, kwargs)
        return values

    def settle(self, images_NCHW: Tensor) -> None:
        """Find the operations that work in place, and let what takes an overwritten value later take the new one.

        Raises:
            NotAGraph: a part of a value is overwritten, and the value is taken later.
        """
        values: dict[fx.Node, Any] = {}
        for position, node in enumerate(self.nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            tensors = [tensor for tensor in tensors if not tensor.is_inference()]  # these cannot be overwritten here
            versions = [tensor._version for tensor in tensors]
            values[node] = self._value(node, images_NCHW.clone(), args, kwargs)
            for tensor, version in zip(tensors, versions, strict=True):
                if tensor._version != version:
                    self._writes.append((position, owner(tensor)))
                    self.overwriting.add(node)
                    self._pass_on(node, tensor, values)
            if node in self._calls and self._within_place(self._calls[node], values):
                self._pass_on(node, values[node], values)

    def _value(self, node: fx.Node, images_NCHW: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if node is self.nodes[0]:
            return images_NCHW
        if node.op == "placeholder":
            return node.args[0] if node.args else None  # an argument that may be left out
        if node.op == "get_attr":
            value: Any = self._model
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return value
        return apply(node, self.modules.get(node), args, kwargs)

    def _within_place(self, call: Call, values: Mapping[fx.Node, Any]) -> bool:
        """Return whether a submodule has overwritten what it was given, and gives that."""
        given, result = values.get(call.given) if call.given else None, values[call.result]
        if not isinstance(given, Tensor) or not isinstance(result, Tensor) or owner(given) is not owner(result):
            return False
        return any(position >= call.first and tensor is owner(given) for position, tensor in self._writes)

    def _pass_on(self, node: fx.Node, written: Tensor, values: Mapping[fx.Node, Any]) -> None:
        """Let what takes a tensor after an operation has overwritten it take the operation's value."""
        for earlier, value in list(values.items()):
            shares = any(isinstance(one, Tensor) and owner(one) is owner(written) for one in tree_leaves(value))
            later = [user for user in earlier.users if self._order[user] > self._order[node]]
            if earlier is node or not shares or not later:
                continue
            if not _same_view(value, written) or not _same_view(values[node], written):
                raise NotAGraph(f"{node.name} overwrites a part of what is used later")
            for user in later:
                user.replace_input_with(earlier, node)


def apply(
    node: fx.Node,
    module: nn.Module | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
) -> Any:
    """Return the value of an operation.

    Args:
        module: the module that the operation calls, if it does.
        args, kwargs: what the operation is given. It may write into tensors among them.
        weights: other weights of the module.
    """
    if module is not None:
        return functional_call(module, dict(weights), tuple(args), dict(kwargs)) if weights else module(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    function: Any = node.target
    return function(*args, **kwargs)


def _same_view(one: Any, other: Tensor) -> bool:
    """Return whether two tensors show the same memory in the same way."""
    return (
        isinstance(one, Tensor)
        and owner(one) is owner(other)
        and (one.shape, one.stride(), one.storage_offset()) == (other.shape, other.stride(), other.storage_offset())
    )


def _of_images(value: Any, alone: Any) -> bool:
    """Return whether a value for two images is a tensor with a row for each, given the value for the first image."""
    return (
        isinstance(value, Tensor)
        and isinstance(alone, Tensor)
        and value.is_floating_point()
        and value.ndim >= 2
        and value.shape == (2, *alone.shape[1:])
        and len(alone) == 1
    )


def _fixed(nodes: Sequence[fx.Node]) -> frozenset[fx.Node]:
    """Return the operations whose values do not depend on the images, the first operation."""
    varying = {nodes[0]}
    for node in nodes:
        if varying.intersection(node.all_input_nodes):
            varying.add(node)
    return frozenset(nodes) - varying


def _sites(model: nn.Module, sites: Mapping[str, str], calls: Sequence[Call]) -> dict[fx.Node, tuple[str, ...]]:
    """Return the operations after which filters are ablated, with their layers: of a site, the first call after each
    call of its layer."""
    places: dict[fx.Node, tuple[str, ...]] = {}
    for layer, site in sites.items():
        source, place = model.get_submodule(layer), model.get_submodule(site)
        due = reached = False
        for call in calls:
            due |= call.module is source
            if due and call.module is place:
                places[call.result] = (*places.get(call.result, ()), layer)
                due, reached = False, True
        if due or not reached:
            raise NotAGraph(f"the maps of {layer} do not pass {site} where torch.fx sees it")
    return places


def _check_precision(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise NotAGraph(f"{name} is of low precision")


def _check_logits(model: nn.Module, pair_2CHW: Tensor, traced_2C: Any, alone_1C: Any) -> None:
    """Raise `NotAGraph` unless a network gives the same logits for two images on each pass, as operations one after
    another, and for the first image alone."""
    first, again = (model(pair_2CHW.clone()) for _ in range(2))
    if not same(first, again):
        raise NotAGraph("it gives other logits for the same images on each pass")
    if not same(first, traced_2C):
        raise NotAGraph("what torch.fx traces gives something else")
    if not same(first[:1], alone_1C):
        raise NotAGraph("it gives other logits for an image beside others")


def same(one: Any, other: Any) -> bool:
    """Return whether tensors are equal but for rounding."""
    if (
        not isinstance(one, Tensor)
        or not isinstance(other, Tensor)
        or (one.shape, one.dtype) != (other.shape, other.dtype)
    ):
        return False
    largest = float(torch.nan_to_num(other.abs(), posinf=0).max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4 * largest, equal_nan=True)
