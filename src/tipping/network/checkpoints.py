"""Weights of networks from files as people have them."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from tipping.errors import InputError
from tipping.files import DEEPEST, load_saved, opened

SHOWN = 3  # names of each kind in a message
COMPILED = "_orig_mod."  # what torch.compile puts into names, wherever a part was compiled
log = logging.getLogger(__name__)


class _Weights(NamedTuple):
    """Tensors of a file by their names in the network, and where they were in the file.

    Attributes:
        place: the keys of the dictionaries that hold them, and the prefix of their names, such as ``state_dict.net.``.
        tensors: the tensors.
        others: the names of tensors beside them, which have another prefix.
    """

    place: str
    tensors: dict[str, Tensor]
    others: list[str]


def load_checkpoint(model: nn.Module, path: str) -> None:
    """Load a network's weights from a file written by ``torch.save`` or safetensors.

    The file holds a state dict, or dictionaries that hold one, under any name. Its names may have a prefix, such as
    that of a Lightning module's attribute or of a distributed network, and marks of compiled parts. Every tensor of the
    network must be in the file, in its shape, but counts of batches. Where some of several sets that fit are averages,
    with `ema`, `swa` or `average` in their names, these are not taken.

    Raises:
        InputError: the file cannot be read, holds weights that are of another architecture or not finite, or several
            sets that fit.
    """
    content = _read(path)
    state: dict[str, Tensor] = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    holders = list(_holders(content, ""))
    if not holders:
        raise InputError(f"model.checkpoint={path} holds no state dict: save one by torch.save(model.state_dict(), …)")
    sets = [weights for place, tensors in holders for weights in _sets(place, tensors, state)]
    fitting = [weights for weights in sets if not _misfits(weights, state)]
    if not fitting:
        closest = max(sets, key=lambda weights: len(weights.tensors.keys() & state.keys()))
        raise InputError(
            f"model.checkpoint={path} is of another architecture: {_misfits(closest, state)}; give the network that "
            "was saved, by model._target_ and its arguments, and data.labels if it has more classes than the data"
        )
    weights = _chosen(fitting, path)
    try:
        model.load_state_dict({name: weights.tensors[name] for name in state if name in weights.tensors}, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.checkpoint={path} is of another architecture: {reason[:200]}") from error
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise InputError(f"model.checkpoint={path} holds weights that are not finite: train it anew")


def _read(path: str) -> Any:
    """Return the content of a file of weights, read without running code from it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return _read_safetensors(path)
        return load_saved(Path(path))
    except OSError as error:
        raise InputError(f"model.checkpoint={path} cannot be read ({error}); give a file of weights") from error
    except InputError:
        raise
    except ValueError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))  # as torch names what is no tensor
        why = f"it holds {foreign[1]}, which could run code as it is read; " if foreign else ""
        remedy = f"{why}save weights alone, by torch.save(model.state_dict(), …)"
        raise InputError(f"model.checkpoint={path} cannot be read as weights: {remedy}") from error


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        needed = "pip install 'tipping[safetensors]'"
        raise InputError(f"model.checkpoint={path} needs the package safetensors: {needed}") from error
    with opened(Path(path)):  # a regular file
        pass
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _holders(content: Any, place: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of each dictionary that holds any, and the dictionary's place in the content of a file."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and not any(tensor.is_complex() for tensor in tensors.values()):
        yield place, tensors
    for name, value in content.items():
        if isinstance(name, str):
            yield from _holders(value, f"{place}{name}.", depth + 1)


def _sets(place: str, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterator[_Weights]:
    """Yield the tensors whose names are those of a network's state after a prefix, for each prefix that fits best."""
    plain = {name.replace(COMPILED, ""): name for name in state}
    names = {name.replace(COMPILED, ""): name for name in tensors}
    ends = ((name, name[start:]) for name in names for start in (0, *(i + 1 for i, c in enumerate(name) if c == ".")))
    counts = Counter(name.removesuffix(end) for name, end in ends if end in plain)
    most = max(counts.values(), default=0)
    for prefix in [prefix for prefix, count in counts.items() if count == most] or [""]:
        inside = {name.removeprefix(prefix): tensors[key] for name, key in names.items() if name.startswith(prefix)}
        others = [name for name in names if not name.startswith(prefix)]
        yield _Weights(place + prefix, {plain.get(name, name): value for name, value in inside.items()}, others)


def _misfits(weights: _Weights, state: Mapping[str, Tensor]) -> str:
    """Return what of some weights does not fit a network, in words; nothing where all fit."""
    tensors = weights.tensors
    counts = "num_batches_tracked"  # which no network needs to give logits, and files of old do not have
    missing = [name for name in state if name not in tensors and not name.endswith(counts)]
    unexpected = [name for name in tensors if name not in state]
    shaped = [
        f"{name}: {_sides(tensors[name])} in the file, {_sides(state[name])} in the network"
        for name in tensors.keys() & state.keys()
        if tensors[name].shape != state[name].shape
    ]
    kinds = {"missing in the file": missing, "unexpected": unexpected, "of another shape": sorted(shaped)}
    return ", ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _chosen(fitting: list[_Weights], path: str) -> _Weights:
    """Return the weights to load, of those that fit, and say where they were in the file, and what else there is.

    Raises:
        InputError: several fit that are not averages, and they differ.
    """
    plain = [weights for weights in fitting if not re.search(r"ema|swa|averag", weights.place, re.IGNORECASE)]
    first, *rest = plain or fitting
    if any(not _equal(first.tensors, weights.tensors) for weights in rest):
        places = ", ".join(weights.place.rstrip(".") for weights in (first, *rest))
        raise InputError(
            f"model.checkpoint={path} holds several weights that fit ({places}): save alone those that you mean"
        )
    beside = [weights.place.rstrip(".") for weights in fitting if weights is not first] + first.others
    if beside:
        log.info("%s: the weights are %s; not read: %s", path, first.place.rstrip(".") or "at its top", _first(beside))
    return first


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(name in other and tensor.equal(other[name]) for name, tensor in one.items())
