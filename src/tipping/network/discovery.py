"""Which layers of a network have filters, and where they are measured and ablated: found by watching an image pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tipping.errors import InputError
from tipping.network.hooks import ACTIVATIONS, MIXING, NORMALISING, PASSING, POOLING, evaluating

RELUS = {
    "call_function": (functional.relu, functional.relu_, torch.relu, torch.relu_),
    "call_method": ("relu", "relu_"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilterLayer:
    """A layer with filters, and the submodules that its maps pass without being mixed across channels.

    Attributes:
        name: the convolution or dense layer.
        activation: the submodule at whose output the filters are ablated, and by default measured: the first
            activation that the maps reach before anything else takes them; without one, the last submodule before
            pooling that they reach so.
        before_pooling: the last submodule before the maps are pooled.
        maps: all submodules whose outputs are the layer's maps, the layer first.
        single: whether each map is a single value, as for dense layers.
    """

    name: str
    activation: str
    before_pooling: str
    maps: tuple[str, ...]
    single: bool

    def measured(self, where: str) -> tuple[str, ...]:
        """Return the submodules where the layer's filters are measured: `after_relu`, `before_pooling` or `all`."""
        return {"after_relu": (self.activation,), "before_pooling": (self.before_pooling,), "all": self.maps}[where]


def find(model: nn.Module, image_1CHW: Tensor, only: Sequence[str] | None = None) -> list[FilterLayer]:
    """Find the convolutions and dense layers of a network, except the last layer if it gives the classes.

    One image passes the network. The maps of each layer are followed from module to module, as long as the modules
    keep channels apart and nothing else takes the maps. The maps of a layer that is used more than once are not
    followed: the layer's own output is measured and ablated.

    Args:
        only: the names of the layers to keep; by default all layers are kept.

    Raises:
        InputError: a name in `only` is no layer with filters, or the network has no layer with filters.
    """
    calls, taken, classes = _watch(model, image_1CHW)
    mixing = [call for call in calls if isinstance(call.module, MIXING)]
    if mixing and mixing[-1].shape[1:].numel() == classes:
        mixing.pop()
    layers = {call.name: _follow(call, calls, taken) for call in mixing if len(call.shape) in (2, 4)}
    for name in only or ():
        if name not in layers:
            raise InputError(f"model.layers: {name} is no layer with filters; there are {', '.join(layers) or 'none'}")
    if not layers:
        raise InputError(f"{type(model).__name__} has no nn.Conv2d or nn.Linear before its last: it has no filters")
    return [layer for name, layer in layers.items() if not only or name in only]


Version = tuple[int, int]  # the id of a tensor, and how often the tensor was written to


class _Call(NamedTuple):
    """A call of a module without submodules: the versions of its input and output, and the shape of its output."""

    number: int
    name: str
    module: nn.Module
    given: Version
    made: Version
    shape: torch.Size


def _version(tensor: Tensor) -> Version:
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def _watch(model: nn.Module, image_1CHW: Tensor) -> tuple[list[_Call], dict[Version, int], int]:
    """Return the calls of modules as an image passes, how many functions take each tensor, and the number of
    classes."""
    calls: list[_Call] = []
    taken: dict[Version, int] = {}
    alive: list[Tensor] = []  # keeps tensors alive: another could get the id of one that is gone
    given: dict[str, Version] = {}

    class Taking(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            versions = {_version(tensor) for tensor in inputs}
            result = func(*args, **(kwargs or {}))
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            if any(_version(tensor) not in versions for tensor in made):  # dropout in eval mode returns its input
                taken.update({version: taken.get(version, 0) + 1 for version in versions})
            alive.extend(inputs)
            return result

    def before(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            first = next(iter((*inputs, *named.values())))
            given[name] = _version(first)

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, _: object, maps: Any) -> None:
            if isinstance(maps, Tensor):
                alive.append(maps)
                calls.append(_Call(len(calls), name, module, given[name], _version(maps), maps.shape))

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (*MIXING, *PASSING, *ACTIVATIONS, *POOLING, *NORMALISING)):
            handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(after(name)))
    try:
        with torch.inference_mode(False), evaluating(model), torch.no_grad(), Taking():
            logits = model(image_1CHW.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls, taken, logits.shape[-1]


def _follow(call: _Call, calls: Sequence[_Call], taken: dict[Version, int]) -> FilterLayer:
    """Return the layer of a call, with the modules that its maps pass."""
    single = call.shape[2:].numel() == 1
    if sum(other.name == call.name for other in calls) > 1:
        return FilterLayer(call.name, call.name, call.name, (call.name,), single)
    path, alone, sole = [call], True, 1  # `sole`: length of the first part of the path whose maps nothing else takes
    while following := [c for c in calls[path[-1].number + 1 :] if c.given == path[-1].made]:
        named_so = next(c for c in calls[call.number + 1 :] if c.name == following[0].name)
        if isinstance(following[0].module, MIXING) or named_so is not following[0]:  # hooks would see another's maps
            break
        alone = alone and taken.get(path[-1].made, 0) == 1
        path.append(following[0])
        sole += alone
    names = [step.name for step in path if not isinstance(step.module, PASSING)]
    unpooled = next((i for i, step in enumerate(path) if isinstance(step.module, POOLING)), len(path))
    activated = next((step.name for step in path[:sole] if isinstance(step.module, ACTIVATIONS)), None)
    return FilterLayer(
        call.name,
        activation=activated or path[min(unpooled, sole) - 1].name,
        before_pooling=path[unpooled - 1].name,
        maps=tuple(dict.fromkeys(names)),
        single=single,
    )


class _Tracer(fx.Tracer):
    """A tracer that keeps convolutions, dense and normalising layers whole, whatever their class."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (*MIXING, *NORMALISING)) or super().is_leaf_module(module, name)


def modular(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return a network whose calls of the function relu are modules, so that hooks can watch and replace their maps.

    The result shares weights and modules with the network. The network itself is returned where it calls no relu,
    torch.fx cannot trace it, or the traced network gives another output; its calls of relu are then not seen.
    """
    with evaluating(model):
        try:
            traced = fx.GraphModule(model, _Tracer().trace(model))
        except Exception:  # whatever the network's own code raises when it is given no tensor
            log.warning("torch.fx cannot trace %s: calls of relu in it are not seen", type(model).__name__)
            return model
        calls = [node for node in traced.graph.nodes if node.target in RELUS.get(node.op, ())]
        for number, node in enumerate(calls, 1):
            name = f"relu_call{number}"
            traced.add_module(name, nn.ReLU())
            with traced.graph.inserting_after(node):
                node.replace_all_uses_with(traced.graph.call_module(name, (node.args[0],)))
            traced.graph.erase_node(node)
        traced.recompile()
        with torch.no_grad():
            same = torch.equal(traced(image_1CHW.clone()), model(image_1CHW.clone()))
    if calls and not same:
        log.warning("torch.fx traces %s as something else: calls of relu in it are not seen", type(model).__name__)
    traced.training = model.training  # the modules are shared and need no change
    return traced if calls and same else model
