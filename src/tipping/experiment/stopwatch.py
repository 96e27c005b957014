"""Seconds spent in each stage of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Stopwatch:
    """Seconds spent in each stage of a job; on a terminal, a line names the stages so far."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs within it."""
        start = time.perf_counter()
        with tqdm(desc=" > ".join([*self.seconds, name]), bar_format="{desc}", leave=False, disable=None):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
