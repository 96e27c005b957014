"""Pickles of plain values and arrays of bytes, read without running anything that they name."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from tipping.files import parsing


def read_pickle(content: bytes) -> Any:
    """Read a pickle of numbers, texts, lists, dictionaries and NumPy arrays of unsigned bytes.

    What a pickle names is looked up here among a few functions of this module, which stand in for NumPy's: no function
    of another module is called, and no class of another module is made. Texts of Python 2 are given as bytes.

    Raises:
        ValueError: the pickle names anything else, or is none.
    """
    with parsing():
        return _replaced(_Unpickler(io.BytesIO(content), encoding="bytes").load())


class _Array:
    """What stands for an array while its pickle is read."""

    values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], object, bool, bytes]) -> None:
        _, shape, dtype, by_columns, content = state
        if not isinstance(dtype, _Bytes) or by_columns or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array that is not of unsigned bytes, row by row")
        if math.prod(shape) != len(content):
            raise pickle.UnpicklingError(f"an array of {len(content)} bytes has the shape {shape}")
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


class _Bytes:
    """What stands for the type of unsigned bytes."""

    def __setstate__(self, state: object) -> None:
        """Take no notice of the order of bytes."""


def _array(*_: object) -> _Array:
    return _Array()


def _dtype(name: str | bytes, *_: object) -> _Bytes:
    if name not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it holds an array of {name!r}, not of unsigned bytes (u1)")
    return _Bytes()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes as text in {encoding!r}, not in latin1")
    return text.encode("latin1")


def _ndarray(*_: object) -> _Array:
    raise pickle.UnpicklingError("it makes an array otherwise than NumPy's pickles do")


class _Named:
    """A function that a pickle may call, and not change."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes what it names")


NAMED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,  # the same since NumPy 2
    ("numpy", "ndarray"): _ndarray,  # an argument of the former
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,  # makes bytes in pickles that Python 3 writes for Python 2
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run")
        return _Named(NAMED[module, name])


def _replaced(tree: Any) -> Any:
    """Return values with arrays in place of what stood for them."""
    if isinstance(tree, _Array):
        return tree.values
    if isinstance(tree, dict):
        return {key: _replaced(value) for key, value in tree.items()}
    return tree
