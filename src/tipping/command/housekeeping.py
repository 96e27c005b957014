"""What the store holds, whether it is whole, and what of it no job's record uses."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from tipping.errors import InputError
from tipping.experiment.records import RECORD, UNREADABLE
from tipping.experiment.store import read_item, recipe_key

NAME = re.compile(r"([0-9a-f]{16})\.(?:pt|lock)|\.([0-9a-f]{16})\.pt\.[0-9a-f]{32}\.part")  # of the store's own files
Jobs = Mapping[str, Sequence[Path]]  # by the keys of items, and by the weights that items are of
WHY = {".pt": "no record uses it", ".part": "left by a job that was stopped", ".lock": "nobody holds it"}


class Place(NamedTuple):
    """Where the store keeps what a recipe gives.

    Attributes:
        item: its file, which need not be there.
        files: those that are there: the item, its unfinished copies, and its lock, in this order.
    """

    item: Path
    files: list[Path]

    @property
    def key(self) -> str:
        """Of the recipe."""
        return self.item.stem

    @property
    def filled(self) -> bool:
        """Whether the item is there."""
        return self.item in self.files


def places(store: Path) -> list[Place]:
    """Return the places of a store, by kind and key; files that are not the store's own are left out.

    Raises:
        InputError: there is no such folder.
    """
    if not store.is_dir():
        raise InputError(f"--store {store}: no such folder; give the store.dir of the jobs")
    found: dict[Path, list[Path]] = {}
    for path in store.glob("*/*"):
        if name := NAME.fullmatch(path.name):
            found.setdefault(path.with_name(f"{name[1] or name[2]}.pt"), []).append(path)
    order = (".pt", ".part", ".lock")
    return [Place(item, sorted(found[item], key=lambda path: order.index(path.suffix))) for item in sorted(found)]


def recipe_of(item: Path) -> dict[str, Any] | None:
    """Return the recipe in a file; None where it cannot be read."""
    try:
        return dict(json.loads(torch.load(item, weights_only=True, mmap=True)["recipe"]))  # not the tensors
    except Exception:  # whatever bytes at random make it raise
        return None


def in_words(recipe: Mapping[str, Any]) -> str:
    """Return a recipe in a line: classes by name, digests by their first digits, of lists their length."""
    return " ".join(_words(recipe))


def _words(recipe: Mapping[str, Any]) -> Iterator[str]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _words(value)
        elif name == "_target_":
            yield value.rpartition(".")[2]
        elif isinstance(value, list):
            yield f"{name}[{len(value)}]"
        elif name != "format":
            short = re.sub("^([0-9a-f]{8})[0-9a-f]{56}$", r"\1", value) if isinstance(value, str) else value
            yield f"{name}={short:g}" if isinstance(value, float) else f"{name}={short}"


def fault(place: Place, content: bytes) -> str | None:
    """Return what is wrong with the content of an item, as the end of a sentence."""
    try:
        text, tensors = read_item(io.BytesIO(content))
        if recipe_key(text) != place.key:
            return "is of another recipe than its name says"
        infinite = place.item.parent.name == "networks"  # which may hold masks
        if any(bool((tensor.isnan() if infinite else ~tensor.isfinite()).any()) for tensor in tensors.values()):
            return "holds numbers that are not finite"
    except ValueError:
        return "is damaged, or nothing of the store's"
    return None


def jobs_by_use(sweeps: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the folders of jobs by what these use: keys of items, and the weights that items are of.

    Raises:
        InputError: a folder holds no records, or one cannot be read.
    """
    jobs: dict[str, list[Path]] = {}
    for sweep in sweeps:
        paths = sorted(path for path in _below(sweep) if path.name == RECORD)
        if not paths:
            raise InputError(f"{sweep} holds no record of a job; give the folders of sweeps")
        for path in paths:
            try:
                names = _used_by(json.loads(path.read_text()))
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
    names = {Path(store["network"]).stem, store["weights"]}  # a checkpoint may lie in the store
    if record["config"]["randomize"] != "none":  # compared with the network as it was trained
        names.add(store["trained"])
    return names


def users(place: Place, recipe: Mapping[str, Any] | None, jobs: Jobs) -> list[Path]:
    """Return the folders of the jobs that use an item."""
    return sorted({*jobs.get(place.key, ()), *jobs.get((recipe or {}).get("weights", ""), ())})


def check_idle(sweeps: Iterable[Path]) -> None:
    """Check that no sweep or search is running in some folders: its jobs have no records yet.

    Raises:
        InputError: one is.
    """
    for sweep in sweeps:
        for path in _below(sweep):
            if path.name == ".lock" or path.match("locks/*.lock"):  # of a sweep, and of evaluations
                with _holding(path) as free:
                    if not free:
                        raise InputError(f"{path}: jobs are running there, and have no records yet; wait for their end")


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, each once, also behind links.

    Raises:
        InputError: a folder cannot be read, and might hold anything.
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
    """Yield the files of a place that nobody needs, and delete each afterwards if so asked; none if a job holds its
    lock.

    Of an item that cannot be read, nobody knows who needs it.
    """
    with _holding(place.item.with_suffix(".lock")) as free:
        recipe = recipe_of(place.item)
        needed = place.item.exists() and (recipe is None or users(place, recipe, jobs))
        for path in filter(Path.exists, place.files) if free else ():  # jobs have gone on since they were listed
            if path.suffix == ".part" or not needed:
                yield path
                if delete:
                    path.unlink()


@contextmanager
def _holding(path: Path) -> Iterator[bool]:
    """Hold a lock and give whether nobody else held it; no lock file is left where there was none."""
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
    """Print what a store holds, and which jobs of sweeps use it; the exit code."""
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
            by = [str(job) for job in users(place, recipe, jobs)] or ["orphaned" if recipe else "?"]
            row.append(by[0] + (f" and {len(by) - 1} more" if by[1:] else ""))
        rows.append([*row, in_words(recipe) if recipe else "cannot be read; `verify` says more"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(sizes)} items, {_human(sum(sizes))}", end="")
    print(f"; {len(unfinished)} unfinished files" if unfinished else "")
    return 0


def verify(store: Path) -> int:
    """Print the SHA-256 of each item that is whole, as `sha256sum` does, and say what is wrong with the others; the
    exit code."""
    items = [place for place in places(store) if place.filled]
    bad = 0
    for place in items:
        try:
            content = place.item.read_bytes()
        except OSError as error:
            bad += 1
            print(f"{place.item} cannot be read ({error.strerror})", file=sys.stderr)
            continue
        if wrong := fault(place, content):
            bad += 1
            print(f"{place.item} {wrong}: delete it, and the next job makes it anew", file=sys.stderr)
        else:
            print(f"{hashlib.sha256(content).hexdigest()}  {place.item}")
    print(f"{len(items) - bad} of {len(items)} items are whole", file=sys.stderr)
    return 1 if bad else 0


def prune_orphans(store: Path, sweeps: Sequence[Path], delete: bool) -> int:
    """Print, and delete if so told, what no job of sweeps uses, and what stopped jobs left; the exit code."""
    jobs = jobs_by_use(sweeps)
    check_idle(sweeps)
    sizes = []
    for place in places(store):
        for path in prune(place, jobs, delete):
            sizes.append(path.stat().st_size)
            print(f"{'delete' if delete else 'would delete'} {path} ({_human(sizes[-1])}): {WHY[path.suffix]}")
    done = "deleted" if delete else "would be deleted; --yes deletes them"
    print(f"{len(sizes)} files, {_human(sum(sizes))}, {done}" if sizes else "nothing to delete")
    return 0


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
