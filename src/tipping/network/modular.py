"""Networks whose calls of activation functions are modules, so that hooks can watch and replace their maps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from tipping.errors import InputError
from tipping.network.called import WrittenOut, call_of, name_of
from tipping.network.hooks import evaluating, restored
from tipping.network.kinds import MIXING, NORMALISING, ON_THE_WAY, Kind, noise_of, tried_kind
from tipping.network.routing import routed
from tipping.network.watching import watch

PASSES = 3  # of each image: code of the network may go another way each time
JOINING = ("add", "iadd", "sub", "isub", "cat", "concat", "stack")  # as skip connections do
FUNCTIONS = ("call_function", "call_method")
WRITTEN_OUT = 20  # calls of functions, at most, that make one activation together
log = logging.getLogger(__name__)


class _Tracer(fx.Tracer):
    """A tracer that keeps modules whole whose effect on maps is known or was found by trying."""

    def __init__(self, whole: Collection[str]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        known = isinstance(module, (*MIXING, *NORMALISING))
        return known or name in self.whole or super().is_leaf_module(module, name)


class _Part(NamedTuple):
    """Calls of functions that make one tensor of another: a single call, or an activation that is written out."""

    source: fx.Node
    steps: tuple[fx.Node, ...]
    module: nn.Module  # which does the same


class _Trying(fx.Interpreter):
    """An interpreter that finds what calls of functions do to maps, by trying them on random maps.

    Attributes:
        parts: the calls, by the last node of each part.
        kinds: what the part that ends in a node does to maps.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.parts = {part.steps[-1]: part for node in traced.graph.nodes for part in _parts_from(node)}
        self.kinds: dict[fx.Node, Kind | None] = {}

    def run_node(self, n: fx.Node) -> Any:
        part = self.parts.get(n)
        maps = self.env[part.source] if part else None
        if part and isinstance(maps, Tensor) and maps.is_floating_point() and maps.ndim in (2, 4):
            self.kinds[n] = tried_kind(part.module, maps)
        return super().run_node(n)

    def chosen(self) -> dict[fx.Node, _Part]:
        """Return the parts that are activations, and the calls that maps pass on the way to these, by their ends."""
        activations = [end for end, kind in self.kinds.items() if kind is Kind.ACTIVATION]
        inner = {node for end in activations for node in self.parts[end].steps[:-1]}
        ends = [end for end in activations if end not in inner]
        for end in ends:
            before = self.parts[end].source
            if self.kinds.get(before) in ON_THE_WAY and len(self.parts[before].steps) == 1:
                ends.append(before)  # the loop goes on to what comes before
        return {end: self.parts[end] for end in sorted(set(ends))}


def modular(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return a network whose calls of activation functions are modules, so that hooks can watch and replace their maps.

    Activations may be written out, such as x * sigmoid(x). Calls of functions that pool or normalise maps on their way
    to an activation become modules too. The result shares weights and modules with the network. The network itself is
    returned where it calls no activation function, and where it goes another way from pass to pass.
    """
    with evaluating(model), torch.no_grad():
        watched = watch(model, image_1CHW)
        whole = {call.name: call.module for call in watched.calls if watched.kind(call)}
        for change in (_retraced, _rerouted):
            changed = change(model, image_1CHW, whole)
            if changed is model:
                return model
            if changed and _same(changed, model, image_1CHW):
                changed.training = model.training  # the modules are shared and need no change
                return changed
    log.warning(
        "%s goes another way from pass to pass: calls of activation functions in it are not seen", type(model).__name__
    )
    return model


def _retraced(model: nn.Module, image_1CHW: Tensor, whole: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the network as a torch.fx graph that calls activations as modules; the network itself where it calls none
    as functions, and None where torch.fx cannot trace it.

    Args:
        whole: modules to be kept whole, by their names.
    """
    try:
        with restored(model):
            traced = fx.GraphModule(model, _Tracer(whole).trace(model))
    except Exception:  # whatever the network's own code raises when it is given no tensor
        return None
    trying = _Trying(traced)
    try:
        trying.run(image_1CHW.clone())
    except (AttributeError, TypeError, ValueError, IndexError, KeyError):  # it went another way, given no tensor
        return None
    chosen, numbers = trying.chosen(), Counter[str]()
    for end, part in chosen.items():
        name = name_of(end.target)
        numbers[name] += 1
        _replace(traced, part, f"{name}_call{numbers[name]}")
    traced.recompile()
    return traced if chosen else model


def _rerouted(model: nn.Module, image_1CHW: Tensor, whole: Mapping[str, nn.Module]) -> nn.Module:
    return routed(model, image_1CHW, whole.values())


def _same(changed: nn.Module, model: nn.Module, image_1CHW: Tensor) -> bool:
    """Return whether two networks give the same logits, pass after pass."""
    try:
        images = (image_1CHW, noise_of(image_1CHW)) * PASSES
        return all(torch.equal(changed(one.clone()), model(one.clone())) for one in images)
    except InputError:  # calls come in another order
        return False


def _replace(traced: fx.GraphModule, part: _Part, name: str) -> None:
    """Put a module in the place of some calls."""
    traced.add_module(name, part.module)
    end, (source,) = part.steps[-1], part.steps[0].all_input_nodes  # a module by now, maybe
    with traced.graph.inserting_after(end):
        end.replace_all_uses_with(traced.graph.call_module(name, (source,)))
    for node in reversed(part.steps):
        traced.graph.erase_node(node)


def _parts_from(node: fx.Node) -> Iterator[_Part]:
    """Yield the part that a node is by itself, and the one that begins at what the node gives."""
    if called := _called(node):
        yield _Part(node.all_input_nodes[0], (node,), called)
    if steps := _written_out(node):
        yield _Part(node, steps, _together(node, steps))


def _written_out(source: fx.Node) -> tuple[fx.Node, ...]:
    """Return the calls of functions that make one value of what a node gives, of which nothing else takes a part, if
    the last is no addition: x * sigmoid(x) is an activation written out, x + relu(x) a skip connection."""
    inside, node = [source], source.next
    while len(inside) <= WRITTEN_OUT and node.op != "root":
        if set(node.all_input_nodes) & set(inside):
            if node.op not in FUNCTIONS or not set(node.all_input_nodes) <= set(inside):
                break
            if all(set(one.users) <= {*inside, node} for one in inside):
                steps = (*inside[1:], node)
                single = _called(node) is not None
                return () if single or name_of(node.target) in JOINING else steps
            inside.append(node)
        node = node.next
    return ()


def _together(source: fx.Node, steps: Sequence[fx.Node]) -> WrittenOut:
    """Return a module that makes some calls."""
    graph = fx.Graph()
    copies = {source: graph.placeholder("maps")}
    for node in steps:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[steps[-1]])
    names = ", ".join(dict.fromkeys(name_of(node.target) for node in steps))
    return WrittenOut(fx.GraphModule(nn.Module(), graph), f"an activation written out ({names})")


def _called(node: fx.Node) -> nn.Module | None:
    """Return the module for the call of a function of one tensor; None for other nodes of a graph."""
    nodes = [value for value in tree_leaves((node.args, node.kwargs)) if isinstance(value, fx.Node)]
    if node.op not in FUNCTIONS or len(nodes) != 1:
        return None
    args, kwargs = tuple(node.args), dict(node.kwargs)
    if not args and kwargs.get("input") is nodes[0]:
        args = (kwargs.pop("input"),)
    if not args or args[0] is not nodes[0]:
        return None
    function: Any = _method(str(node.target)) if node.op == "call_method" else node.target
    return call_of(function, args[1:], kwargs)


def _method(name: str) -> Callable[..., Any]:
    def method(maps: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(maps, name)(*args, **kwargs)

    method.__name__ = name
    return method
