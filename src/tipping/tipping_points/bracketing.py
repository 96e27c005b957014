"""The search for tipping points: which mu to evaluate next, and where accuracy crosses its level."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tipping.mu_lasso import SolutionPath

TIE = 1e-9  # relative distance of breakpoints, under which they are one


class Bracket(NamedTuple):
    """Two neighbouring values of mu between which a curve crosses the level, and where: the breakpoint between their
    supports, or on the line between the two."""

    low: float
    high: float
    at: float


@dataclass(frozen=True)
class Bracketing:
    """Finds every crossing of a level that a grid of mu shows, as closely as asked or as there are supports.

    A curve need not be monotone: where neighbouring values of the grid lie on different sides of the level, the bracket
    is narrowed by interpolation, truncated and projected such that it never takes more evaluations than bisection
    [oliveira2020].

    Attributes:
        low, high: the range of mu.
        grid: how many values of mu, spaced alike in ln mu, to evaluate first.
        precision: relative width of the last brackets; with breakpoints it may be 0.
        breakpoints: the values of mu at which the set of relevant filters changes, rising: between two of them the
            curve is constant, and brackets end at two neighbouring sets at the latest.
    """

    low: float
    high: float
    grid: int = 5
    precision: float = 0.01
    breakpoints: Sequence[float] = field(default=())

    def next(self, known: Mapping[float, float], waiting: Collection[float] = ()) -> float | None:
        """Return the mu to evaluate next; None while nothing is of use but what is being evaluated.

        Args:
            known: for each mu evaluated, by how much accuracy exceeds the level.
            waiting: values of mu that are being evaluated.
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
        """Return whether nothing is left to evaluate."""
        return all(mu in known for mu in self.first) and not self._open(known)

    def brackets(self, known: Mapping[float, float]) -> list[Bracket]:
        """Return the crossings, by rising mu, as far as they have been narrowed."""
        found, mu_of = [], {self._place(mu): mu for mu in known}
        for low, high in self._changes(known):
            ends = mu_of[low], mu_of[high]
            between = [mu for mu in self.breakpoints if ends[0] < mu < ends[1]]
            at = (
                between[0]
                if len(between) == 1
                else math.exp(_linear(*map(math.log, ends), *(known[mu] for mu in ends)))
            )
            found.append(Bracket(*ends, at))
        return found

    @cached_property
    def first(self) -> list[float]:
        """The grid."""
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
        """The width of a bracket that is closed, in places."""
        return 1.0 if len(self.breakpoints) else self.precision

    def _closed(self, low: float, high: float) -> bool:
        return high - low <= self._unit or math.log(self._mu(high) / self._mu(low)) <= self.precision

    def _middle(self, low: float, high: float) -> float:
        return float((low + high) // 2) if len(self.breakpoints) else (low + high) / 2

    def _changes(self, known: Mapping[float, float]) -> list[tuple[float, float]]:
        """Neighbouring places on different sides of the level."""
        sides = sorted((self._place(mu), excess > 0) for mu, excess in known.items())
        return [(low, high) for (low, above), (high, also) in pairwise(sides) if above != also]

    def _open(self, known: Mapping[float, float]) -> list[tuple[float, float]]:
        return [change for change in self._changes(known) if not self._closed(*change)]

    def _within(self, low: float, high: float, known: Mapping[float, float]) -> float:
        """Return a place in a bracket: interpolated, moved towards its middle, and so near to that as bisection would
        be."""
        excess = {self._place(mu): value for mu, value in known.items()}
        grid = [self._place(mu) for mu in self.first]
        left, right = max(x for x in grid if x <= low), min(x for x in grid if x >= high)
        spent = sum(left < x < right for x in excess)
        steps = math.ceil(math.log2((right - left) / self._unit))
        reach = max(0.0, self._unit * 2.0 ** (steps - spent - 1) - (high - low) / 2)
        middle, line = (low + high) / 2, _linear(low, high, excess[low], excess[high])
        towards = math.copysign(1.0, middle - line)
        moved = 0.2 * (high - low) ** 2 / (right - left)
        place = line + towards * moved if moved <= abs(middle - line) else middle
        place = place if abs(place - middle) <= reach else middle - towards * reach
        return min(max(round(place), low + 1), high - 1) if len(self.breakpoints) else place


def _width(gap: tuple[float, float]) -> float:
    return gap[1] - gap[0]


def _linear(low: float, high: float, at_low: float, at_high: float) -> float:
    """Return where the line through two points is 0."""
    return low + (high - low) * at_low / (at_low - at_high)


def breakpoints(path: SolutionPath, filter_R: np.ndarray, low: float) -> list[float]:
    """Return the values of mu over `low` at which a filter becomes relevant, or no longer is, for the first or last
    class.

    Args:
        filter_R: the filter of each response.
    """
    events = sorted(
        (mu, int(filter_R[response]), 1 if sign else -1)
        for one in path.classes
        for mu, response, sign in zip(one.mu_K.tolist(), one.filter_K.tolist(), one.sign_K.tolist(), strict=True)
    )
    supports_F, found = np.zeros(int(filter_R.max()) + 1, dtype=int), []
    for mu, relevant, change in events:
        before = supports_F[relevant]
        supports_F[relevant] += change
        if low < mu < path.largest_mu and (before == 0 or supports_F[relevant] == 0):
            found.append(mu)
    return [mu for mu, before in zip(found, [0.0, *found], strict=False) if mu > before * (1 + TIE)]
