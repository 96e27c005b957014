"""Curves of accuracy against mu, or against filters ablated → tipping points with intervals.

An axis is a vector of positions: ln mu, or numbers of filters. A tipping point that the curve does not reach is
censored: -inf where the accuracy is at or below the level from the first position on, inf where it stays above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, least_squares
from scipy.stats import t

from tipping.tipping_points.difference import student

REPLICATES = 1000  # of the bootstrap
CHUNK = 2**22  # images drawn at once


@dataclass(frozen=True)
class Curves:
    """What was measured of one network: for each image, whether it was classified rightly.

    Attributes:
        mu_P: P values of mu, rising.
        removed_P: how many filters were ablated at each.
        intact_N: of the intact network.
        selected_PN: without the relevant filters.
        random_PDN: without D random controls.
    """

    mu_P: np.ndarray
    removed_P: np.ndarray
    intact_N: np.ndarray
    selected_PN: np.ndarray
    random_PDN: np.ndarray


class Logistic(NamedTuple):
    """bottom + (top − bottom) / (1 + exp(steepness · (x − middle)))"""

    top: float
    bottom: float
    middle: float
    steepness: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _logistic(x, *self)

    def crossing(self, level: float) -> float:
        """Return where it is at a level; infinite, to one side or the other, where it never is."""
        if level >= self.top:
            return -np.inf
        if level <= self.bottom:
            return np.inf
        return self.middle + float(np.log((self.top - level) / (level - self.bottom))) / self.steepness

    def slope(self, level: float) -> float:
        """Return the slope where the curve is at a level between its ends."""
        return -self.steepness * (self.top - level) * (level - self.bottom) / (self.top - self.bottom)


class TippingPoint(NamedTuple):
    """Where accuracy crosses a level on its way down.

    Attributes:
        each: of each network, by isotonic regression, interpolated between two positions; -inf or inf where censored.
        bounds: the same with the first or last position in place of those that are censored.
        at: the mean of `each`; infinite where one is censored, nan where they are to both sides.
        low, high: the 95 % interval of `at`; infinite where it is open.
        logistic: the mean over networks of the crossings of logistic curves; nan where one could not be fitted.
        disagree: for some network the logistic curve crosses elsewhere: not between the two positions that the other
            lies between, nor within a fiftieth of the axis.
        slope: of the logistic curves at the crossing, the mean over networks; nan where one has none.
    """

    each: tuple[float, ...]
    bounds: tuple[float, ...]
    at: float
    low: float
    high: float
    logistic: float
    disagree: bool
    slope: float

    @property
    def bound(self) -> float:
        """The mean of `bounds`: where a network is censored, `at` is at least as far."""
        return float(np.mean(self.bounds))


class Parting(NamedTuple):
    """By how much random filters leave more accuracy than the relevant ones at one place of an axis, with its 95 %
    interval."""

    at: float
    gap: float
    low: float
    high: float


def crossing(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> float:
    """Return where the closest falling curve crosses a level, linear between positions.

    It is closest by isotonic regression with weights Δx, so that a place where positions lie close counts no more.

    Raises:
        ValueError: there are fewer than two positions, or they do not rise.
    """
    x_P = _checked(x_P)
    fitted_P = isotonic_regression(accuracy_P, weights=np.gradient(x_P), increasing=False).x
    if fitted_P[0] <= level:
        return -np.inf
    if fitted_P[-1] > level:
        return np.inf
    after = int(np.argmax(fitted_P <= level))
    above, below = fitted_P[after - 1], fitted_P[after]
    return float(x_P[after - 1] + (x_P[after] - x_P[after - 1]) * (above - level) / (above - below))


def fit_logistic(x_P: np.ndarray, accuracy_P: np.ndarray) -> Logistic | None:
    """Return the falling logistic curve closest by least squares, its middle near the positions; None where none is
    found, or where there are not more positions than its four numbers."""
    x_P, accuracy_P = _checked(x_P), np.asarray(accuracy_P, dtype=float)
    if len(x_P) <= 4:
        return None
    top, bottom, width = accuracy_P.max(), accuracy_P.min(), x_P[-1] - x_P[0]
    middle = crossing(x_P, accuracy_P, (top + bottom) / 2)
    start = (top, bottom, middle if np.isfinite(middle) else x_P.mean(), 4 / np.diff(x_P).mean())
    bounds = ((0, 0, x_P[0] - width, 1e-3 / width), (1 + 1e-9, 1, x_P[-1] + width, 1e3 * len(x_P) / width))
    found = least_squares(lambda four: _logistic(x_P, *four) - accuracy_P, np.clip(start, *bounds), bounds=bounds)
    return Logistic(*map(float, found.x)) if found.success else None


def _logistic(x: np.ndarray, top: float, bottom: float, middle: float, steepness: float) -> np.ndarray:
    return bottom + (top - bottom) / (1 + np.exp(np.clip(steepness * (x - middle), -500, 500)))


def _checked(x_P: np.ndarray) -> np.ndarray:
    x_P = np.asarray(x_P, dtype=float)
    if x_P.ndim != 1 or len(x_P) < 2 or not (np.diff(x_P) > 0).all():
        raise ValueError(f"positions must rise, at least two of them, got {x_P.tolist()}")
    return x_P


def tipping_point(
    networks: Sequence[Curves],
    chance: float,
    rng: np.random.Generator,
    *,
    axis: str = "mu",
    of: str = "selected",
    replicates: int = REPLICATES,
) -> TippingPoint:
    """Estimate where the accuracy of networks is midway between intact and chance: the half-drop.

    Each network has its own, from its own values of mu; of several it is the mean. The 95 % interval of several is
    Student's over them: their spread holds that of random controls and images already. That of one network is by a
    bootstrap of its random controls and images, and says nothing of others.

    Args:
        networks: that differ by their seed.
        chance: the accuracy of giving every image the most frequent class.
        rng: of the bootstrap.
        axis: `mu`, as ln mu; or `filters`, the number ablated, from the intact network on.
        of: the curve, without the `selected` or without `random` filters.
        replicates: of the bootstrap.

    Raises:
        ValueError: there is no network, or one has a single mu; unknown axis or curve.
    """
    if axis not in ("mu", "filters") or of not in ("selected", "random"):
        raise ValueError(f"axis must be mu or filters, and of selected or random, got {axis!r} and {of!r}")
    if not networks:
        raise ValueError("there must be at least one network")
    rows, fits = [], []
    for one in networks:
        intact_B, selected_BP, random_BP = _resampled(one, rng, replicates if len(networks) == 1 else 0)
        x_P, curves_BP = along(one, axis, intact_B, selected_BP if of == "selected" else random_BP)
        level_B = (intact_B + chance) / 2
        found_B = [crossing(x_P, curve_P, level) for curve_P, level in zip(curves_BP, level_B, strict=True)]
        rows.append((found_B, np.clip(found_B, x_P[0], x_P[-1])))
        fits.append(_fitted(x_P, curves_BP[0], float(level_B[0])))
    logistic_S, elsewhere_S, slope_S = zip(*fits, strict=True)
    exact_SB, bound_SB = (np.array(kind) for kind in zip(*rows, strict=True))
    _, low, high = _interval(bound_SB, networks[0].random_PDN.shape[1] if of == "random" else None)
    low = -np.inf if _open(exact_SB, -np.inf) else low if axis == "mu" else max(low, 0.0)
    high = np.inf if _open(exact_SB, np.inf) else high
    each, bounds = (tuple(found_SB[:, 0].tolist()) for found_SB in (exact_SB, bound_SB))
    return TippingPoint(each, bounds, _mean(each), low, high, _mean(logistic_S), any(elsewhere_S), _mean(slope_S))


def at_crossings(point: TippingPoint, each: Sequence[float]) -> TippingPoint:
    """Return a tipping point in mu of networks that tip at `each`, as is known exactly, in place of isotonic
    regression.

    The interval of one network moves with it.
    """
    if len(each) == 1:
        moved = each[0] - point.at
        at, low, high = each[0], point.low + moved, point.high + moved
    else:
        at, low, high = student(np.array(each))
    return point._replace(each=tuple(each), bounds=tuple(each), at=at, low=low, high=high)


def partings(
    networks: Sequence[Curves], rng: np.random.Generator, *, axis: str = "mu", replicates: int = REPLICATES
) -> list[Parting]:
    """Return the accuracy without random filters minus that without the relevant ones at each position of a network on
    an axis, as far as all networks reach; linear between the positions of a network. Axes and intervals as of
    `tipping_point`."""
    lines = []
    for one in networks:
        _, selected_BP, random_BP = _resampled(one, rng, replicates if len(networks) == 1 else 0)
        gaps_BP = random_BP - selected_BP
        lines.append(along(one, axis, np.zeros(len(gaps_BP)), gaps_BP))
    x_M = np.unique(np.concatenate([x_P for x_P, _ in lines]))
    x_M = x_M[(x_M >= max(x_P[0] for x_P, _ in lines)) & (x_M <= min(x_P[-1] for x_P, _ in lines))]
    gaps_SBM = [[np.interp(x_M, x_P, gaps_P) for gaps_P in gaps_BP] for x_P, gaps_BP in lines]
    draws = networks[0].random_PDN.shape[1]
    gaps_MSB = np.moveaxis(np.array(gaps_SBM), 2, 0)
    return [Parting(at, *_interval(gaps_SB, draws)) for at, gaps_SB in zip(x_M.tolist(), gaps_MSB, strict=True)]


def half_drop(removed_P: Sequence[int], accuracy_P: Sequence[float], chance: float) -> float | None:
    """Return how many filters of an accuracy-drop curve leave accuracy midway between its start and chance; None where
    none do."""
    if len(removed_P) < 2:
        return None
    at = crossing(np.array(removed_P), np.array(accuracy_P), (accuracy_P[0] + chance) / 2)
    return at if np.isfinite(at) else None


def area(removed_P: np.ndarray, accuracy_P: np.ndarray) -> float:
    """Return the area under an accuracy-drop curve as the mean accuracy over the numbers of filters removed."""
    width = removed_P[-1] - removed_P[0]
    return float(np.trapezoid(accuracy_P, removed_P) / width) if width else float(accuracy_P[0])


# ---- the bootstrap; of all B rows, the first is what was measured


def _resampled(one: Curves, rng: np.random.Generator, replicates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracies intact (B,), without the selected and without random filters (B, P): as measured, and of images, and
    random controls, drawn with replacement."""
    positions, draws, images = one.random_PDN.shape
    right_KN = np.vstack([one.intact_N, one.selected_PN, one.random_PDN.reshape(-1, images)]).astype(np.float32)
    parts_BK = [right_KN.sum(1)[None]]
    together = max(1, CHUNK // images)
    for start in range(0, replicates, together):
        rows = min(together, replicates - start)
        drawn_BN = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        times_BN = np.bincount(drawn_BN.ravel(), minlength=drawn_BN.size).reshape(drawn_BN.shape)
        parts_BK.append(times_BN.astype(np.float32) @ right_KN.T)
    accuracy_BK = np.concatenate(parts_BK).astype(float) / images
    random_BPD = accuracy_BK[:, 1 + positions :].reshape(-1, positions, draws)
    drawn_BD = rng.integers(draws, size=(len(accuracy_BK), draws))
    drawn_BD[0] = np.arange(draws)
    random_BP = np.take_along_axis(random_BPD, drawn_BD[:, None], 2).mean(2)
    return accuracy_BK[:, 0], accuracy_BK[:, 1 : 1 + positions], random_BP


def along(one: Curves, axis: str, intact_B: np.ndarray, curves_BP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions on an axis as of `tipping_point`, rising, and B curves at them; at a number of filters that several mu
    have, their mean."""
    if axis == "mu":
        return np.log(one.mu_P), curves_BP
    removed_P, place_P = np.unique([0, *one.removed_P], return_inverse=True)
    all_BP = np.column_stack([intact_B, curves_BP])
    return removed_P, np.column_stack([all_BP[:, place_P == p].mean(1) for p in range(len(removed_P))])


def _fitted(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> tuple[float, bool, float]:
    """Return where a logistic curve crosses a level, whether isotonic regression says elsewhere, and its slope there; a
    crossing beyond the positions is censored."""
    curve = fit_logistic(x_P, accuracy_P)
    if curve is None:
        return np.nan, False, np.nan
    at, other = crossing(x_P, accuracy_P, level), curve.crossing(level)
    other = -np.inf if other < x_P[0] else np.inf if other > x_P[-1] else other
    if not np.isfinite(at) or not np.isfinite(other):
        return other, at != other, np.nan
    after = int(np.searchsorted(x_P, at))
    between = x_P[max(0, after - 1)] <= other <= x_P[after]
    return other, not between and abs(other - at) > (x_P[-1] - x_P[0]) / 50, curve.slope(level)


def _interval(found_SB: np.ndarray, draws: int | None) -> tuple[float, float, float]:
    """Return the mean over networks of what was measured, and its 95 % interval.

    Of several, Student's. Of one, from the 2.5th to the 97.5th percentile of its replicates; where these are of few
    draws of controls, D, ± t(D − 1) √(D / (D − 1)) of their standard deviations, which are too small by themselves
    [davison1997].
    """
    if len(found_SB) > 1:
        return student(found_SB[:, 0])
    at, replicates_B = float(found_SB[0, 0]), found_SB[0, 1:]
    if draws is None:
        low, high = np.quantile(replicates_B, [0.025, 0.975])
        return at, float(low), float(high)
    if draws == 1:
        return at, -np.inf, np.inf
    reach = float(t.ppf(0.975, draws - 1) * np.sqrt(draws / (draws - 1)) * replicates_B.std())
    return at, at - reach, at + reach


def _open(exact_SB: np.ndarray, end: float) -> bool:
    """Return whether a network, or more than a fortieth of the replicates of the only one, is censored to one side."""
    measured, replicates = exact_SB[:, 0] == end, exact_SB[:, 1:] == end
    return bool(measured.any() or (replicates.size > 0 and replicates.mean() > 0.025))


def _mean(values_S: Sequence[float]) -> float:
    """Return the mean; nan where the values hold both infinities."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values_S))
