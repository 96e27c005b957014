"""Tipping points of curves whose answers are known, of another library, and of simulated networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import t
from sklearn.isotonic import IsotonicRegression

from tipping.tipping_points import Curves, area, at_crossings, compare, half_drop, partings, tipping_point
from tipping.tipping_points.estimate import crossing, fit_logistic

MU_P = np.geomspace(10, 1000, 9)
TOP, CHANCE = 0.98, 0.1


def falling(x: np.ndarray, middle: float, steepness: float = 3.0) -> np.ndarray:
    return CHANCE + (TOP - CHANCE) / (1 + np.exp(steepness * (x - middle)))


def simulated(rng: np.random.Generator, middle: float, images: int = 400, gap: float = 0.7) -> Curves:
    """A network whose accuracy falls around `middle`, in ln mu; without random filters it falls later by `gap`."""

    def drawn(rates: np.ndarray) -> np.ndarray:
        return rng.random((*rates.shape, images)) < rates[..., None]

    later_PD = np.column_stack([falling(np.log(MU_P), middle + gap + rng.normal(0, 0.05)) for _ in range(3)])
    return Curves(
        mu_P=MU_P,
        removed_P=np.arange(1, 10) * 10,
        intact_N=drawn(np.array(TOP)),
        selected_PN=drawn(falling(np.log(MU_P), middle)),
        random_PDN=drawn(later_PD),
    )


def test_a_crossing_lies_on_the_line_between_two_positions() -> None:
    assert crossing(np.array([0, 1, 3]), np.array([1.0, 0.8, 0.2]), 0.5) == pytest.approx(2)
    assert crossing(np.array([0, 1, 3]), np.array([1.0, 0.5, 0.2]), 0.5) == 1
    assert crossing(np.array([0, 1, 3]), np.array([0.5, 0.4, 0.2]), 0.5) == -np.inf
    assert crossing(np.array([0, 1, 3]), np.array([1.0, 0.9, 0.6]), 0.5) == np.inf


def test_a_curve_that_also_rises_is_taken_as_the_closest_falling_one(rng: np.random.Generator) -> None:
    for _ in range(50):
        x_P = np.sort(rng.random(12))
        accuracy_P = falling(x_P, 0.5, 8) + rng.normal(0, 0.15, 12)
        weights_P = [x_P[1] - x_P[0], *((x_P[2:] - x_P[:-2]) / 2), x_P[-1] - x_P[-2]]
        fitted_P = IsotonicRegression(increasing=False).fit(x_P, accuracy_P, weights_P).predict(x_P)
        at = crossing(x_P, accuracy_P, 0.5)
        if np.isfinite(at):
            assert np.interp(at, x_P, fitted_P) == pytest.approx(0.5)
        else:
            assert at == (np.inf if fitted_P[-1] > 0.5 else -np.inf)


def test_many_positions_at_one_place_do_not_move_the_curve() -> None:
    """A curve that falls, rises and falls again, evaluated closely around each crossing, as a search does."""
    grid = np.linspace(0, 6, 13)

    def accuracy(x: np.ndarray) -> np.ndarray:
        return np.where((x < 1.1) | ((x > 1.9) & (x < 5.1)), 0.9, 0.1)

    for around in (1.1, 1.9, 5.1):
        x_P = np.unique([*grid, *(around + np.linspace(-0.04, 0.04, 9))])
        assert crossing(x_P, accuracy(x_P), 0.5) == pytest.approx(crossing(grid, accuracy(grid), 0.5), abs=0.5)


def test_a_logistic_curve_is_found_again() -> None:
    x_P = np.log(MU_P)
    for middle, steepness in itertools.product((3.5, 4.6, 6.0), (1.5, 4.0, 9.0)):
        curve = fit_logistic(x_P, falling(x_P, middle, steepness))
        assert curve is not None
        assert curve == pytest.approx((TOP, CHANCE, middle, steepness), rel=2e-2)
        level = 0.3
        at, step = curve.crossing(level), 1e-6
        assert curve(np.array(at)) == pytest.approx(level)
        assert curve.slope(level) == pytest.approx(float(curve(at + step) - curve(at - step)) / (2 * step), rel=1e-4)
    assert curve.crossing(0.99) == -np.inf
    assert curve.crossing(0.05) == np.inf
    assert fit_logistic(x_P[:4], falling(x_P[:4], 4)) is None, "four numbers from four"


def test_positions_that_do_not_rise_are_refused() -> None:
    for x_P in ([1.0], [1.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="positions must rise"):
            crossing(np.array(x_P), np.ones(len(x_P)), 0.5)
    with pytest.raises(ValueError, match="at least one network"):
        tipping_point([], CHANCE, np.random.default_rng(0))


def test_the_area_is_the_mean_accuracy() -> None:
    assert area(np.array([0, 1, 3]), np.array([1.0, 0.5, 0.5])) == pytest.approx((0.75 + 2 * 0.5) / 3)
    assert area(np.array([2, 4]), np.array([1.0, 0.0])) == 0.5
    assert area(np.array([0]), np.array([0.7])) == 0.7


def test_a_drop_curve_tips_midway_to_chance() -> None:
    assert half_drop([0, 2, 6], [0.9, 0.7, 0.3], 0.1) == pytest.approx(4)
    assert half_drop([0, 2, 6], [0.9, 0.8, 0.6], 0.1) is None
    assert half_drop([0], [0.9], 0.1) is None


def test_one_network_has_an_interval_over_its_images(rng: np.random.Generator) -> None:
    trial = simulated(rng, np.log(100))
    found = tipping_point([trial], CHANCE, np.random.default_rng(1))
    assert found.low < found.at < found.high
    assert found.each == (found.at,)
    assert found.at == pytest.approx(np.log(100), abs=0.15)
    assert found.logistic == pytest.approx(found.at, abs=0.15)
    assert not found.disagree
    # (top − bottom) · steepness / 4; 400 images give the steepness to about a tenth
    assert found.slope == pytest.approx(-0.88 * 3 / 4, rel=0.3)
    assert found == tipping_point([trial], CHANCE, np.random.default_rng(1)), "the same for the same generator"
    many = tipping_point([simulated(rng, np.log(100), images=6400)], CHANCE, np.random.default_rng(1))
    assert found.high - found.low == pytest.approx(4 * (many.high - many.low), rel=0.4), "16 times the images"
    later = tipping_point([trial], CHANCE, np.random.default_rng(1), of="random")
    assert later.at == pytest.approx(np.log(100) + 0.7, abs=0.15)


def share(accuracy: float, images: int = 1000) -> np.ndarray:
    """So many of the images right, the first ones."""
    return np.arange(images) < round(accuracy * images)


def test_few_random_controls_widen_the_interval_as_student_says() -> None:
    """Each image is right or wrong in whole rows, so that only the draws vary; curves are straight lines."""
    ends = np.array([0.0, 0.3, 0.5, 0.6])  # of the draws' lines from 1 at ln mu = 0 to these at ln mu = 1
    rows_PDN = np.array([[np.repeat(value, 4000) for value in (1, 1, 1, 1)], [share(end, 4000) for end in ends]])
    every = np.random.default_rng(2).permutation(4000)
    network = Curves(np.exp([0.0, 1.0]), np.array([1, 2]), share(1, 4000), rows_PDN[:, 0], rows_PDN[:, :, every])
    found = tipping_point([network], 0.2, np.random.default_rng(1), of="random")
    mean = ends.mean()
    assert found.at == pytest.approx(0.4 / (1 - mean))
    slope = 0.4 / (1 - mean) ** 2  # by which the crossing moves with the mean, but for curvature
    student = 3.182446 * ends.std(ddof=1) / np.sqrt(4) * slope
    assert found.high - found.at == pytest.approx(student, rel=0.3)
    same = network.random_PDN[:, [1, 1, 1, 1]]
    alike = Curves(network.mu_P, network.removed_P, network.intact_N, network.selected_PN, same)
    alike_found = tipping_point([alike], 0.2, np.random.default_rng(1), of="random")
    assert alike_found.high - alike_found.low < (found.high - found.low) / 5


def test_the_level_moves_with_the_images_drawn() -> None:
    """At first all images that the intact network has right are, at last none: midway is midway in any draw."""
    intact_N = share(0.5)
    rows_PN = np.array([intact_N, np.zeros(1000, dtype=bool)])
    network = Curves(np.exp([0.0, 1.0]), np.array([1, 2]), intact_N, rows_PN, rows_PN[:, None])
    found = tipping_point([network], 0.0, np.random.default_rng(1))
    assert (found.low, found.at, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_an_interval_is_open_where_many_draws_of_images_never_cross() -> None:
    rows_PN = np.array([share(1.0), share(0.595)])
    network = Curves(np.exp([0.0, 1.0]), np.array([1, 2]), share(1.0), rows_PN, rows_PN[:, None])
    found = tipping_point([network], 0.2, np.random.default_rng(1))
    assert np.isfinite(found.at)
    assert found.high == np.inf, "0.6 is the level, a third of a standard deviation away"


def test_no_interval_of_filters_starts_below_none(rng: np.random.Generator) -> None:
    trials = [simulated(rng, middle) for middle in (np.log(15), np.log(200))]
    found = tipping_point(trials, CHANCE, np.random.default_rng(1), axis="filters")
    assert found.low == 0


def test_a_logistic_curve_that_crosses_elsewhere_is_flagged() -> None:
    accuracy = [0.98, 0.75, 0.56, 0.56, 0.55, 0.55, 0.545, 0.52, 0.10]  # a plateau just over 0.54, the level
    rows_PN = np.array([share(value) for value in accuracy])
    network = Curves(MU_P, np.arange(9), share(0.98), rows_PN, rows_PN[:, None])
    assert tipping_point([network], 0.1, np.random.default_rng(1)).disagree


def test_crossings_known_exactly_take_the_place_of_those_between_positions(rng: np.random.Generator) -> None:
    trials = [simulated(rng, middle) for middle in (4.4, 4.6)]
    one = tipping_point(trials[:1], CHANCE, np.random.default_rng(1))
    moved = at_crossings(one, [one.at + 0.1])
    assert (moved.at, moved.low, moved.high) == pytest.approx((one.at + 0.1, one.low + 0.1, one.high + 0.1))
    both = at_crossings(tipping_point(trials, CHANCE, np.random.default_rng(1)), [4.0, 5.0])
    reach = 12.7062 * 0.5  # Student's of one degree of freedom, times the standard error
    assert (both.at, both.low, both.high) == pytest.approx((4.5, 4.5 - reach, 4.5 + reach), rel=1e-5)
    assert both.each == both.bounds == (4.0, 5.0)


def test_several_networks_have_the_mean_of_theirs(rng: np.random.Generator) -> None:
    trials = [simulated(rng, middle) for middle in (4.0, 4.5, 5.3)]
    found = tipping_point(trials, CHANCE, np.random.default_rng(1))
    assert found.at == pytest.approx(np.mean(found.each))
    reach = 4.302653 * np.std(found.each, ddof=1) / np.sqrt(3)  # Student's, of two degrees of freedom
    assert (found.low, found.high) == pytest.approx((found.at - reach, found.at + reach))


def test_filters_start_from_the_intact_network(rng: np.random.Generator) -> None:
    trial = simulated(rng, np.log(100))
    found = tipping_point([trial], CHANCE, np.random.default_rng(1), axis="filters")
    assert found.at == pytest.approx(50, abs=4), "mu = 100 is the fifth, of 50 filters"
    early = simulated(rng, np.log(0.1))
    assert tipping_point([early], CHANCE, np.random.default_rng(1)).at == -np.inf
    assert 0 < tipping_point([early], CHANCE, np.random.default_rng(1), axis="filters").at < 10
    twice = Curves(
        MU_P, np.array([1, 2, 2, 2, 2, 6, 7, 8, 9]) * 10, *(trial.intact_N, trial.selected_PN, trial.random_PDN)
    )
    assert 20 <= tipping_point([twice], CHANCE, np.random.default_rng(1), axis="filters").at < 60


def test_what_does_not_cross_is_censored(rng: np.random.Generator) -> None:
    late, early, within = (simulated(rng, np.log(mu)) for mu in (1e5, 0.1, 100))
    found = tipping_point([late], CHANCE, np.random.default_rng(1))
    assert (found.at, found.logistic, found.disagree) == (np.inf, np.inf, False)
    assert found.high == np.inf
    assert found.bound == found.low == np.log(1000), "the last position"
    assert np.isnan(found.slope)
    mixed = tipping_point([within, late], CHANCE, np.random.default_rng(1))
    assert (mixed.at, mixed.high) == (np.inf, np.inf)
    assert mixed.bound == pytest.approx((np.log(100) + np.log(1000)) / 2, abs=0.1)
    assert mixed.low < mixed.bound
    assert tipping_point([within, early], CHANCE, np.random.default_rng(1)).at == -np.inf
    assert np.isnan(tipping_point([late, early], CHANCE, np.random.default_rng(1)).at)


def test_random_filters_part_from_the_relevant_ones(rng: np.random.Generator) -> None:
    trials = [simulated(rng, middle) for middle in (4.4, 4.5, 4.6)]
    found = partings(trials, np.random.default_rng(1))
    assert np.exp([one.at for one in found]) == pytest.approx(MU_P)
    expected_P = np.mean([trial.random_PDN.mean((1, 2)) - trial.selected_PN.mean(1) for trial in trials], axis=0)
    assert [one.gap for one in found] == pytest.approx(expected_P)
    assert found[4].low > 0
    assert found[0].low < 0 < found[0].high, "there, both are intact"
    alike = partings([simulated(rng, 4.5, gap=0.0) for _ in range(3)], np.random.default_rng(1))
    assert all(one.low < 0.02 for one in alike)
    assert found[0].high - found[0].low < 0.2
    one = partings(trials[:1], np.random.default_rng(1))
    assert one[4].low > 0
    single = Curves(
        *(trials[0].mu_P, trials[0].removed_P, trials[0].intact_N, trials[0].selected_PN), trials[0].random_PDN[:, :1]
    )
    assert partings([single], np.random.default_rng(1))[4].low == -np.inf, "one draw has no spread"
    few = Curves(
        *(trials[0].mu_P[:4], trials[0].removed_P[:4], trials[0].intact_N),
        trials[0].selected_PN[:4],
        trials[0].random_PDN[:4],
    )
    assert np.exp([one.at for one in partings([few, *trials], np.random.default_rng(1))]) == pytest.approx(MU_P[:4])
    late = Curves(
        *(trials[0].mu_P[2:], trials[0].removed_P[2:], trials[0].intact_N),
        trials[0].selected_PN[2:],
        trials[0].random_PDN[2:],
    )
    assert np.exp([one.at for one in partings([late, *trials], np.random.default_rng(1))]) == pytest.approx(MU_P[2:])
    shifted = [
        Curves(MU_P * factor, *list(vars(one).values())[1:])
        for factor, one in zip((1, 1.01, 1.02), trials, strict=True)
    ]
    near = {round(np.exp(one.at), 6): one for one in partings(shifted, np.random.default_rng(1))}
    assert near[100].gap == pytest.approx(found[4].gap, abs=0.02), "no two networks share a mu"


def test_random_filters_part_on_the_axis_of_filters_too(rng: np.random.Generator) -> None:
    trial = simulated(rng, 4.5)
    by_mu = partings([trial], np.random.default_rng(1))
    by_filters = partings([trial], np.random.default_rng(1), axis="filters")
    assert by_filters[0] == (0, 0, 0, 0), "with none ablated they are the same network"
    assert [one.at for one in by_filters[1:]] == trial.removed_P.tolist()
    assert [one[1:] for one in by_filters[1:]] == [pytest.approx(one[1:]) for one in by_mu]


def test_groups_are_compared_by_all_ways_to_deal_their_networks() -> None:
    first, second = [4.0, 4.2, 4.1], [4.9, 5.3, 5.0, 4.15]
    found = compare(first, second)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))
    everyone = [*first, *second]
    gaps = [
        np.mean([everyone[i] for i in chosen]) - np.mean([everyone[i] for i in range(7) if i not in chosen])
        for chosen in itertools.combinations(range(7), 3)
    ]
    # scipy doubles the smaller side's share
    sides = [np.mean(np.array(gaps) <= found.difference + 1e-12), np.mean(np.array(gaps) >= found.difference - 1e-12)]
    assert found.p == pytest.approx(min(1, 2 * min(sides)))
    variances = [np.var(group, ddof=1) / len(group) for group in (first, second)]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3)  # Welch and Satterthwaite
    reach = t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    assert (found.low, found.high) == pytest.approx((found.difference - reach, found.difference + reach))
    for wrong in ([4.0], [4.0, np.inf]):
        with pytest.raises(ValueError, match="none censored"):
            compare(first, wrong)


def coverage(simulations: int, networks: int, spread: float, images: int) -> float:
    """How often the interval holds the tipping point that networks have on average."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(simulations):
        found = tipping_point(
            [simulated(rng, rng.normal(np.log(100), spread), images) for _ in range(networks)],
            CHANCE,
            rng,
            replicates=200,
        )
        hits += found.low <= np.log(100) <= found.high
    return hits / simulations


# networks that differ by more than the noise of their images, by about as much, and not at all
SPREADS = [(1, 0.0, 400), (3, 0.4, 400), (3, 0.05, 200), (3, 0.0, 200), (10, 0.4, 400), (10, 0.05, 200)]


@pytest.mark.parametrize(("networks", "spread", "images"), SPREADS)
def test_intervals_cover(networks: int, spread: float, images: int) -> None:
    assert coverage(100, networks, spread, images) > 0.88, "95 % of 100, less three standard errors of 2.2 %"


@pytest.mark.long
@pytest.mark.parametrize(("networks", "spread", "images"), SPREADS)
def test_intervals_cover_19_in_20(networks: int, spread: float, images: int) -> None:
    assert 0.93 <= coverage(1000, networks, spread, images) <= 0.97


def test_the_bound_of_censored_networks_is_one() -> None:
    """Where the grid ends one standard deviation over the mean, `low` is still under it."""
    rng, hits, censored = np.random.default_rng(0), 0, 0
    for _ in range(200):
        middles = rng.normal(np.log(1000) - 0.4, 0.4, 3)
        found = tipping_point([simulated(rng, middle) for middle in middles], CHANCE, rng)
        hits += found.low <= np.log(1000) - 0.4 <= found.high
        censored += not np.isfinite(found.at)
    assert censored > 50
    assert hits / 200 > 0.9
