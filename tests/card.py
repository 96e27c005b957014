"""A card that is not there.

Its tensors say that they lie on it, and what mixes them with the CPU's fails, as on a GPU; the arithmetic is the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import pytest
import pytorch_lightning
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tipping.network import training

aten = torch.ops.aten
LIBRARY = torch.library.Library("aten", "IMPL")
BETWEEN = (aten._to_copy, aten.to, aten.copy_, aten._copy_from, aten._has_compatible_shallow_copy_type)
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)  # take positions from the CPU too
FILLING = (aten.fill, aten.fill_, *INDEXING)  # take a number from the CPU, as pointwise operations do


class OnCard(Tensor):
    """A tensor on the card: `near` holds its values."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> OnCard:
        near = near.detach()
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        made: OnCard = Tensor._make_wrapper_subclass(cls, near.shape, device=torch.device("card", 0), **layout)  # type: ignore[attr-defined]
        made.near = near
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["near"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: object) -> OnCard:
        return OnCard(inner["near"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: object, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.near.tolist()


class Card(TorchDispatchMode):
    """Within it there is a device `card`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would otherwise wrap each operation, so that it is not compiled, which nothing here is

    def __torch_dispatch__(self, function: Any, _: object, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operation, where its tensors or the device it names are on the card.

    Raises:
        RuntimeError: some of its tensors are on the card, and others, or a generator, on the CPU.
    """
    leaves, operation = _leaves([*args, *kwargs.values()]), function.overloadpacket
    wanted = [leaf.type for leaf in leaves if type(leaf) is torch.device]
    if "card" not in wanted and not any(type(leaf) is OnCard for leaf in leaves):
        return function(*args, **kwargs)
    if operation not in BETWEEN:
        _refuse_mixed(function, (args[0], *args[2:]) if operation in INDEXING else leaves)
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
        # whose tensors cannot be wrapped
        result = function(*_mapped(_near, args), **{key: _mapped(_near, one) for key, one in kwargs.items()})
        if "cpu" in wanted or operation is aten._local_scalar_dense:
            return result
        returned = function._schema.returns
        if returned and returned[0].alias_info is not None and returned[0].alias_info.is_write:
            return kwargs.get("out", args[0])
        return _mapped(_there, result)


def _leaves(values: Sequence[Any]) -> list[Any]:
    """What tuples and lists hold; torch's own way takes longer than the operations."""
    leaves = []
    for one in values:
        if isinstance(one, (tuple, list)):
            leaves += _leaves(one)
        else:
            leaves.append(one)
    return leaves


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Tuples and lists of changed leaves."""
    return type(value)([_mapped(change, one) for one in value]) if isinstance(value, (tuple, list)) else change(value)


def _refuse_mixed(function: Any, leaves: Sequence[Any]) -> None:
    numbers = torch.Tag.pointwise in function.tags or function.overloadpacket in FILLING
    for leaf in leaves:
        elsewhere = type(leaf) is not OnCard and isinstance(leaf, Tensor) and (leaf.ndim or not numbers)
        if elsewhere or isinstance(leaf, torch.Generator):
            raise RuntimeError(f"{function}: tensors on the card beside a {type(leaf).__name__} of the CPU's")


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        assert device.type == "card"


def trainer(of: Callable[..., Trainer], device: torch.device, *args: Any, **kwargs: Any) -> Trainer:
    """What a function of the device makes with Lightning's Trainer, which knows nothing of the card."""

    def on_card(*, accelerator: str, devices: int, **options: Any) -> Trainer:
        assert (accelerator, devices) == ("cpu", 1)
        return Trainer(strategy=SingleDeviceStrategy(device, accelerator=_Accelerator()), **options)

    with pytest.MonkeyPatch.context() as patch:
        if device.type == "card":
            patch.setattr(pytorch_lightning, "Trainer", on_card)
        return of(device, *args, **kwargs)


@contextmanager
def plugged_in() -> Iterator[torch.device]:
    """Within it there is the card, and Lightning trains on it."""
    register()
    with Card(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_trainer", partial(trainer, training._trainer))
        yield torch.device("card", 0)


def _near(leaf: Any) -> Any:
    if type(leaf) is OnCard:
        return leaf.near
    return torch.device("cpu") if type(leaf) is torch.device else leaf


def _there(leaf: Any) -> Any:
    return OnCard(leaf) if isinstance(leaf, Tensor) else leaf


@cache
def register() -> None:
    """Make the device known to torch, before its first backward pass, with what its own constructors need."""
    _setup_privateuseone_for_python_backend("card")

    def empty_strided(size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype, **_: object) -> OnCard:
        return OnCard(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source: Tensor, target: OnCard, non_blocking: bool = False) -> OnCard:
        target.near.copy_(_near(source))
        return target

    kernels: dict[str, Callable[..., OnCard]] = {"empty_strided": empty_strided, "_copy_from": copy_from}
    for name, kernel in kernels.items():
        LIBRARY.impl(name, kernel, "PrivateUse1")
