"""List the store's items, verify that they are whole, and prune those that no job's record uses."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from tipping.errors import InputError, printable
from tipping.experiment.records import RECORD, UNREADABLE
from tipping.experiment.store import read_item, recipe_key
from tipping.files import fit_to_print, opened, read_text

NAME = re.compile(
    r"([0-9a-f]{16})\.(?:pt|lock)|\.([0-9a-f]{16})\.pt\.[0-9a-f]{32}\.part"
)  # the names of files in a store
Jobs = Mapping[str, Sequence[Path]]  # folders of jobs, by keys of items and by digests of weights
WHY = {".pt": "no record uses it", ".part": "left by a job that was stopped", ".lock": "nobody holds it"}


class Place(NamedTuple):
    """The place of an item in the store.

    Attributes:
        item: the file of the item, which need not exist.
        files: the files that exist: the item, its unfinished copies, and its lock, in this order.
    """

    item: Path
    files: list[Path]

    @property
    def key(self) -> str:
        """The key of the recipe."""
        return self.item.stem

    @property
    def filled(self) -> bool:
        """Whether the item exists."""
        return self.item in self.files


def places(store: Path) -> list[Place]:
    """Return the places of a store, sorted by kind and key; other files in the folder are left out.

    Raises:
        InputError: the folder does not exist.
    """
    if not store.is_dir():
        raise InputError(f"--store {store}: no such folder; give the store.dir of the jobs")
    files: dict[Path, list[Path]] = {}
    for path in store.glob("*/*"):
        if (name := NAME.fullmatch(path.name)) and path.is_file():  # a pipe would block
            files.setdefault(path.with_name(f"{name[1] or name[2]}.pt"), []).append(path)
    order = (".pt", ".part", ".lock")
    return [Place(item, sorted(files[item], key=lambda path: order.index(path.suffix))) for item in sorted(files)]


def recipe_of(item: Path) -> dict[str, Any] | None:
    """Return the recipe in the file of an item; None if the file cannot be read."""
    if not item.is_file():  # a pipe would block
        return None
    try:
        recipe = json.loads(torch.load(item, weights_only=True, mmap=True)["recipe"])  # not the tensors
        return dict(fit_to_print(recipe))
    except Exception:  # any error, as the file may hold any bytes
        return None


def in_words(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as one line: classes by name, digests by their first digits, lists by their length."""
    return printable(" ".join(_words(recipe)))


def _words(recipe: Mapping[str, Any]) -> Iterator[str]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _words(value)
        elif name == "_target_" and isinstance(value, str):
            yield value.rpartition(".")[2]
        elif isinstance(value, list):
            yield f"{name}[{len(value)}]"
        elif name != "format":
            short = re.sub("^([0-9a-f]{8})[0-9a-f]{56}$", r"\1", value) if isinstance(value, str) else value
            yield f"{name}={short:g}" if isinstance(value, float) else f"{name}={short}"


def fault(place: Place, content: IO[bytes]) -> str | None:
    """Return the fault of an item, as the end of a sentence; None if the item is whole.

    Args:
        place: the place of the item.
        content: its file.
    """
    try:
        text, tensors = read_item(content)
        if recipe_key(text) != place.key:
            return "is of another recipe than its name says"
        infinite = place.item.parent.name == "networks"  # whose masks may be infinite
        if any(bool((tensor.isnan() if infinite else ~tensor.isfinite()).any()) for tensor in tensors.values()):
            return "holds numbers that are not finite"
    except ValueError:
        return "is damaged, or nothing of the store's"
    return None


def jobs_by_use(sweeps: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the folders of jobs by what the jobs use: keys of items, and digests of weights.

    Raises:
        InputError: a folder holds no records, or a record cannot be read.
    """
    jobs: dict[str, list[Path]] = {}
    for sweep in sweeps:
        paths = sorted(path for path in _below(sweep) if path.name == RECORD)
        if not paths:
            raise InputError(f"{sweep} holds no record of a job; give the folders of sweeps")
        for path in paths:
            try:
                names = _used_by(json.loads(read_text(path)))
            except UNREADABLE as error:
                raise InputError(
                    f"{path} cannot be read, or is of a version that does not say what it used: run its job again, or "
                    "move it away"
                ) from error
            for name in names:
                jobs.setdefault(name, []).append(path.parent)
    return jobs


def _used_by(record: dict[str, Any]) -> set[str]:
    store = record["store"]
    names = {Path(store["network"]).stem, store["weights"]}  # the file of a checkpoint may be an item
    if record["config"]["randomize"] != "none":  # a sanity check uses the trained network too
        names.add(store["trained"])
    return names


def users(place: Place, recipe: Mapping[str, Any] | None, jobs: Jobs) -> list[Path]:
    """Return the folders of the jobs that use an item, by the item's place and recipe."""
    return sorted({*jobs.get(place.key, ()), *jobs.get(str((recipe or {}).get("weights", "")), ())})


def check_idle(sweeps: Iterable[Path]) -> None:
    """Check that no sweep or search is running in some folders, as running jobs have no records yet.

    Raises:
        InputError: a sweep or search is running.
    """
    for sweep in sweeps:
        for path in _below(sweep):
            if path.name == ".lock" or path.match("locks/*.lock"):  # the lock of a sweep, and locks of evaluations
                with _holding(path) as free:
                    if not free:
                        raise InputError(f"{path}: jobs are running there, and have no records yet; wait for their end")


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in its subfolders, each file once; links are followed.

    Raises:
        InputError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}); give the folders of sweeps") from error

    seen: set[Path] = set()
    for path, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = Path(path).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(path) / name for name in files)


def prune(place: Place, jobs: Jobs, delete: bool) -> Iterator[Path]:
    """Yield the files of a place that no job needs; no files if a job holds the place's lock.

    An item that cannot be read counts as needed.

    Args:
        place: the place.
        jobs: the folders of jobs by what the jobs use.
        delete: delete each file after it is yielded.
    """
    with _holding(place.item.with_suffix(".lock")) as free:
        recipe = recipe_of(place.item)
        needed = place.item.exists() and (recipe is None or users(place, recipe, jobs))
        for path in filter(Path.exists, place.files) if free else ():  # files may be gone since they were listed
            if path.suffix == ".part" or not needed:
                yield path
                if delete:
                    path.unlink()


@contextmanager
def _holding(path: Path) -> Iterator[bool]:
    """Hold a lock, and yield whether the lock was free; a new lock file is removed again."""
    lock, new = FileLock(path), not path.exists()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        if new:
            path.unlink(missing_ok=True)
        lock.release()


def list_items(store: Path, sweeps: Sequence[Path]) -> int:
    """Print the items of a store and, with sweeps, the jobs that use each item. Return the exit code."""
    jobs = jobs_by_use(sweeps)
    rows = [["kind", "key", "size", "made", *(["used by"] if sweeps else []), "what"]]
    sizes, unfinished = [], []
    for place in places(store):
        unfinished += [path for path in place.files if path.suffix == ".part"]
        if not place.filled:
            continue
        recipe, stat = recipe_of(place.item), place.item.stat()
        sizes.append(stat.st_size)
        row = [place.item.parent.name, place.key, _human(stat.st_size)]
        row.append(time.strftime("%Y-%m-%d %H:%M", time.localtime(stat.st_mtime)))
        if sweeps:
            by = [printable(str(job)) for job in users(place, recipe, jobs)] or ["orphaned" if recipe else "?"]
            row.append(by[0] + (f" and {len(by) - 1} more" if by[1:] else ""))
        rows.append([*row, in_words(recipe) if recipe else "cannot be read; `verify` says more"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(sizes)} items, {_human(sum(sizes))}", end="")
    print(f"; {len(unfinished)} unfinished files" if unfinished else "")
    return 0


def verify(store: Path) -> int:
    """Print the SHA-256 of each whole item, as `sha256sum` does, and the fault of each other item.

    Returns:
        the exit code: 1 if an item is not whole.
    """
    items = [place for place in places(store) if place.filled]
    bad = 0
    for place in items:
        try:
            with opened(place.item) as content:
                wrong = fault(place, content)
                content.seek(0)
                whole = "" if wrong else hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, ValueError, MemoryError) as error:
            bad += 1
            reason = getattr(error, "strerror", None) or str(error) or "out of memory"
            print(f"{printable(str(place.item))} cannot be read ({reason})", file=sys.stderr)
            continue
        if wrong:
            bad += 1
            print(f"{printable(str(place.item))} {wrong}: delete it, and the next job makes it anew", file=sys.stderr)
        else:
            print(f"{whole}  {printable(str(place.item))}")
    print(f"{len(items) - bad} of {len(items)} items are whole", file=sys.stderr)
    return 1 if bad else 0


def prune_orphans(store: Path, sweeps: Sequence[Path], delete: bool) -> int:
    """Print the files that no job of sweeps uses, and the unfinished files of stopped jobs; return the exit code.

    Args:
        store: the folder of the store.
        sweeps: the folders of all jobs to keep.
        delete: delete the files.
    """
    jobs = jobs_by_use(sweeps)
    check_idle(sweeps)
    sizes = []
    for place in places(store):
        for path in prune(place, jobs, delete):
            sizes.append(path.stat().st_size)
            done = "delete" if delete else "would delete"
            print(f"{done} {printable(str(path))} ({_human(sizes[-1])}): {WHY[path.suffix]}")
    done = "deleted" if delete else "would be deleted; --yes deletes them"
    print(f"{len(sizes)} files, {_human(sum(sizes))}, {done}" if sizes else "nothing to delete")
    return 0


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
