"""Which layers of a network have filters, and where they are measured and ablated: found by watching an image pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tipping.errors import InputError
from tipping.network.hooks import evaluating, owner
from tipping.network.kinds import MIXING, Kind, known_kind, may_keep_channels, tried_kind

DENSE = ("addmm", "mm", "bmm", "baddbmm", "linear")  # what torch computes dense layers by


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
        shifted: the normalising submodule that the maps reach behind `activation`, where there is one and no
            activation comes before.
    """

    name: str
    activation: str
    before_pooling: str
    maps: tuple[str, ...]
    single: bool
    shifted: str | None = None

    def measured(self, where: str) -> tuple[str, ...]:
        """Return the submodules where the layer's filters are measured: `after_relu`, `before_pooling` or `all`."""
        return {"after_relu": (self.activation,), "before_pooling": (self.before_pooling,), "all": self.maps}[where]

    @property
    def earlier(self) -> tuple[str, ...]:
        """The other submodules where the filters could be ablated, the last first; the layer is the last resort."""
        before = self.maps[: self.maps.index(self.activation)] if self.activation in self.maps else (self.name,)
        return tuple(reversed(before))


def find(model: nn.Module, image_1CHW: Tensor, only: Sequence[str] | None = None) -> list[FilterLayer]:
    """Find the convolutions and dense layers of a network, as `Watched.layers` does."""
    return watch(model, image_1CHW).layers(only)


Version = tuple[int, int]  # the id of a tensor, and how often the tensor was written to


class _Call(NamedTuple):
    """A call of a module: the versions of its input and output, and the shape of its output."""

    number: int  # in the order in which calls end
    serial: int  # in the order in which calls begin
    name: str
    module: nn.Module
    given: Version
    made: Version
    shape: torch.Size
    maps: Tensor | None  # the input, where the module is to be tried


@dataclass
class Watched:
    """What happened as an image passed a network.

    Attributes:
        network: the name of the network's class.
        calls: the calls of modules that could keep channels apart, and of convolutions and dense layers.
        takers: for each version of a tensor, the calls in progress whenever an operation took the version.
        convolutions: the names of layers or submodules whose convolutions no `nn.Conv2d` computed.
        dense: the same for products of matrices with weights that no `nn.Linear` of vectors computed.
        classes: the number of logits.
    """

    network: str
    calls: list[_Call] = field(default_factory=list)
    takers: dict[Version, list[tuple[int, ...]]] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    classes: int = 0
    _kinds: dict[int, Kind | None] = field(default_factory=dict)

    def layers(self, only: Sequence[str] | None = None) -> list[FilterLayer]:
        """Return the convolutions and dense layers, except the last layer if it gives the classes.

        The maps of each layer are followed from module to module, as long as the modules keep channels apart and
        nothing else takes the maps. The maps of a layer that is used more than once are not followed: the layer's own
        output is measured and ablated. A dense layer that is applied at each position of its maps has no filters.

        Args:
            only: the names of the layers to keep; by default all layers are kept.

        Raises:
            InputError: a name in `only` is no layer with filters, or the network has no layer with filters.
        """
        mixing = [call for call in self.calls if isinstance(call.module, MIXING)]
        if mixing and mixing[-1].shape[1] == self.classes:  # a map for each class, or its mean
            mixing.pop()
        layers = {call.name: self._follow(call) for call in mixing if len(call.shape) == _dimensions(call.module)}
        for name in only or ():
            if name not in layers:
                known = ", ".join(layers) or "none"
                raise InputError(f"model.layers: {name} is no layer with filters; there are {known}")
        if not layers:
            raise InputError(f"{self.network} has no nn.Conv2d or nn.Linear before its last: it has no filters")
        return [layer for name, layer in layers.items() if not only or name in only]

    def unseen(self, dense: bool) -> list[str]:
        """Return the names of the layers that are neither measured nor ablated because they run out of reach of hooks,
        or are of another class.

        Args:
            dense: whether dense layers count.
        """
        return list(dict.fromkeys([*self.convolutions, *(self.dense if dense else [])]))

    def _follow(self, call: _Call) -> FilterLayer:
        """Return the layer of a call, with the modules that its maps pass."""
        single = call.shape[2:].numel() == 1
        if sum(other.name == call.name for other in self.calls) > 1:
            return FilterLayer(call.name, call.name, call.name, (call.name,), single)
        path, kinds, alone, sole = [call], [Kind.MIXING], True, 1
        while following := self._next(call, path[-1]):  # `sole`: how many maps of the path nothing else takes
            after, kind = following
            outside = [stack for stack in self.takers.get(path[-1].made, []) if after.serial not in stack]
            alone = alone and (not outside or after.made == after.given)  # dropout in eval mode returns its input
            path.append(after)
            kinds.append(kind)
            sole += alone
        names = [step.name for step, kind in zip(path, kinds, strict=True) if kind is not Kind.PASSING]
        unpooled = kinds.index(Kind.POOLING) if Kind.POOLING in kinds else len(path)
        activated = next((path[i].name for i in range(sole) if kinds[i] is Kind.ACTIVATION), None)
        site = min(unpooled, sole)
        shifted = next((path[i].name for i in range(site, unpooled) if kinds[i] is Kind.NORMALISING), None)
        return FilterLayer(
            call.name,
            activation=activated or path[site - 1].name,
            shifted=None if activated else shifted,
            before_pooling=path[unpooled - 1].name,
            maps=tuple(dict.fromkeys(names)),
            single=single,
        )

    def _next(self, layer: _Call, last: _Call) -> tuple[_Call, Kind] | None:
        """Return the call of the next module on the path of a layer's maps, and its kind; None where the path ends."""
        calls = [call for call in self.calls[last.number + 1 :] if call.given == last.made]
        after, kind = next(((call, kind) for call in calls if (kind := self._kind(call))), (None, None))
        if after is None or kind is None or kind is Kind.MIXING:
            return None
        first = next(call for call in self.calls[layer.number + 1 :] if call.name == after.name)
        return (after, kind) if first is after else None  # hooks would see another's maps

    def _kind(self, call: _Call) -> Kind | None:
        if call.maps is None:
            return known_kind(call.module)
        if call.serial not in self._kinds:
            self._kinds[call.serial] = tried_kind(call.module, call.maps)
        return self._kinds[call.serial]


def watch(model: nn.Module, image_1CHW: Tensor) -> Watched:
    """Watch an image pass a network.

    Raises:
        InputError: layers of the network are compiled by TorchScript, or give complex maps.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and any(weight.ndim > 1 for weight in module.parameters()):
            raise InputError(
                f"{name or type(model).__name__} is compiled by TorchScript, which runs no hooks: give the network as "
                "it was before torch.jit"
            )
    watched, handles = Watched(type(model).__name__), []
    taking = _Taking(watched, model)
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(taking.before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(taking.after(name), with_kwargs=True))
    try:
        with torch.inference_mode(False), evaluating(model), torch.no_grad(), taking:
            logits = model(image_1CHW.clone())
    finally:
        for handle in handles:
            handle.remove()
    watched.classes = logits.shape[-1]
    return watched


class _Taking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that notes which operation takes which tensor, also within scripts and autograd functions."""

    def __init__(self, watched: Watched, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched = watched
        self.stack: list[tuple[int, nn.Module, str, Version, Tensor | None]] = []
        self.serials = 0
        self.weights = {
            id(weight): name.rpartition(".")[0] for name, weight in model.named_parameters() if weight.ndim > 1
        }
        self.alive: list[Tensor] = []  # keeps tensors alive: another could get the id of one that is gone
        self.hooking = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and to say so would load torch._dynamo, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = {_version(tensor) for tensor in inputs}
        result = func(*args, **(kwargs or {}))
        if self.hooking:
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.alive += inputs + made
        if any(_version(tensor) not in versions for tensor in made):
            serials = tuple(call[0] for call in self.stack)
            for version in versions:
                self.watched.takers.setdefault(version, []).append(serials)
        self._note_layer(func._schema.name.partition("::")[2], inputs)
        return result

    def _note_layer(self, operation: str, inputs: list[Tensor]) -> None:
        """Note a convolution or a product of matrices that is not the output of a layer with filters."""
        convolution = "conv" in operation and len(inputs) > 1
        if not convolution and operation not in DENSE:
            return
        inner = self.stack[-1] if self.stack else None
        named = [self.weights[key] for key in (id(owner(tensor)) for tensor in inputs) if key in self.weights]
        if inner and isinstance(inner[1], nn.Conv2d if convolution else nn.Linear):
            return
        where = named[0] if named and named[0] else inner[2] if inner else self.watched.network
        if convolution:
            self.watched.convolutions.append(where)
        elif named:
            self.watched.dense.append(where)

    def before(self, name: str) -> Any:
        """Return a hook that notes that a module begins."""

        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.hooking = True
            first = next(iter((*inputs, *named.values())), None)
            version = _version(first) if isinstance(first, Tensor) else (0, 0)
            tried = None
            if isinstance(first, Tensor) and first.ndim in (2, 4) and len(inputs) + len(named) == 1:
                tried = first.clone() if known_kind(module) is None and may_keep_channels(module, first.shape) else None
            self.stack.append((self.serials, module, name, version, tried))
            self.serials += 1
            self.hooking = False

        return hook

    def after(self, name: str) -> Any:
        """Return a hook that notes the call of a module whose output could be the maps of a layer."""

        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], maps: Any) -> None:
            serial, _, _, given, tried = self.stack.pop()
            if not isinstance(maps, Tensor):
                return
            self.alive.append(maps)
            if tried is not None and (maps.ndim != tried.ndim or maps.shape[1] != tried.shape[1]):
                return
            if isinstance(module, nn.Linear) and maps.ndim > 2:
                self.watched.dense.append(name)
            if isinstance(module, nn.Conv2d) and (maps.ndim != 4 or maps.shape[1] != module.out_channels):
                self.watched.convolutions.append(name)  # a class of its own, which gives something else than maps
                return
            if tried is not None or known_kind(module) is not None:
                call = _Call(len(self.watched.calls), serial, name, module, given, _version(maps), maps.shape, tried)
                if isinstance(module, MIXING) and maps.is_complex():
                    raise InputError(f"{name} gives complex maps, which have no responses: give a real network")
                self.watched.calls.append(call)

        return hook


def _version(tensor: Tensor) -> Version:
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def _dimensions(module: nn.Module) -> int:
    """Return how many dimensions the output of a layer with filters has."""
    return 4 if isinstance(module, nn.Conv2d) else 2
