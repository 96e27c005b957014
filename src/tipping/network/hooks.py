"""Networks in eval mode and run as they are written; hooks that watch or replace the maps of layers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import checkpoint
from torch.utils.hooks import RemovableHandle

from tipping.errors import InputError

Hook = Callable[[nn.Module, object, Tensor], Tensor | None]  # may replace the maps
ORIGINAL = "_tipping_original"  # the attribute of a copy that names the tensor copied


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the network in eval mode within the context, and switch TF32, autocast and compilation off; restore all
    afterwards, also buffers that the network writes to in eval mode."""
    training = [module for module in model.modules() if module.training]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            uncompiled(),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        for module in training:
            module.training = True
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Restore the attributes of a network's modules after the context, in which torch.fx runs their code.

    A network that keeps what it computes would keep a proxy of it.
    """
    holders = [vars(module) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    holders += [part for holder in holders for part in (holder["_parameters"], holder["_buffers"], holder["_modules"])]
    before = [dict(holder) for holder in holders]
    try:
        yield
    finally:
        for holder, content in zip(holders, before, strict=True):
            holder.clear()
            holder.update(content)


Forward = Callable[[Tensor], Any]


def with_forward(model: nn.Module, change: Callable[[nn.Module, Forward, Tensor], Any]) -> nn.Module:
    """Return a shallow copy of a network with another forward.

    The copy shares modules, weights and the names of all with the network, which is not changed. It has hooks of its
    own, and may be given further modules.

    Args:
        model: the network.
        change: the other forward: a function of the copy, the network's own forward, and images.
    """
    kind = type(model)
    attributes = {name: copy.copy(value) if "_hooks" in name else value for name, value in vars(model).items()}
    attributes["_modules"] = dict(attributes["_modules"])
    attributes["_forward_alone"] = attributes.pop("forward", None)  # set on this network, not on its class

    def forward(self: nn.Module, images_NCHW: Tensor) -> Any:
        return change(self, vars(self)["_forward_alone"] or partial(kind.forward, self), images_NCHW)

    changed: type[nn.Module] = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    copied = object.__new__(changed)
    vars(copied).update(attributes)
    return copied


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which compiled parts of networks run as they are written: compiled, they run no hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled yet, and loading it takes a second
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def keeping_maps() -> Iterator[None]:
    """Keep all maps within the context, also those of parts that are checkpointed, which autograd would compute anew.

    Hooks would run again as signals go back, and see maps of another pass.
    """
    before = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator

    class Plain:
        """A call that keeps its maps, in place of a checkpointed one."""

        @staticmethod
        def apply(function: Callable[..., Any], _: bool, *args: Any) -> Any:
            return function(*args)

    def plain(*_: Any, **__: Any) -> Iterator[None]:
        yield

    checkpoint.CheckpointFunction = Plain  # type: ignore[misc, assignment]
    checkpoint._checkpoint_without_reentrant_generator = plain
    try:
        yield
    finally:
        checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator = before  # type: ignore[misc]


@contextmanager
def hooked(model: nn.Module, hooks: Sequence[tuple[str, str, Hook]]) -> Iterator[None]:
    """Attach hooks to the maps of layers within the context, and remove them afterwards.

    A hook acts on the first call of its submodule after each call of its layer, since other layers may share that
    submodule. If there is none in a pass of the network, an `InputError` ends the pass. Where the submodule works in
    place, so does the replacement of its maps: whatever reads the overwritten maps again gets the replaced ones.

    Args:
        hooks: for each hook, the name of the layer, the name of the submodule whose output is watched or replaced, and
            the hook.
    """
    handles: list[RemovableHandle] = []
    try:
        for layer, name, hook in hooks:
            source, site = model.get_submodule(layer), model.get_submodule(name)
            if site is not source:
                forget, note, hook, check = _after_layer(hook, layer, name)
                handles.append(model.register_forward_pre_hook(forget))  # a pass that failed may have left a note
                handles.append(source.register_forward_hook(note))
                handles.append(model.register_forward_hook(check))
            before, after = _around(hook)
            handles.append(site.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(site.register_forward_hook(after, with_kwargs=True))
        with uncompiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _around(hook: Hook) -> tuple[Callable[..., Any], Callable[..., Tensor | None]]:
    """Return a hook before and a hook after a module, which give `hook` its maps and write what it returns in place
    where the module works in place.

    Where gradients are wanted, the module gets a copy: autograd may keep the maps that the module has written.
    """
    versions: list[int] = []  # of the tensor that the module is given

    def before(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        first, swap = _first(inputs, named), None
        if first is not None and torch.is_grad_enabled() and first.requires_grad and not hasattr(first, ORIGINAL):
            copied = first.clone()
            setattr(copied, ORIGINAL, first)
            swap = tuple(copied if tensor is first else tensor for tensor in inputs)
            swap = swap, {name: copied if value is first else value for name, value in named.items()}
            first = copied
        versions[:] = [] if first is None or first.is_inference() else [first._version]
        return swap

    def after(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], maps: Tensor) -> Tensor | None:
        new, first = hook(module, inputs, maps), _first(inputs, named)
        if first is None or (versions and first._version == versions[0]):  # nothing was overwritten
            return new
        original = getattr(first, ORIGINAL, first)
        if _share(original, maps):
            return None if new is None else maps.copy_(new)
        return original.copy_(maps if new is None else new) if _share(first, maps) else new

    return before, after


def _first(inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor | None:
    """Return the first tensor that a module is given."""
    return next((value for value in (*inputs, *named.values()) if isinstance(value, Tensor)), None)


def owner(tensor: Tensor) -> Tensor:
    """Return the tensor whose memory a tensor shows: itself, unless it is a view."""
    return tensor if tensor._base is None else tensor._base


def _share(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors share their memory."""
    return isinstance(other, Tensor) and owner(one) is owner(other)


def _after_layer(hook: Hook, layer: str, name: str) -> tuple[Callable[[nn.Module, object], None], Hook, Hook, Hook]:
    """Return four hooks: the first, before the network runs, forgets; the second notes that the layer ran; the third,
    at the activation, acts only after that note; the last, after the network ran, checks that it did."""
    ran = False

    def forget(_: nn.Module, __: object) -> None:
        nonlocal ran
        ran = False

    def note(_: nn.Module, __: object, ___: Tensor) -> None:
        nonlocal ran
        ran = True

    def act(module: nn.Module, inputs: object, maps: Tensor) -> Tensor | None:
        nonlocal ran
        ran, due = False, ran
        return hook(module, inputs, maps) if due else None

    def check(_: nn.Module, __: object, ___: object) -> None:
        if ran:
            raise InputError(
                f"{layer}: for some images its maps do not pass {name}, where its filters are measured or ablated: "
                "leave the layer out, or give a network that goes one way for all images"
            )

    return forget, note, act, check
