from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from tipping.experiment import config
from tipping.selection import MATCHES, Candidates, Draws, draw_controls
from tipping.selection.controls import draw_control

LAYER_F = np.repeat([0, 1, 2], [5, 8, 3])
DEAD_F = np.isin(np.arange(16), [3, 9, 10])
MASS_F = np.where(DEAD_F, 0, np.linspace(0.2, 1.7, 16))
ORDER = np.array([0, 6, 1, 5, 7])  # two of layer 0, three of layer 1
STRENGTH_F = np.where(np.isin(np.arange(16), ORDER), 2.0, 0)
FILTERS = Candidates(LAYER_F, DEAD_F, MASS_F, STRENGTH_F, np.ones(16, dtype=bool))


def uniform(counts: list[int]) -> bool:
    return chisquare(counts).pvalue > 0.01  # fixed seed: a biased draw gives far less


def draws(match: str, count: int = 8000) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [draw_control(ORDER, FILTERS, rng, match) for _ in range(count)]


@pytest.mark.parametrize("match", MATCHES)
def test_no_filter_comes_twice(match: str) -> None:
    assert all(len(set(drawn.tolist())) == len(drawn) for drawn in draws(match, 300))


@pytest.mark.parametrize("match", ["layer", "live", "norm", "least_relevant"])
def test_every_prefix_has_as_many_filters_of_each_layer(match: str, rng: np.random.Generator) -> None:
    for _ in range(100):
        order_K = rng.permutation(np.flatnonzero(~DEAD_F))[:9]
        drawn = draw_control(order_K, FILTERS, rng, match)
        assert np.array_equal(LAYER_F[drawn], LAYER_F[order_K])


@pytest.mark.parametrize("match", ["layer", "live"])
def test_uniform_in_each_layer_at_each_place_and_over_all_pairs(match: str) -> None:
    drawn = np.array(draws(match))
    for layer in (0, 1):
        members = np.flatnonzero((layer == LAYER_F) & ~(DEAD_F & (match == "live")))
        places = np.flatnonzero(LAYER_F[ORDER] == layer)  # so that every prefix is uniform too
        for place in places:
            assert uniform([(drawn[:, place] == member).sum() for member in members])
        pairs = Counter(map(tuple, drawn[:, places[:2]].tolist()))
        assert uniform([pairs[pair] for pair in permutations(members.tolist(), 2)])
    assert DEAD_F[drawn].any() == (match == "layer")


def test_global_is_uniform_over_all_layers_and_pairs() -> None:
    drawn = np.array(draws("global"))
    assert drawn.shape[1] == len(ORDER)
    assert uniform([(drawn == member).sum() for member in range(16)])
    for places in ((0, 1), (2, 4)):
        pairs = Counter(map(tuple, drawn[:, places].tolist()))
        assert uniform([pairs[pair] for pair in permutations(range(16), 2)])


SKEWED_F = np.where(LAYER_F == 1, [1.0, 0.06, 0.8, 0.05, 0.9, 0.7, 0.04, 0.03] * 2, 1.0)


@pytest.mark.parametrize("mass_F", [MASS_F, np.where(DEAD_F, 0, SKEWED_F)], ids=["even", "skewed"])
def test_norm_matches_number_and_mass_of_each_layer_uniformly(mass_F: np.ndarray) -> None:
    """Against all sets of as many live filters within a tenth of the mass that exchanges lead to, found one by one."""
    rng, filters = np.random.default_rng(0), replace(FILTERS, mass_F=mass_F)
    found = {0: Counter(), 1: Counter()}
    for _ in range(3000):
        drawn = draw_control(ORDER, filters, rng, "norm")
        for layer in (0, 1):
            found[layer][frozenset(drawn[LAYER_F[drawn] == layer].tolist())] += 1
    for layer, sets in found.items():
        relevant = frozenset(ORDER[LAYER_F[ORDER] == layer].tolist())
        target = mass_F[list(relevant)].sum()
        members = np.flatnonzero((layer == LAYER_F) & ~DEAD_F).tolist()
        near = [
            frozenset(chosen)
            for chosen in combinations(members, len(relevant))
            if abs(mass_F[list(chosen)].sum() - target) <= 0.1 * target
        ]
        reached = {relevant}
        while more := {chosen for chosen in near for known in reached if len(chosen - known) == 1} - reached:
            reached |= more
        assert set(sets) == reached
        assert len(reached) == 1 or uniform([sets[chosen] for chosen in reached])


def test_norm_takes_the_relevant_ones_where_no_others_have_their_mass(rng: np.random.Generator) -> None:
    layer_F, alive_F = np.zeros(4, dtype=int), np.zeros(4, dtype=bool)
    filters = Candidates(layer_F, alive_F, np.array([1.0, 5.0, 5.0, 6.0]), np.zeros(4), ~alive_F)
    assert {draw_control(np.array([0]), filters, rng, "norm").tolist()[0] for _ in range(20)} == {0}
    assert {draw_control(np.array([1]), filters, rng, "norm").tolist()[0] for _ in range(20)} == {1, 2}
    pair = Candidates(layer_F[:2], alive_F[:2], np.ones(2), np.zeros(2), ~alive_F[:2])
    drawn = [draw_control(np.array([0]), pair, rng, "norm")[0] for _ in range(400)]
    assert uniform([drawn.count(0), drawn.count(1)])


def test_norm_mixes_in_a_layer_of_real_size() -> None:
    """Sixty-four of 128 filters of one mass: as many draws contain each filter as chance would have it."""
    nothing = np.zeros(128)
    filters = Candidates(np.zeros(128, dtype=int), nothing > 0, nothing + 1, nothing, nothing == 0)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([draw_control(np.arange(64), filters, rng, "norm") for _ in range(200)])
    assert uniform([(drawn < 64).sum(), (drawn >= 64).sum()])
    assert uniform(np.bincount(drawn, minlength=128).tolist())


def test_least_relevant_takes_those_of_no_weight_first_at_random() -> None:
    drawn = np.array(draws("least_relevant"))
    assert not (STRENGTH_F[drawn] > 0).any()
    assert uniform([(drawn == member).sum() for member in (2, 3, 4)])
    filters = Candidates(LAYER_F, np.zeros(16, dtype=bool), MASS_F, np.arange(16.0), np.ones(16, dtype=bool))
    whole = draw_control(np.array([4, 3, 2, 1]), filters, np.random.default_rng(0), "least_relevant")
    assert whole.tolist() == [0, 1, 2, 3]


def test_controls_depend_on_seed_mu_and_draw_only() -> None:
    def orders(seed: int = 0, mu: float = 10.0, draws: int = 3) -> list[list[int]]:
        return [order.tolist() for order in draw_controls(ORDER, FILTERS, mu, Draws(draws, seed=seed))]

    assert orders() == orders()
    assert orders(draws=5)[:3] == orders()
    assert orders(seed=1) != orders()
    assert orders(mu=100.0) != orders()
    assert len({tuple(order) for order in orders(draws=20)}) > 15


@pytest.mark.parametrize("match", MATCHES)
def test_nothing_relevant_has_nothing_as_its_control(match: str, rng: np.random.Generator) -> None:
    assert len(draw_control(np.array([], dtype=int), FILTERS, rng, match)) == 0


def test_a_whole_layer_is_its_own_control(rng: np.random.Generator) -> None:
    whole = np.flatnonzero(LAYER_F == 2)
    assert sorted(draw_control(whole, FILTERS, rng)) == whole.tolist()


def test_bad_input_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="match must be one of layer, global, live, norm, least_relevant, got 'all'"):
        draw_control(ORDER, FILTERS, rng, "all")
    for order_K in (np.arange(5), np.array([3])):
        with pytest.raises(ValueError, match="dead_F must not hold for relevant filters"):
            draw_control(order_K, FILTERS, rng, "live")


def test_every_control_can_be_configured() -> None:
    assert config.AXES["control"] == tuple(MATCHES)


def test_a_global_control_keeps_to_what_may_be_ablated() -> None:
    filters = replace(FILTERS, ablatable_F=LAYER_F != 1)
    drawn = np.array(
        [draw_control(np.array([0, 1, 2]), filters, np.random.default_rng(i), "global") for i in range(3000)]
    )
    assert uniform([(drawn == member).sum() for member in np.flatnonzero(LAYER_F != 1)])
    assert not (LAYER_F[drawn] == 1).any()
