"""The search for tipping points: the mu to evaluate next, and the mu where accuracy crosses a level."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tipping.mu_lasso import SolutionPath

TIE = 1e-9  # relative distance under which two breakpoints count as equal


class Bracket(NamedTuple):
    """Two neighbouring values of mu between which a curve crosses the level.

    Attributes:
        low, high: the two values of mu.
        at: the crossing: the breakpoint between `low` and `high`, if there is exactly one; otherwise by interpolation,
            linear in ln mu.
    """

    low: float
    high: float
    at: float


@dataclass(frozen=True)
class Bracketing:
    """A search for all crossings of a level that a grid of mu shows, each narrowed to a given precision.

    The curve need not be monotone. Where two neighbours of the grid lie on different sides of the level, they form a
    bracket, which is narrowed by interpolation. Interpolation is truncated and projected, so that it never takes more
    evaluations than bisection [oliveira2020].

    Attributes:
        low, high: the range of mu.
        grid: the number of values of mu to evaluate first, evenly spaced in ln mu.
        precision: the relative width at which a bracket is closed; with breakpoints it may be 0.
        breakpoints: the values of mu at which the set of relevant filters changes, rising. Between two breakpoints the
            curve is constant: a bracket is closed once it holds a single breakpoint.
    """

    low: float
    high: float
    grid: int = 5
    precision: float = 0.01
    breakpoints: Sequence[float] = field(default=())

    def next(self, known: Mapping[float, float], waiting: Collection[float] = ()) -> float | None:
        """Return the mu to evaluate next; None if no mu is worth evaluating until running evaluations finish.

        Args:
            known: accuracy minus the level at each mu evaluated.
            waiting: values of mu whose evaluation is running.
        """
        for mu in self.first:
            if mu not in known and mu not in waiting:
                return mu
        places = sorted({self._place(mu) for mu in (*known, *waiting)})
        gaps = list(pairwise(places))
        for low, high in sorted(self._open(known), key=lambda bracket: bracket[0] - bracket[1]):
            inside = [gap for gap in gaps if low <= gap[0] and gap[1] <= high]
            if len(inside) == 1:
                return self._mu(self._within(low, high, known))
            if wide := [gap for gap in inside if not self._closed(*gap)]:
                return self._mu(self._middle(*max(wide, key=_width)))
        return None

    def finished(self, known: Mapping[float, float]) -> bool:
        """Return whether the grid is evaluated and all brackets are closed.

        Args:
            known: accuracy minus the level at each mu evaluated.
        """
        return all(mu in known for mu in self.first) and not self._open(known)

    def brackets(self, known: Mapping[float, float]) -> list[Bracket]:
        """Return the brackets of all crossings, by rising mu, as narrow as they are so far.

        Args:
            known: accuracy minus the level at each mu evaluated.
        """
        crossings, mu_of = [], {self._place(mu): mu for mu in known}
        for low, high in self._changes(known):
            ends = mu_of[low], mu_of[high]
            between = [mu for mu in self.breakpoints if ends[0] < mu < ends[1]]
            at = (
                between[0]
                if len(between) == 1
                else math.exp(_linear(*map(math.log, ends), *(known[mu] for mu in ends)))
            )
            crossings.append(Bracket(*ends, at))
        return crossings

    @cached_property
    def first(self) -> list[float]:
        """The values of mu to evaluate first: the grid, with breakpoints at most one value between two of them."""
        grid = np.geomspace(self.low, self.high, self.grid).tolist()
        return list(dict.fromkeys(self._mu(self._place(mu)) for mu in grid)) if len(self.breakpoints) else grid

    # ---- places: ln mu, or the number of breakpoints passed

    def _place(self, mu: float) -> float:
        return float(np.searchsorted(self.breakpoints, mu)) if len(self.breakpoints) else math.log(mu)

    def _mu(self, place: float) -> float:
        if not len(self.breakpoints):
            return math.exp(place)
        edges = [self.low, *self.breakpoints, self.high]
        return math.sqrt(edges[round(place)] * edges[round(place) + 1])

    @property
    def _unit(self) -> float:
        """The width of a closed bracket, in places."""
        return 1.0 if len(self.breakpoints) else self.precision

    def _closed(self, low: float, high: float) -> bool:
        return high - low <= self._unit or math.log(self._mu(high) / self._mu(low)) <= self.precision

    def _middle(self, low: float, high: float) -> float:
        return float((low + high) // 2) if len(self.breakpoints) else (low + high) / 2

    def _changes(self, known: Mapping[float, float]) -> list[tuple[float, float]]:
        """Return the pairs of neighbouring places on different sides of the level."""
        sides = sorted((self._place(mu), excess > 0) for mu, excess in known.items())
        return [(low, high) for (low, above), (high, also) in pairwise(sides) if above != also]

    def _open(self, known: Mapping[float, float]) -> list[tuple[float, float]]:
        return [change for change in self._changes(known) if not self._closed(*change)]

    def _within(self, low: float, high: float, known: Mapping[float, float]) -> float:
        """Return the next place in a bracket: interpolated, truncated towards the middle, and projected so near to the
        middle that no more evaluations are needed than by bisection [oliveira2020]."""
        excess = {self._place(mu): value for mu, value in known.items()}
        grid = [self._place(mu) for mu in self.first]
        first, last = max(x for x in grid if x <= low), min(x for x in grid if x >= high)
        spent = sum(first < x < last for x in excess)
        steps = math.ceil(math.log2((last - first) / self._unit))
        reach = max(0.0, self._unit * 2.0 ** (steps - spent - 1) - (high - low) / 2)
        middle, line = (low + high) / 2, _linear(low, high, excess[low], excess[high])
        towards = math.copysign(1.0, middle - line)
        moved = 0.2 * (high - low) ** 2 / (last - first)
        place = line + towards * moved if moved <= abs(middle - line) else middle
        place = place if abs(place - middle) <= reach else middle - towards * reach
        return min(max(round(place), low + 1), high - 1) if len(self.breakpoints) else place


def _width(gap: tuple[float, float]) -> float:
    return gap[1] - gap[0]


def _linear(low: float, high: float, at_low: float, at_high: float) -> float:
    """Return the zero of the line through (low, at_low) and (high, at_high)."""
    return low + (high - low) * at_low / (at_low - at_high)


def breakpoints(path: SolutionPath, filter_R: np.ndarray, low: float) -> list[float]:
    """Return the values of mu over `low` at which the set of relevant filters changes, rising.

    The set changes where a filter gets its first non-zero weight for any class, or loses its last one.

    Args:
        filter_R: the filter of each response.
    """
    events = sorted(
        (mu, int(filter_R[response]), 1 if sign else -1)
        for line in path.classes
        for mu, response, sign in zip(line.mu_K.tolist(), line.filter_K.tolist(), line.sign_K.tolist(), strict=True)
    )
    supports_F, changes = np.zeros(int(filter_R.max()) + 1, dtype=int), []
    for mu, relevant, change in events:
        before = supports_F[relevant]
        supports_F[relevant] += change
        if low < mu < path.largest_mu and (before == 0 or supports_F[relevant] == 0):
            changes.append(mu)
    return [mu for mu, before in zip(changes, [0.0, *changes], strict=False) if mu > before * (1 + TIE)]
