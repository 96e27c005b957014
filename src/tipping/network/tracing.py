"""Networks traced by torch.fx: which operations and modules an image passes, in order, and the part up to some."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tipping.network.called import Called
from tipping.network.hooks import evaluating, restored
from tipping.network.kinds import MIXING, NORMALISING


class NotAGraph(Exception):
    """The reason why a network cannot be run as a graph; its message is a clause."""


def passed_on(maps: Tensor) -> Tensor:
    """Return the maps: an operation that marks where a submodule has given its output."""
    return maps


@dataclass(frozen=True)
class Call:
    """A call of a submodule that is watched.

    Attributes:
        module: the submodule.
        given: the operation whose value is the first that the submodule is given.
        first: the position of the first operation within the call.
        last: the operation that gives the submodule's output.
        result: the operation that marks it, or itself.
    """

    module: nn.Module
    given: fx.Node | None
    first: int
    last: fx.Node
    result: fx.Node


class Tracing(fx.Tracer):
    """A tracer that keeps convolutions, dense and normalising layers whole, whatever their class.

    Attributes:
        calls: the calls of the modules that are watched, in the order in which they end.
    """

    def __init__(self, watched: Iterable[nn.Module], marked: Iterable[nn.Module], whole: Iterable[nn.Module]) -> None:
        """Take the modules whose calls are noted, those after which an operation `passed_on` is put, and those that are
        not traced within."""
        super().__init__()
        self.calls: list[Call] = []
        self._watched, self._marked, self._whole = set(watched), set(marked), set(whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a call of a module is one operation."""
        whole = isinstance(m, (*MIXING, *NORMALISING)) or m in self._whole
        return whole or (super().is_leaf_module(m, module_qualified_name) and not isinstance(m, Called))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a call of a module."""
        name, first = self.path_of_module(m), len(self.graph.nodes)
        if not self.is_leaf_module(m, name) and has_hooks(m):
            raise NotAGraph(f"{name} has hooks")
        result = super().call_module(m, forward, args, kwargs)
        if m in self._watched and isinstance(result, fx.Proxy):
            last = result.node
            if m in self._marked:
                result = self.create_proxy("call_function", passed_on, (result,), {})
            given = [value.node for value in (*args, *kwargs.values()) if isinstance(value, fx.Proxy)]
            self.calls.append(Call(m, given[0] if given else None, first, last, result.node))
        return result

    def traced(self, model: nn.Module) -> fx.Graph:
        """Return the graph of a network, which is unchanged afterwards.

        Raises:
            NotAGraph: torch.fx cannot trace the network.
        """
        if has_hooks(model):
            raise NotAGraph("the network has hooks")
        try:
            with restored(model):
                return self.trace(model)
        except NotAGraph:
            raise
        except Exception as error:  # whatever the network's own code raises when it is given no tensor
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise NotAGraph(f"torch.fx cannot trace it ({reason})") from error


def has_hooks(module: nn.Module) -> bool:
    """Return whether hooks see or change what a module is given, or what it gives."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def up_to_last(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return the part of a network that has to run to compute the outputs of some submodules.

    The part ends with the last call of one of the submodules. It is the whole network where torch.fx cannot trace that.
    """
    modules = [model.get_submodule(name) for name in names]
    tracing = Tracing(modules, (), modules)
    try:
        with evaluating(model), torch.no_grad():
            graph = tracing.traced(model)
    except NotAGraph:
        return model
    order = {node: position for position, node in enumerate(graph.nodes)}
    if {call.module for call in tracing.calls} != set(modules):
        return model  # one is called within a module that is kept whole, or never
    last = max((call.result for call in tracing.calls), key=order.__getitem__)
    for node in reversed(graph.nodes):
        if order[node] > order[last]:
            graph.erase_node(node)
    graph.output(last)
    part = fx.GraphModule(model, graph)
    part.training = model.training  # the modules are shared and need no change
    return part
