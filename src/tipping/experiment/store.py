"""Networks and Gram matrices, kept under a hash of what decides them, so that no job makes one twice."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tipping.errors import InputError
from tipping.files import digest, is_state, load_saved, replacing

log = logging.getLogger(__name__)
FORMAT = 1  # goes up when the same recipe would give something else


class Item(NamedTuple):
    """What the store holds for a recipe."""

    tensors: dict[str, Tensor]
    key: str
    path: Path
    found: bool  # false when it was made just now
    made_on: str | None = None  # the machine that made it, where it is kept


class Store:
    """A folder of tensors by recipe: written atomically, read without pickles, made once by concurrent jobs.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise InputError(f"store.dir={folder}: cannot be written to ({error}); give another folder") from error

    def fetch(
        self,
        kind: str,
        recipe: dict[str, Any],
        make: Callable[[], dict[str, Tensor]],
        anew: bool = False,
        made_on: str | None = None,
    ) -> Item:
        """Return the tensors of a recipe: read when they are there, else made and kept.

        Args:
            kind: the subfolder.
            recipe: what decides the tensors, as JSON values.
            make: makes them; runs in one job at a time for each recipe.
            anew: make them also when they are there.
            made_on: this machine, kept beside what is made now.

        Raises:
            InputError: the file is truncated, or of another recipe.
            OSError: it cannot be read, for a reason that is none of its own.
        """
        recipe = {"format": FORMAT, **recipe}
        text = json.dumps(recipe, sort_keys=True)
        key = key_of(text)
        path = self.folder / kind / f"{key}.pt"
        path.parent.mkdir(exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if path.exists() and not anew:
                tensors, earlier = _read(path, text)
                return Item(tensors, key, path, found=True, made_on=earlier)
            tensors = {name: tensor.detach().cpu() for name, tensor in make().items()}
            self._write(path, {"recipe": text, "tensors": tensors, "digest": digest(tensors), "made_on": made_on})
            return Item(tensors, key, path, found=False, made_on=made_on)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            with replacing(path) as part, part.open("wb") as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
            raise InputError(f"store.dir={self.folder}: cannot write {path.name} ({error}); is it full?") from error


def key_of(text: str) -> str:
    """Return the name of what a recipe gives."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(file: Path | IO[bytes]) -> tuple[str, dict[str, Tensor]]:
    """Return the recipe and the tensors in a file of a store.

    Raises:
        OSError, ValueError: as `load_saved`, or it is none.
    """
    content = _content(file)
    return content["recipe"], content["tensors"]


def _content(file: Path | IO[bytes]) -> dict[str, Any]:
    """Return all that a file of a store holds; raise as `read`."""
    content = load_saved(file)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("recipe"), str)
        or not is_state(content.get("tensors"))
    ):
        raise ValueError("nothing of the store's")
    if content.get("digest", found := digest(content["tensors"])) != found:  # the zip's sums are not of all its bytes
        raise ValueError("other tensors than were written")
    return content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for the job that is making %s", path.with_suffix(".pt"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(path: Path, text: str) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors of a recipe, and the machine that made them; files of earlier versions do not name it."""
    try:
        content = _content(path)
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read (truncated, or damaged?): delete it, and the next job makes it anew"
        ) from error
    if content["recipe"] != text:
        raise InputError(f"{path} is of another network or recipe: delete it, and the next job makes it anew")
    made_on = content.get("made_on")
    return content["tensors"], made_on if isinstance(made_on, str) else None
