"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it takes its place on success and is removed on failure."""
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
