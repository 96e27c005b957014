"""Networks whose calls of activation functions are modules, so that hooks can watch and replace their maps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from tipping.network.hooks import evaluating, restored
from tipping.network.kinds import MIXING, NORMALISING, Kind, noise_of, tried_kind

PASSES = 3  # of each image: code of the network may go another way each time
log = logging.getLogger(__name__)


class Called(nn.Module):
    """A call of a function of one tensor."""

    def __init__(self, function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the function and its arguments, of which the tensor is left out: `args` begin after it."""
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, maps: Tensor) -> Tensor:
        """Return the function's value."""
        return self.function(maps, *self.args, **self.kwargs)


class _Tracer(fx.Tracer):
    """A tracer that keeps convolutions, dense and normalising layers whole, whatever their class."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (*MIXING, *NORMALISING)) or super().is_leaf_module(module, name)


class _Trying(fx.Interpreter):
    """An interpreter that finds the calls of activation functions, by trying functions on random maps."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.kinds: dict[fx.Node, tuple[nn.Module, Kind | None]] = {}

    def run_node(self, n: fx.Node) -> Any:
        called = _called(n)
        maps = self.env[n.all_input_nodes[0]] if called else None
        if called and isinstance(maps, Tensor) and maps.is_floating_point() and maps.ndim in (2, 4):
            self.kinds[n] = called, tried_kind(called, maps)
        return super().run_node(n)


def modular(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return a network whose calls of activation functions are modules, so that hooks can watch and replace their maps.

    The result shares weights and modules with the network. The network itself is returned where it calls no
    activation function, torch.fx cannot trace it, or the traced network gives another output; its calls of activation
    functions are then not seen.
    """
    with evaluating(model), torch.no_grad():
        try:
            with restored(model):
                traced = fx.GraphModule(model, _Tracer().trace(model))
        except Exception:  # whatever the network's own code raises when it is given no tensor
            log.warning(
                "torch.fx cannot trace %s: calls of activation functions in it are not seen", type(model).__name__
            )
            return model
        trying = _Trying(traced)
        trying.run(image_1CHW.clone())
        activations = {node: called for node, (called, kind) in trying.kinds.items() if kind is Kind.ACTIVATION}
        if not activations:
            return model
        numbers: Counter[str] = Counter()
        for node, called in activations.items():
            numbers[_name(node)] += 1
            name = f"{_name(node)}_call{numbers[_name(node)]}"
            traced.add_module(name, called)
            with traced.graph.inserting_after(node):
                node.replace_all_uses_with(traced.graph.call_module(name, (node.all_input_nodes[0],)))
            traced.graph.erase_node(node)
        traced.recompile()
        images = (image_1CHW, noise_of(image_1CHW)) * PASSES
        same = all(torch.equal(traced(one.clone()), model(one.clone())) for one in images)
    if not same:
        log.warning(
            "torch.fx traces %s as something else: calls of activation functions in it are not seen",
            type(model).__name__,
        )
        return model
    traced.training = model.training  # the modules are shared and need no change
    return traced


def _called(node: fx.Node) -> nn.Module | None:
    """Return the module for the call of a function of one tensor; None for other nodes of a graph."""
    nodes = [value for value in tree_leaves((node.args, node.kwargs)) if isinstance(value, fx.Node)]
    if node.op not in ("call_function", "call_method") or len(nodes) != 1:
        return None
    args, kwargs = tuple(node.args), dict(node.kwargs)
    if not args and kwargs.get("input") is nodes[0]:
        args = (kwargs.pop("input"),)
    if not args or args[0] is not nodes[0]:
        return None
    if _name(node) == "relu":
        return nn.ReLU(str(getattr(node.target, "__name__", node.target)).endswith("_") or _in_place(args, kwargs))
    function: Any = _method(str(node.target)) if node.op == "call_method" else node.target
    return Called(function, args[1:], kwargs)


def _method(name: str) -> Callable[..., Any]:
    return lambda maps, *args, **kwargs: getattr(maps, name)(*args, **kwargs)


def _name(node: fx.Node) -> str:
    """Return the name of the function that a node calls, without what says that the function works in place."""
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def _in_place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether the arguments of `functional.relu` say that it works in place."""
    return bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
