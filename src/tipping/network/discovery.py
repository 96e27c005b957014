"""Which layers of any network have filters, and what of it is measured and ablated: found by watching an image pass."""

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
    """A layer with filters, and the submodules its maps pass as they are, channel by channel.

    Attributes:
        name: the convolution or dense layer.
        activation: where its filters are ablated, and by default measured: its activation, or, where no other module
            than those in between gets its maps first, the last submodule before they are pooled.
        before_pooling: the last submodule before its maps are pooled.
        maps: all submodules that give its maps, itself first.
        single: whether its maps are single values, as those of dense layers are.
    """

    name: str
    activation: str
    before_pooling: str
    maps: tuple[str, ...]
    single: bool

    def measured(self, where: str) -> tuple[str, ...]:
        """Return the submodules whose maps are its responses: `after_relu`, `before_pooling` or `all`."""
        return {"after_relu": (self.activation,), "before_pooling": (self.before_pooling,), "all": self.maps}[where]


def find(model: nn.Module, image_1CHW: Tensor, only: Sequence[str] | None = None) -> list[FilterLayer]:
    """Find the convolutions and dense layers of a network, but for the last if it gives the classes.

    They are found by watching one image pass: a layer's maps are followed from module to module as long as these keep
    channels apart and nothing else takes the maps. A layer that is used more than once is taken as it is.

    Args:
        only: names of layers, to leave out the others.

    Raises:
        InputError: a name is none of them, or there are none.
    """
    calls, taken, classes = _watch(model, image_1CHW)
    mixing = [call for call in calls if isinstance(call.module, MIXING)]
    if mixing and mixing[-1].shape[1:].numel() == classes:
        mixing.pop()
    found = {call.name: _follow(call, calls, taken) for call in mixing if len(call.shape) in (2, 4)}
    for name in only or ():
        if name not in found:
            raise InputError(f"model.layers: {name} is no layer with filters; there are {', '.join(found) or 'none'}")
    if not found:
        raise InputError(f"{type(model).__name__} has no nn.Conv2d or nn.Linear before its last: it has no filters")
    return [layer for name, layer in found.items() if not only or name in only]


Version = tuple[int, int]  # a tensor, and how often it was written to


class _Call(NamedTuple):
    """A call of a module without submodules."""

    number: int
    name: str
    module: nn.Module
    given: Version
    made: Version
    shape: torch.Size


def _version(tensor: Tensor) -> Version:
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def _watch(model: nn.Module, image_1CHW: Tensor) -> tuple[list[_Call], dict[Version, int], int]:
    """Note the calls of modules as an image passes, how many functions take each tensor, and how many classes there
    are."""
    calls: list[_Call] = []
    taken: dict[Version, int] = {}
    alive: list[Tensor] = []  # or another tensor could have the same id
    given: dict[str, Version] = {}

    class Taking(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            versions = {_version(tensor) for tensor in inputs}
            result = func(*args, **(kwargs or {}))
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            if any(_version(tensor) not in versions for tensor in made):  # dropout, here, gives what it gets
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
    """Return a layer, with the modules its maps pass."""
    single = call.shape[2:].numel() == 1
    if sum(other.name == call.name for other in calls) > 1:
        return FilterLayer(call.name, call.name, call.name, (call.name,), single)
    path, alone, sole = [call], True, 1  # how many of the path nothing else takes maps from
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
    """Leaves modules that are followed whole, whatever their class."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (*MIXING, *NORMALISING)) or super().is_leaf_module(module, name)


def modular(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return the network with its calls of relu as modules, whose maps can be watched and replaced.

    It shares weights and modules with the network, which is returned itself where it calls none, or torch.fx cannot
    trace it, or its trace gives something else: relu is then seen where it is a module.
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
    traced.training = model.training  # its modules, which are the network's, know already
    return traced if calls and same else model
