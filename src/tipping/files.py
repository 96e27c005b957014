"""Write files completely or not at all, read tensors without running code, and digest tensors."""

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
    """Give the path of a temporary file beside `path`; on success it replaces `path`, on failure it is removed."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())  # otherwise a power failure may leave an empty file
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # the system names no file when a disk is full
        raise
    finally:
        part.unlink(missing_ok=True)


def load_saved(file: Path | IO[bytes]) -> Any:
    """Read the content of a file written by `torch.save`, on the CPU, without running code from the file.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file has another format or content, or its bytes have changed since they were written.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return load_saved(opened)
    with parsing():
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as parts:
                if changed := parts.testzip():  # torch does not check
                    raise ValueError(f"{changed} in it has changed")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def parsing() -> Iterator[None]:
    """Raise errors of a parser as `ValueError` within the context; let errors of system and memory pass."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: outside the file
            raise
        raise ValueError(str(error) or type(error).__name__) from error


def is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Return whether the content of a file is a state dict: tensors by their names."""
    return isinstance(content, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: of their names, types, shapes and values."""
    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
