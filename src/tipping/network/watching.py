"""What happens as an image passes a network: the calls of its modules, and which operation takes which tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tipping.errors import InputError
from tipping.network.hooks import evaluating, owner
from tipping.network.kinds import CONVOLUTIONS, MIXING, Kind, kind_by_class, known_kind, may_keep_channels, tried_kind

DENSE = ("addmm", "mm", "bmm", "baddbmm", "linear", "_trilinear", "_native_multi_head_attention")
RECURRENT = ("lstm", "gru", "rnn")  # parts of the names by which torch computes these, beside products of matrices

Version = tuple[int, int]  # the id of a tensor, and how often the tensor was written to


class ModuleCall(NamedTuple):
    """A call of a module: the versions of its input and output, and the shape of its output."""

    number: int  # in the order in which calls end
    serial: int  # in the order in which calls begin
    name: str
    module: nn.Module
    given: Version
    made: Version
    shape: torch.Size
    maps: Tensor | None  # the input, where the module is to be tried


class Operation(NamedTuple):
    """An operation on tensors.

    Attributes:
        name: its name in torch, such as `add` or `mul_`.
        taken: the versions of the tensors that it takes.
        made: the versions of the tensors that it makes.
        spread: whether it makes maps of more than one value.
        serials: the calls of modules in progress.
    """

    name: str
    taken: frozenset[Version]
    made: tuple[Version, ...]
    spread: bool
    serials: tuple[int, ...]


@dataclass
class Watched:
    """What happened as an image passed a network.

    Attributes:
        network: the name of the network's class.
        calls: the calls of modules that could keep channels apart, and of layers with filters.
        passed: the names of all modules that were called.
        takers: for each version of a tensor, the operations that took the version.
        makers: for each version of a tensor, the operations that made the version.
        convolutions: the names of layers or submodules whose convolutions no layer with filters computed.
        dense: the same for products of matrices with weights that no `nn.Linear` of vectors computed.
        logits: the version of the network's output.
        classes: the number of logits.
    """

    network: str
    calls: list[ModuleCall] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)
    takers: dict[Version, list[Operation]] = field(default_factory=dict)
    makers: dict[Version, list[Operation]] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    logits: Version = (0, 0)
    classes: int = 0
    _kinds: dict[int, Kind | None] = field(default_factory=dict)

    def kind(self, call: ModuleCall) -> Kind | None:
        """Return the kind of a call's module, which is tried if its class is not known."""
        if call.maps is None:
            return known_kind(call.module)
        if call.serial not in self._kinds:
            self._kinds[call.serial] = tried_kind(call.module, call.maps) or kind_by_class(call.module)
        return self._kinds[call.serial]

    def unseen(self, dense: bool) -> list[str]:
        """Return the names of the layers that are neither measured nor ablated because they run out of reach of hooks,
        or are of another class.

        Args:
            dense: whether dense layers count.
        """
        return list(dict.fromkeys([*self.convolutions, *(self.dense if dense else [])]))


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
    watched.classes, watched.logits = logits.shape[-1], _version(logits)
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
        versions = frozenset(_version(tensor) for tensor in inputs)
        result = func(*args, **(kwargs or {}))
        if self.hooking:
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.alive += inputs + made
        name, written = func._schema.name.partition("::")[2], _written(func._schema.arguments, args)
        new = tuple((id(tensor), _version(tensor)[1] + (id(tensor) in written)) for tensor in made)
        if any(version not in versions for version in new):
            spread = any(tensor.shape[2:].numel() > 1 for tensor in made)
            operation = Operation(name, versions, new, spread, tuple(call[0] for call in self.stack))
            for version in versions:
                self.watched.takers.setdefault(version, []).append(operation)
            for version in new:
                self.watched.makers.setdefault(version, []).append(operation)
        self._note_layer(name, inputs)
        return result

    def _note_layer(self, operation: str, inputs: list[Tensor]) -> None:
        """Note a convolution or a product of matrices that is not the output of a layer with filters."""
        convolution = "conv" in operation and len(inputs) > 1
        if not convolution and operation not in DENSE and not any(part in operation for part in RECURRENT):
            return
        inner = self.stack[-1] if self.stack else None
        named = [self.weights[key] for key in (id(owner(tensor)) for tensor in inputs) if key in self.weights]
        if inner and isinstance(inner[1], CONVOLUTIONS if convolution else nn.Linear):
            return
        where = [name for name in named if name] or [inner[2] if inner else self.watched.network]
        if convolution:
            self.watched.convolutions += where
        elif named:
            self.watched.dense += where

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
            self.watched.passed.add(name)
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
            if isinstance(module, CONVOLUTIONS) and (maps.ndim != 4 or maps.shape[1] != module.out_channels):
                self.watched.convolutions.append(name)  # a class of its own, which gives something else than maps
                return
            if tried is not None or known_kind(module) is not None:
                calls = self.watched.calls
                calls.append(ModuleCall(len(calls), serial, name, module, given, _version(maps), maps.shape, tried))
                if isinstance(module, MIXING) and maps.is_complex():
                    raise InputError(f"{name} gives complex maps, which have no responses: give a real network")

        return hook


def _written(parameters: Sequence[Any], args: Sequence[Any]) -> set[int]:
    """Return the ids of the tensors that an operation writes to; torch counts their versions up only afterwards."""
    return {id(value) for parameter, value in zip(parameters, args, strict=False) if parameter.is_write}


def _version(tensor: Tensor) -> Version:
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def reached(start: Version, steps: Mapping[Version, Sequence[Operation]], back: bool = False) -> set[Version]:
    """Return the versions of tensors that are made of one, itself among them; with `back`, those that it is made of.

    Args:
        start: the version of the tensor.
        steps: the operations that lead from each version to the next: `Watched.takers`, or with `back` `.makers`.
    """
    seen, todo = {start}, [start]
    while todo:
        following = (operation.taken if back else operation.made for operation in steps.get(todo.pop(), ()))
        new = {version for versions in following for version in versions} - seen
        seen |= new
        todo += new
    return seen
