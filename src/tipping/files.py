"""Files that are there whole or not at all; tensors read from them without running code, and their digest."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; it takes its place on success and is removed on failure."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())  # or a power failure may leave an empty file in its place
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # of a full disk, the system does not say where
        raise
    finally:
        part.unlink(missing_ok=True)


def load(file: Path | IO[bytes]) -> Any:
    """Read what `torch.save` has put into a file; no code in it is run.

    Raises:
        OSError: it cannot be opened.
        ValueError: it holds something else, or not the bytes that were written.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return load(opened)
    with parsing():
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as parts:
                if changed := parts.testzip():  # torch does not look
                    raise ValueError(f"{changed} in it has changed")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def parsing() -> Iterator[None]:
    """Whatever bytes at random make a parser raise is a ValueError; what the system says of a file is not."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a place outside of the file
            raise
        raise ValueError(str(error) or type(error).__name__) from error


def is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Return whether something read is tensors by names."""
    return isinstance(content, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of tensors: names, types, shapes and values."""
    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
