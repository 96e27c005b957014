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
from scipy.stats import permutation_test, t, ttest_ind

REPLICATES = 1000  # of the bootstrap
CHUNK = 2**22  # images drawn at once
EXACT = 10**5  # ways to deal networks to two groups that are counted one by one


@dataclass(frozen=True)
class Trial:
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
        """Where it is at a level; infinite, to one side or the other, where it never is."""
        if level >= self.top:
            return -np.inf
        if level <= self.bottom:
            return np.inf
        return self.middle + float(np.log((self.top - level) / (level - self.bottom))) / self.steepness

    def slope(self, level: float) -> float:
        """Its slope where it is at a level between its ends."""
        return -self.steepness * (self.top - level) * (level - self.bottom) / (self.top - self.bottom)


class TippingPoint(NamedTuple):
    """Where accuracy crosses a level on its way down.

    Attributes:
        each: of each network, by isotonic regression, interpolated between two positions; -inf or inf where censored.
        at: their mean; infinite where one is censored, nan where they are to both sides.
        low, high: its 95 % interval; infinite where it is open.
        logistic: the mean over networks of the crossings of logistic curves; nan where one could not be fitted.
        disagree: for some network, the logistic curve crosses beyond the two positions that the other lies between.
        slope: of the logistic curves at the crossing, the mean over networks; nan where one has none.
    """

    each: tuple[float, ...]
    at: float
    low: float
    high: float
    logistic: float
    disagree: bool
    slope: float


class Parting(NamedTuple):
    """How far random filters leave more accuracy than the relevant ones, at one mu: with its 95 % interval."""

    mu: float
    gap: float
    low: float
    high: float


class Comparison(NamedTuple):
    """The difference of the means of two groups, its 95 % interval [welch1947], and the share of all ways to deal the
    networks to the groups that make it as large, to either side."""

    difference: float
    low: float
    high: float
    p: float


def crossing(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> float:
    """Where the closest falling curve (isotonic regression) crosses a level, linear between positions.

    Raises:
        ValueError: there are fewer than two positions, or they do not rise.
    """
    x_P, fitted_P = _checked(x_P), isotonic_regression(accuracy_P, increasing=False).x
    if fitted_P[0] <= level:
        return -np.inf
    if fitted_P[-1] > level:
        return np.inf
    after = int(np.argmax(fitted_P <= level))
    above, below = fitted_P[after - 1], fitted_P[after]
    return float(x_P[after - 1] + (x_P[after] - x_P[after - 1]) * (above - level) / (above - below))


def crossings(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> list[tuple[int, int]]:
    """Every pair of neighbouring positions between which accuracy goes from above a level to it or below, or back."""
    below_P = np.asarray(accuracy_P) <= level
    return [(p, p + 1) for p in np.flatnonzero(below_P[1:] != below_P[:-1]).tolist()]


def fit_logistic(x_P: np.ndarray, accuracy_P: np.ndarray) -> Logistic | None:
    """The falling logistic curve closest by least squares, its middle near the positions; None where none is found, or
    where there are not more positions than its four numbers."""
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
    trials: Sequence[Trial],
    chance: float,
    rng: np.random.Generator,
    *,
    axis: str = "mu",
    of: str = "selected",
    replicates: int = REPLICATES,
) -> TippingPoint:
    """Where the accuracy of networks is midway between intact and chance: the half-drop.

    Each network has its own, from its own values of mu; of several it is the mean. The 95 % interval is by a
    hierarchical bootstrap: networks, within each its random controls, and test images are drawn anew. For one network
    it goes from the 2.5th to the 97.5th percentile, and says nothing of others; over S networks it is
    ± t(S − 1) √(S / (S − 1)) standard deviations of the bootstrap, which for few networks are too small by themselves
    [davison1997].

    Args:
        trials: of networks that differ by their seed.
        chance: the accuracy of giving every image the most frequent class.
        rng: of the bootstrap.
        axis: `mu`, as ln mu; or `filters`, the number ablated, from the intact network on.
        of: the curve, without the `selected` or without `random` filters.
        replicates: of the bootstrap.

    Raises:
        ValueError: there is no network, or one has a single mu.
    """
    if not trials:
        raise ValueError("trials must hold at least one network")
    found_SB, fits = [], []
    for trial in trials:
        intact_B, selected_BP, random_BP = _resampled(trial, rng, replicates)
        x_P, curves_BP = _along(trial, axis, intact_B, selected_BP if of == "selected" else random_BP)
        level_B = (intact_B + chance) / 2
        found_SB.append([crossing(x_P, curve_P, level) for curve_P, level in zip(curves_BP, level_B, strict=True)])
        fits.append(_fitted(x_P, curves_BP[0], float(level_B[0])))
    logistic_S, agree_S, slope_S = zip(*fits, strict=True)
    at, low, high = _interval(np.array(found_SB), rng)
    each = tuple(found_B[0] for found_B in found_SB)
    return TippingPoint(each, at, low, high, _mean(logistic_S), not all(agree_S), _mean(slope_S))


def partings(trials: Sequence[Trial], rng: np.random.Generator, replicates: int = REPLICATES) -> list[Parting]:
    """The accuracy without random filters minus that without the relevant ones, at each mu that all networks have; by
    the bootstrap of `tipping_point`."""
    shared_M = sorted(set.intersection(*(set(trial.mu_P.tolist()) for trial in trials)))
    gaps_SBM = []
    for trial in trials:
        _, selected_BP, random_BP = _resampled(trial, rng, replicates)
        gaps_SBM.append((random_BP - selected_BP)[:, np.isin(trial.mu_P, shared_M)])
    gaps_MSB = np.moveaxis(np.array(gaps_SBM), 2, 0)
    return [Parting(mu, *_interval(gaps_SB, rng)) for mu, gaps_SB in zip(shared_M, gaps_MSB, strict=True)]


def half_drop(removed_P: Sequence[int], accuracy_P: Sequence[float], chance: float) -> float | None:
    """How many filters of an accuracy-drop curve leave accuracy midway between its start and chance; None where none
    do."""
    if len(removed_P) < 2:
        return None
    at = crossing(np.array(removed_P), np.array(accuracy_P), (accuracy_P[0] + chance) / 2)
    return at if np.isfinite(at) else None


def area(removed_P: np.ndarray, accuracy_P: np.ndarray) -> float:
    """The area under an accuracy-drop curve as the mean accuracy over the numbers of filters removed."""
    width = removed_P[-1] - removed_P[0]
    return float(np.trapezoid(accuracy_P, removed_P) / width) if width else float(accuracy_P[0])


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Two groups of networks by their tipping points.

    Raises:
        ValueError: a group has fewer than two networks, or one is censored.
    """
    for group in (first, second):
        if len(group) < 2 or not np.isfinite(group).all():
            raise ValueError(f"each group must have two tipping points at least, and none censored, got {list(group)}")
    welch = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    dealt = permutation_test((first, second), _difference, n_resamples=EXACT, vectorized=True, rng=0)
    return Comparison(float(dealt.statistic), float(welch.low), float(welch.high), float(dealt.pvalue))


def _difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    difference: np.ndarray = np.mean(first, axis) - np.mean(second, axis)
    return difference


# ---- the bootstrap; of all B rows, the first is what was measured


def _resampled(trial: Trial, rng: np.random.Generator, replicates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracies intact (B,), without the selected and without random filters (B, P): of images, and random controls,
    drawn with replacement."""
    positions, draws, images = trial.random_PDN.shape
    right_KN = np.vstack([trial.intact_N, trial.selected_PN, trial.random_PDN.reshape(-1, images)]).astype(np.float32)
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


def _along(trial: Trial, axis: str, intact_B: np.ndarray, curves_BP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions, and curves at them; at a number of filters that several mu have, their mean."""
    if axis == "mu":
        return np.log(trial.mu_P), curves_BP
    removed_P, place_P = np.unique([0, *trial.removed_P], return_inverse=True)
    all_BP = np.column_stack([intact_B, curves_BP])
    return removed_P, np.column_stack([all_BP[:, place_P == p].mean(1) for p in range(len(removed_P))])


def _fitted(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> tuple[float, bool, float]:
    """Where a logistic curve crosses a level, whether that is between the positions that isotonic regression says, and
    its slope there; a crossing beyond the positions is censored."""
    curve = fit_logistic(x_P, accuracy_P)
    if curve is None:
        return np.nan, False, np.nan
    at, other = crossing(x_P, accuracy_P, level), curve.crossing(level)
    other = -np.inf if other < x_P[0] else np.inf if other > x_P[-1] else other
    if not np.isfinite(at) or not np.isfinite(other):
        return other, at == other, np.nan
    after = int(np.searchsorted(x_P, at))
    return other, bool(x_P[max(0, after - 1)] <= other <= x_P[after]), curve.slope(level)


def _interval(found_SB: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The mean over networks of what was measured, and its 95 % interval by the replicates."""
    networks, rows = found_SB.shape
    at = _mean(found_SB[:, 0])
    picked_BS = found_SB[rng.integers(networks, size=(rows, networks)), rng.integers(1, rows, size=(rows, networks))]
    means_B = _means(picked_BS)
    low, high = np.nanquantile(means_B, [0.025, 0.975], method="inverted_cdf")
    if networks > 1 and np.isfinite(at):
        spread = means_B[np.isfinite(means_B)].std()
        reach = float(t.ppf(0.975, networks - 1) * np.sqrt(networks / (networks - 1)) * spread)
        low = at - reach if np.isfinite(low) else low
        high = at + reach if np.isfinite(high) else high
    return at, float(low), float(high)


def _mean(values_S: Sequence[float] | np.ndarray) -> float:
    return float(_means(np.array([values_S]))[0])


def _means(values_BS: np.ndarray) -> np.ndarray:
    """Means of rows; nan where they hold both infinities."""
    with np.errstate(invalid="ignore"):
        means_B: np.ndarray = values_BS.mean(1)
    return means_B
