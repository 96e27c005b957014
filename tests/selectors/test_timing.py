"""What a selector takes by itself, where others have computed what it uses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from tipping.selectors import timing
from tipping.selectors.timing import Clock, shared_property


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only where a test says so."""
    at = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: at[0])
    return at


@dataclass
class Kitchen:
    """Flour takes 1 s, dough 2 s with flour, and the oven 4 s."""

    now: list[float]
    clock: Clock = field(default_factory=Clock)
    made: list[str] = field(default_factory=list)

    def spend(self, seconds: float, name: str) -> str:
        self.now[0] += seconds
        self.made.append(name)
        return name

    @shared_property
    def flour(self) -> str:
        return self.spend(1, "flour")

    @shared_property
    def dough(self) -> str:
        return self.flour + self.spend(2, "dough")

    @shared_property
    def oven(self) -> str:
        return self.spend(4, "oven")


def bread(kitchen: Kitchen) -> str:
    return kitchen.dough + kitchen.oven + kitchen.oven + kitchen.spend(8, "bread")


def cake(kitchen: Kitchen) -> str:
    return kitchen.flour + kitchen.oven + kitchen.spend(16, "cake")


@pytest.mark.parametrize("order", list(itertools.permutations([bread, cake, bread])))
def test_seconds_do_not_depend_on_who_was_first(now: list[float], order: tuple) -> None:
    kitchen = Kitchen(now)
    taken = {bread: 1 + 2 + 4 + 8, cake: 1 + 4 + 16}
    for selector in order:
        assert kitchen.clock.alone(lambda selector=selector: selector(kitchen))[1] == taken[selector]
    assert sorted(kitchen.made) == ["bread", "bread", "cake", "dough", "flour", "oven"], "each part once"


def test_a_part_that_fails_is_tried_again_and_not_counted(now: list[float]) -> None:
    kitchen = Kitchen(now)

    def burnt() -> str:
        kitchen.spend(32, "smoke")
        raise ValueError("burnt")

    with pytest.raises(ValueError, match="burnt"):
        kitchen.clock.alone(burnt)
    assert kitchen.clock.alone(lambda: cake(kitchen))[1] == 1 + 4 + 16
    assert kitchen.flour == "flour", "outside of what is timed"
