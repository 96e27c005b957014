"""A stopwatch for the stages of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Stopwatch:
    """A stopwatch for the stages of a job. On a terminal, a line names the stages so far.

    Attributes:
        seconds: the time of each finished stage, by the stage's name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a stage, which runs within the context."""
        start = time.perf_counter()
        with tqdm(desc=" > ".join([*self.seconds, name]), bar_format="{desc}", leave=False, disable=None):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
