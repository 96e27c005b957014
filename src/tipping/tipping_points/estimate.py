"""Estimate tipping points, with confidence intervals, from curves of accuracy against mu or against filters ablated.

An axis is a vector of positions: ln mu, or numbers of filters. A tipping point that the curve does not reach is
censored: -inf where accuracy is at or under the level from the first position on, inf where accuracy stays over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t

from tipping.tipping_points.crossings import crossing, crossings, rising
from tipping.tipping_points.difference import student

REPLICATES = 1000  # bootstrap replicates
CHUNK = 2**22  # images drawn at once, over all replicates


@dataclass(frozen=True)
class Curves:
    """The measurements of one network: whether each of N images is classified rightly at P values of mu.

    Attributes:
        mu_P: the values of mu, rising.
        removed_P: the number of filters ablated at each mu.
        intact_N: whether the intact network is right.
        selected_PN: whether the network is right with the relevant filters ablated.
        random_PDN: whether the network is right with each of D random controls ablated.
    """

    mu_P: np.ndarray
    removed_P: np.ndarray
    intact_N: np.ndarray
    selected_PN: np.ndarray
    random_PDN: np.ndarray


class Logistic(NamedTuple):
    """The falling logistic curve bottom + (top − bottom) / (1 + exp(steepness · (x − middle)))."""

    top: float
    bottom: float
    middle: float
    steepness: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _logistic(x, *self)

    def crossing(self, level: float) -> float:
        """Return the x where the curve crosses a level: -inf where all of it lies below, inf where all lies above."""
        if level >= self.top:
            return -np.inf
        if level <= self.bottom:
            return np.inf
        return self.middle + float(np.log((self.top - level) / (level - self.bottom))) / self.steepness

    def slope(self, level: float) -> float:
        """Return the slope of the curve where it crosses a level between `bottom` and `top`."""
        return -self.steepness * (self.top - level) * (level - self.bottom) / (self.top - self.bottom)


class TippingPoint(NamedTuple):
    """The position at which falling accuracy crosses a level, for a group of networks.

    Attributes:
        each: the tipping point of each network, by isotonic regression and interpolation; -inf or inf where censored.
        bounds: as `each`, with the first or last position of the axis in place of -inf or inf.
        at: the mean of `each`; infinite where a network is censored, nan where networks are censored to both sides.
        low, high: the 95 % confidence interval of `at`; infinite where it is open.
        logistic: the mean over networks of the crossings of fitted logistic curves; nan where a fit fails.
        disagree: whether, for some network, the logistic curve crosses elsewhere than the isotonic one: neither between
            the same two positions nor within a fiftieth of the axis.
        slope: the mean over networks of the slope of the logistic curve at its crossing; nan where a curve has none.
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
        """The mean of `bounds`: where a network is censored, `at` lies at this position or beyond."""
        return float(np.mean(self.bounds))


class Parting(NamedTuple):
    """The gap between two curves at one position: accuracy without random filters minus accuracy without relevant ones.

    Attributes:
        at: the position on the axis.
        gap: the mean gap over networks.
        low, high: the 95 % confidence interval of the gap.
    """

    at: float
    gap: float
    low: float
    high: float


def fit_logistic(x_P: np.ndarray, accuracy_P: np.ndarray) -> Logistic | None:
    """Fit a falling logistic curve by least squares; its middle lies at most the axis's width beyond the positions.

    Returns:
        the curve; None if the fit fails, or if there are no more than four positions for the four parameters.
    """
    x_P, accuracy_P = rising(x_P), np.asarray(accuracy_P, dtype=float)
    if len(x_P) <= 4:
        return None
    top, bottom, width = accuracy_P.max(), accuracy_P.min(), x_P[-1] - x_P[0]
    middle = crossing(x_P, accuracy_P, (top + bottom) / 2)
    start = (top, bottom, middle if np.isfinite(middle) else x_P.mean(), 4 / np.diff(x_P).mean())
    bounds = ((0, 0, x_P[0] - width, 1e-3 / width), (1 + 1e-9, 1, x_P[-1] + width, 1e3 * len(x_P) / width))
    fit = least_squares(lambda four: _logistic(x_P, *four) - accuracy_P, np.clip(start, *bounds), bounds=bounds)
    return Logistic(*map(float, fit.x)) if fit.success else None


def _logistic(x: np.ndarray, top: float, bottom: float, middle: float, steepness: float) -> np.ndarray:
    return bottom + (top - bottom) / (1 + np.exp(np.clip(steepness * (x - middle), -500, 500)))


def tipping_point(
    networks: Sequence[Curves],
    chance: float,
    rng: np.random.Generator,
    *,
    axis: str = "mu",
    of: str = "selected",
    replicates: int = REPLICATES,
) -> TippingPoint:
    """Estimate the tipping point: where accuracy has fallen half-way from intact to chance.

    Each network has its own tipping point, from its own values of mu. For several networks, the estimate is the mean,
    with Student's 95 % confidence interval over networks; their spread includes that of random controls and images. For
    one network, the interval comes from a bootstrap of its random controls and images, and does not extend to other
    networks.

    Args:
        networks: the measurements of networks that differ only by their seed.
        chance: the accuracy of predicting the most frequent class for every image.
        rng: the generator of the bootstrap.
        axis: `mu`, as ln mu; or `filters`, the number of filters ablated, from 0.
        of: the curve: accuracy without the `selected` filters, or without `random` ones.
        replicates: the number of bootstrap replicates.

    Raises:
        ValueError: there is no network, a network has fewer than two positions on the axis, or `axis` or `of` is
            unknown.
    """
    if axis not in ("mu", "filters") or of not in ("selected", "random"):
        raise ValueError(f"axis must be mu or filters, and of selected or random, got {axis!r} and {of!r}")
    if not networks:
        raise ValueError("there must be at least one network")
    rows, fits = [], []
    for network in networks:
        intact_B, selected_BP, random_BP = _resampled(network, rng, replicates if len(networks) == 1 else 0)
        x_P, curves_BP = along(network, axis, intact_B, selected_BP if of == "selected" else random_BP)
        level_B = (intact_B + chance) / 2
        point_B = crossings(x_P, curves_BP, level_B)
        rows.append((point_B, np.clip(point_B, x_P[0], x_P[-1])))
        fits.append(_fitted(x_P, curves_BP[0], float(level_B[0])))
    logistic_S, elsewhere_S, slope_S = zip(*fits, strict=True)
    exact_SB, bound_SB = (np.array(kind) for kind in zip(*rows, strict=True))
    _, low, high = _interval(bound_SB, networks[0].random_PDN.shape[1] if of == "random" else None)
    low = -np.inf if _open(exact_SB, -np.inf) else low if axis == "mu" else max(low, 0.0)
    high = np.inf if _open(exact_SB, np.inf) else high
    each, bounds = (tuple(point_SB[:, 0].tolist()) for point_SB in (exact_SB, bound_SB))
    return TippingPoint(each, bounds, _mean(each), low, high, _mean(logistic_S), any(elsewhere_S), _mean(slope_S))


def at_crossings(point: TippingPoint, each: Sequence[float]) -> TippingPoint:
    """Return a tipping point with each network's crossing replaced by one that is known exactly.

    The interval is Student's over networks; for one network, its interval is shifted with the tipping point.

    Args:
        each: the exact crossing of each network, on the axis of `point`.
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
    """Return the gap between the curves of random and relevant filters at each position.

    The gap is accuracy without random filters minus accuracy without relevant filters. Positions are those of any
    network within the range that all networks share; a network's gap is interpolated linearly between its positions.
    Arguments and intervals are as in `tipping_point`.
    """
    lines = []
    for network in networks:
        _, selected_BP, random_BP = _resampled(network, rng, replicates if len(networks) == 1 else 0)
        gaps_BP = random_BP - selected_BP
        lines.append(along(network, axis, np.zeros(len(gaps_BP)), gaps_BP))
    x_M = np.unique(np.concatenate([x_P for x_P, _ in lines]))
    x_M = x_M[(x_M >= max(x_P[0] for x_P, _ in lines)) & (x_M <= min(x_P[-1] for x_P, _ in lines))]
    gaps_SBM = [[np.interp(x_M, x_P, gaps_P) for gaps_P in gaps_BP] for x_P, gaps_BP in lines]
    draws = networks[0].random_PDN.shape[1]
    gaps_MSB = np.moveaxis(np.array(gaps_SBM), 2, 0)
    return [Parting(at, *_interval(gaps_SB, draws)) for at, gaps_SB in zip(x_M.tolist(), gaps_MSB, strict=True)]


def half_drop(removed_P: Sequence[int], accuracy_P: Sequence[float], chance: float) -> float | None:
    """Return the number of filters at which an accuracy-drop curve has fallen half-way from its start to chance.

    The number is interpolated; it is None where the curve does not fall so far, or has a single point.
    """
    if len(removed_P) < 2:
        return None
    at = crossing(np.array(removed_P), np.array(accuracy_P), (accuracy_P[0] + chance) / 2)
    return at if np.isfinite(at) else None


def area(removed_P: np.ndarray, accuracy_P: np.ndarray) -> float:
    """Return the area under an accuracy-drop curve divided by its width: the mean accuracy, by the trapezoidal rule."""
    width = removed_P[-1] - removed_P[0]
    return float(np.trapezoid(accuracy_P, removed_P) / width) if width else float(accuracy_P[0])


# ---- the bootstrap: of B rows, the first is the measurement, all others are replicates


def _resampled(network: Curves, rng: np.random.Generator, replicates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return accuracy intact (B,), without the selected filters (B, P) and without random filters (B, P).

    The first row is the measurement. In each other row, images and random controls are drawn with replacement.
    """
    positions, draws, images = network.random_PDN.shape
    measured = (network.intact_N, network.selected_PN, network.random_PDN.reshape(-1, images))
    right_KN = np.vstack(measured).astype(np.float32)
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


def along(network: Curves, axis: str, intact_B: np.ndarray, curves_BP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising positions of a network on an axis of `tipping_point`, and B curves at these positions.

    On the axis `filters`, `intact_B` is the value at 0 filters, and a curve has the mean of all mu that ablate the same
    number of filters.
    """
    if axis == "mu":
        return np.log(network.mu_P), curves_BP
    removed_P, place_P = np.unique([0, *network.removed_P], return_inverse=True)
    all_BP = np.column_stack([intact_B, curves_BP])
    return removed_P, np.column_stack([all_BP[:, place_P == p].mean(1) for p in range(len(removed_P))])


def _fitted(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> tuple[float, bool, float]:
    """Return a logistic curve's crossing of a level, censored beyond the positions; whether isotonic regression
    disagrees; and the slope at the crossing."""
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


def _interval(values_SB: np.ndarray, draws: int | None) -> tuple[float, float, float]:
    """Return the mean over S networks of measured values, and its 95 % confidence interval.

    For several networks, the interval is Student's. For one network, it reaches from the 2.5th to the 97.5th percentile
    of the replicates. Where replicates draw from only D random controls, their standard deviation s is too small, and
    the interval is ± t(D − 1) √(D / (D − 1)) s [davison1997].

    Args:
        values_SB: for each network, the measured value, then its replicates.
        draws: D, where the values depend on random controls.
    """
    if len(values_SB) > 1:
        return student(values_SB[:, 0])
    at, replicates_B = float(values_SB[0, 0]), values_SB[0, 1:]
    if draws is None:
        low, high = np.quantile(replicates_B, [0.025, 0.975])
        return at, float(low), float(high)
    if draws == 1:
        return at, -np.inf, np.inf
    reach = float(t.ppf(0.975, draws - 1) * np.sqrt(draws / (draws - 1)) * replicates_B.std())
    return at, at - reach, at + reach


def _open(exact_SB: np.ndarray, end: float) -> bool:
    """Return whether an interval is open to one side: a network is censored there, or over 2.5 % of its replicates."""
    measured, replicates = exact_SB[:, 0] == end, exact_SB[:, 1:] == end
    return bool(measured.any() or (replicates.size > 0 and replicates.mean() > 0.025))


def _mean(values_S: Sequence[float]) -> float:
    """Return the mean; nan where the values hold both -inf and inf."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values_S))
