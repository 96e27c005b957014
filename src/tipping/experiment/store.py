"""A store of networks and Gram matrices, under a hash of their recipe, so that no job makes the same tensors twice."""

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
from tipping.files import digest, is_plain, is_state, load_saved, replacing

log = logging.getLogger(__name__)
FORMAT = 1  # goes up when the same recipe gives other tensors


class Item(NamedTuple):
    """The tensors of a recipe, and their place in the store.

    Attributes:
        tensors: the tensors by name.
        key: the hash of the recipe; for weights from elsewhere, their origin.
        path: the file of the tensors.
        existed: whether the tensors existed before; false if they were made just now.
        made_on: the name of the device that made them; None where it is not kept.
    """

    tensors: dict[str, Tensor]
    key: str
    path: Path
    existed: bool
    made_on: str | None = None


class Store:
    """A folder of tensors by recipe. Files are written atomically and read without pickles; concurrent jobs make each
    once.

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
        """Return the tensors of a recipe: read from their file, or made now and kept.

        Args:
            kind: the subfolder.
            recipe: the values that decide the tensors, as JSON values.
            make: makes the tensors; only one job at a time runs it for a recipe.
            anew: make the tensors even if their file exists.
            made_on: the name of this device, kept with tensors that are made now.

        Raises:
            InputError: the file is truncated, or of another recipe.
            OSError: the file cannot be read, though it may be whole.
        """
        recipe = {"format": FORMAT, **recipe}
        text = json.dumps(recipe, sort_keys=True)
        key = recipe_key(text)
        path = self.folder / kind / f"{key}.pt"
        path.parent.mkdir(exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if path.exists() and not anew:
                tensors, earlier = _read(path, text)
                return Item(tensors, key, path, existed=True, made_on=earlier)
            tensors = {name: tensor.detach().cpu() for name, tensor in make().items()}
            self._write(path, {"recipe": text, "tensors": tensors, "digest": digest(tensors), "made_on": made_on})
            return Item(tensors, key, path, existed=False, made_on=made_on)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            with replacing(path) as part, part.open("wb") as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
            raise InputError(f"store.dir={self.folder}: cannot write {path.name} ({error}); is it full?") from error


def recipe_key(text: str) -> str:
    """Return the key of a recipe, which is the name of its file, by the recipe's JSON text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_item(file: Path | IO[bytes]) -> tuple[str, dict[str, Tensor]]:
    """Return the recipe and the tensors in a file of a store.

    Raises:
        OSError, ValueError: `load_saved` raises it.
        ValueError: the file is none of a store, or its tensors differ from those that were written.
    """
    content = _content(file)
    return content["recipe"], content["tensors"]


def _content(file: Path | IO[bytes]) -> dict[str, Any]:
    """Return all entries of a file of a store; raise as `read_item`."""
    content = load_saved(file)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("recipe"), str)
        or not is_state(content.get("tensors"))
    ):
        raise ValueError("nothing of the store's")
    if not all(map(is_plain, content["tensors"].values())):
        raise ValueError("tensors of another layout than are written here")
    if content.get("digest", actual := digest(content["tensors"])) != actual:  # sums in the zip do not cover all bytes
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
    """Return the tensors of a recipe, and the name of the device that made them; files made before lack the name."""
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
