"""Housekeeping of the store: ``python -m tipping.store list|verify|prune``."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tipping.store.housekeeping import check_idle, fault, in_words, jobs_of, places, prune, recipe_of, users

WHY = {".pt": "no record uses it", ".part": "left by a job that was stopped", ".lock": "nobody holds it"}


def list_items(store: Path, sweeps: Sequence[Path]) -> int:
    """Print what a store holds, and which jobs of sweeps use it; the exit code."""
    jobs = jobs_of(sweeps)
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
    jobs = jobs_of(sweeps)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    from tipping.commands import store

    return store.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
