"""Write files completely or not at all, read files of others without running code, and digest tensors."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard

import numpy as np
import torch
import yaml
from torch import Tensor

from tipping.errors import printable

MEGABYTE = 2**20
TEXT, ARRAYS = 16 * MEGABYTE, 512 * MEGABYTE  # bytes read of a text, and of the arrays of a file, at most
YAML = MEGABYTE // 4  # as it is read slowly
LONGEST_NUMBER = 300  # digits of a whole number, of which a float can be made
DEEPEST = 50  # levels of a tree of values
HEADER = 1000  # bytes of the header of an array, at most; Python cannot parse any header that is longer


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


@contextmanager
def opened(path: Path, most: float = math.inf, follow: bool = True) -> Iterator[IO[bytes]]:
    """Open a regular file of at most `most` bytes; a pipe or a device might block, or never end.

    Args:
        path: the file.
        most: the number of bytes that the file may have.
        follow: whether the path may be a symbolic link.

    Raises:
        OSError: the file cannot be opened, or is a link that must not be followed.
        ValueError: it is no regular file, or too large.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)  # Python would open no folder, and name only its number
        raise ValueError(f"{path} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_size > most:
            raise ValueError(f"{path} has {about.st_size} bytes, more than {most}")
        yield file


def read_bytes(path: Path, most: int = TEXT, follow: bool = True) -> bytes:
    """Read a regular file of at most `most` bytes; raise as `opened` does."""
    with opened(path, most, follow) as file:
        return file.read(most)


def read_text(path: Path, most: int = TEXT) -> str:
    """Read a regular text file of at most `most` bytes; raise as `opened` does."""
    return read_bytes(path, most).decode()


def read_yaml(path: Path) -> Any:
    """Read a YAML file of somebody's as it stands: all values are text, and no interpolation is resolved.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no YAML, too large, too deep, or has aliases, which may multiply.
    """
    text = read_text(path, YAML)
    try:
        return yaml.load(text, Loader=_Plain)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML") from error


class _Plain(yaml.BaseLoader):  # type: ignore[misc]
    """A loader that makes text of all values, and takes no aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def fit_to_print(tree: Any, depth: int = 0) -> Any:
    """Return JSON values with all texts, names among them, made `printable`.

    Raises:
        ValueError: the values lie too deep in one another.
    """
    if depth > DEEPEST:
        raise ValueError("values lie too deep in one another")
    if isinstance(tree, str):
        return printable(tree)
    if isinstance(tree, dict):
        return {printable(str(key)): fit_to_print(value, depth + 1) for key, value in tree.items()}
    return [fit_to_print(value, depth + 1) for value in tree] if isinstance(tree, list) else tree


def read_json(path: Path) -> Any:
    """Read a JSON file of somebody's, without numbers that are not finite. Its texts may not be fit to be printed.

    Raises:
        OSError: the file cannot be opened.
        ValueError, RecursionError: the file is too large, or no such JSON.
    """
    return json.loads(read_text(path), parse_constant=_finite, parse_float=_finite, parse_int=_whole)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def load_arrays(
    path: Path, names: Sequence[str] = (), most: int = ARRAYS, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Read arrays of a file that NumPy has written, without running code from the file.

    Args:
        path: the file.
        names: the names of the arrays; all by default.
        most: the bytes that the arrays may have when they are unpacked.
        sha256: the digest that the file must have; any by default.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it has another digest, is not whole, lacks an array, or unpacks to more.
    """
    with opened(path, most) as file, parsing():
        if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
            raise ValueError(f"{path.name} is not what was written")
        parts = zipfile.ZipFile(file)
        entries = [parts.getinfo(f"{name}.npy") for name in names] or parts.infolist()
        if sum(entry.file_size for entry in entries) > most:
            raise ValueError(f"its arrays have more than {most} bytes")
        if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
            raise ValueError("packed otherwise than by NumPy")
        return {entry.filename.removesuffix(".npy"): _array(parts.read(entry)) for entry in entries}


def _array(content: bytes) -> np.ndarray:
    """Return the array in the bytes of an ``.npy`` file; its header alone must not decide how much memory it takes."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("of a version that is not written here")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream, max_header_size=HEADER)
    if 0 in shape:
        return np.empty(shape, dtype)
    values = np.frombuffer(content, dtype, count=math.prod(shape), offset=stream.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def load_saved(file: Path | IO[bytes]) -> Any:
    """Read the content of a file written by `torch.save`, on the CPU, without running code from the file.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file has another format or content, or its bytes have changed since they were written.
    """
    if isinstance(file, Path):
        with opened(file) as content:
            return load_saved(content)
    with parsing():
        size = file.seek(0, os.SEEK_END)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as parts:
                if sum(part.file_size for part in parts.infolist()) > 10 * size + MEGABYTE:  # torch packs nothing
                    raise ValueError("it unpacks to many times its size")
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


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and on the CPU, and all of its values are there, each once.

    Other layouts, quantised values, views and tensors without values cannot be digested; none is written here.
    """
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu" or tensor.is_conj() or tensor.is_neg():
        return False
    return tensor.dtype in DTYPES and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32),  # predictions among more than 256 classes
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
)


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: of their names, types, shapes and values."""
    return digest_in_parts({name: (_about(tensor), [tensor]) for name, tensor in tensors.items()})


def digest_in_parts(tensors: Mapping[str, tuple[str, Iterable[Tensor]]]) -> str:
    """Return the SHA-256 of named tensors that come in parts, never more than one of them at a time.

    Args:
        tensors: for each name, the type and shape of the whole tensor as text, and its parts along the first axis. The
            result is that of `digest` for the whole tensors.
    """
    state = hashlib.sha256()
    for name, (about, parts) in sorted(tensors.items()):
        state.update(f"{name} {about}".encode())
        for part in parts:
            state.update(part.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return state.hexdigest()


def _about(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
