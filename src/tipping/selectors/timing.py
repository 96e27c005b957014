"""The seconds that a selector takes by itself, where selectors share what they work with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, overload

Value = TypeVar("Value")


@dataclass
class Clock:
    """A clock for parts that are computed once and used by many.

    Attributes:
        seconds: the time of each part that was computed, without the time of the parts that it uses itself.
        uses: the parts that each part uses.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    uses: dict[str, set[str]] = field(default_factory=dict)
    _running: list[tuple[set[str], list[float]]] = field(default_factory=list)  # the parts used, and their seconds

    def run(self, name: str, make: Callable[[], Value]) -> Value:
        """Compute a part, and keep its time."""
        used, inner = frame = set[str](), list[float]()
        self._running.append(frame)
        start = time.perf_counter()
        try:
            value = make()
        finally:
            self._running.pop()
            elapsed = time.perf_counter() - start
            if self._running:
                self._running[-1][1].append(elapsed)
        self.seconds[name], self.uses[name] = elapsed - sum(inner), used
        return value

    def note(self, name: str) -> None:
        """Note that what runs now uses a part."""
        if self._running:
            self._running[-1][0].add(name)

    def alone(self, make: Callable[[], Value]) -> tuple[Value, float]:
        """Compute something; return it with the seconds that it takes by itself, with all parts that it uses."""
        value = self.run("", make)
        parts, new = {""}, self.uses[""]
        while new:
            parts |= new
            new = {inner for name in new for inner in self.uses[name]} - parts
        return value, sum(self.seconds[name] for name in parts)


class Clocked(Protocol):
    """Whatever has a clock."""

    @property
    def clock(self) -> Clock:
        """The clock."""


class shared_property(Generic[Value]):
    """A property that is computed once, and notes on the clock of its owner what it took and who uses it."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> shared_property[Value]: ...

    @overload
    def __get__(self, owner: Clocked, kind: type) -> Value: ...

    def __get__(self, owner: Clocked | None, kind: type) -> Value | shared_property[Value]:
        if owner is None:
            return self
        kept = vars(owner).setdefault("_parts", {})
        if self.name not in kept:
            kept[self.name] = owner.clock.run(self.name, lambda: self.make(owner))
        owner.clock.note(self.name)
        return kept[self.name]
