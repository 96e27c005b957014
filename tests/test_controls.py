from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from tipping.controls import MATCHES, Filters, control, controls

LAYER_F = np.repeat([0, 1, 2], [5, 8, 3])
DEAD_F = np.isin(np.arange(16), [3, 9, 10])
MASS_F = np.where(DEAD_F, 0, np.linspace(0.2, 1.7, 16))
ORDER = np.array([0, 6, 1, 5, 7])  # two of layer 0, three of layer 1
STRENGTH_F = np.where(np.isin(np.arange(16), ORDER), 2.0, 0)
FILTERS = Filters(LAYER_F, DEAD_F, MASS_F, STRENGTH_F)


def uniform(counts: list[int]) -> bool:
    return chisquare(counts).pvalue > 0.01  # fixed seed: a biased draw gives far less


def draws(match: str, count: int = 8000) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [control(ORDER, FILTERS, rng, match) for _ in range(count)]


@pytest.mark.parametrize("match", MATCHES)
def test_no_filter_comes_twice(match: str) -> None:
    assert all(len(set(drawn.tolist())) == len(drawn) for drawn in draws(match, 300))


@pytest.mark.parametrize("match", ["layer", "live", "least_relevant"])
def test_every_prefix_has_as_many_filters_of_each_layer(match: str, rng: np.random.Generator) -> None:
    for _ in range(100):
        order_K = rng.permutation(np.flatnonzero(~DEAD_F))[:9]
        drawn = control(order_K, FILTERS, rng, match)
        assert np.array_equal(LAYER_F[drawn], LAYER_F[order_K])


@pytest.mark.parametrize("match", ["layer", "live"])
def test_uniform_in_each_layer_and_at_each_place(match: str) -> None:
    drawn = np.array(draws(match))
    for layer in (0, 1):
        members = np.flatnonzero((layer == LAYER_F) & ~(DEAD_F & (match == "live")))
        assert uniform([(drawn == member).sum() for member in members])
        place = np.flatnonzero(LAYER_F[ORDER] == layer)[0]  # so that every prefix is uniform too
        assert uniform([(drawn[:, place] == member).sum() for member in members])
    assert DEAD_F[drawn].any() == (match == "layer")


def test_global_is_uniform_over_all_layers() -> None:
    drawn = np.array(draws("global"))
    assert drawn.shape[1] == len(ORDER)
    assert uniform([(drawn == member).sum() for member in range(16)])
    assert uniform([(drawn[:, 0] == member).sum() for member in range(16)])


def test_norm_comes_as_near_to_the_mass_of_each_layer_as_its_draw_allows() -> None:
    firsts = {0: [], 1: []}
    for drawn in draws("norm"):
        assert not DEAD_F[drawn].any()
        for layer in (0, 1):
            target = MASS_F[ORDER[LAYER_F[ORDER] == layer]].sum()
            members = drawn[LAYER_F[drawn] == layer]
            off, masses = abs(MASS_F[members].sum() - target), MASS_F[members]
            assert off <= abs(masses[:-1].sum() - target) + 1e-12, "one fewer is no nearer"
            assert off <= MASS_F[layer == LAYER_F].max() / 2 + 1e-12, "nor is one more"
            firsts[layer].append(members[0])
    for layer, chosen in firsts.items():
        members = np.flatnonzero((layer == LAYER_F) & ~DEAD_F)
        assert uniform([np.count_nonzero(np.array(chosen) == member) for member in members])
    assert len({len(drawn) for drawn in draws("norm", 50)}) > 1


def test_least_relevant_takes_those_of_no_weight_first_at_random() -> None:
    drawn = np.array(draws("least_relevant"))
    assert not (STRENGTH_F[drawn] > 0).any()
    assert uniform([(drawn == member).sum() for member in (2, 3, 4)])
    weights_F = np.arange(16.0)
    whole = control(
        np.array([4, 3, 2, 1]), Filters(LAYER_F, DEAD_F, MASS_F, weights_F), np.random.default_rng(0), MATCHES[-1]
    )
    assert whole.tolist() == [0, 1, 2, 3]


def test_controls_depend_on_seed_mu_and_draw_only() -> None:
    def orders(seed: int = 0, mu: float = 10.0, draws: int = 3) -> list[list[int]]:
        return [order.tolist() for order in controls(ORDER, FILTERS, seed, mu, draws)]

    assert orders() == orders()
    assert orders(draws=5)[:3] == orders()
    assert orders(seed=1) != orders()
    assert orders(mu=100.0) != orders()
    assert len({tuple(order) for order in orders(draws=20)}) > 15


@pytest.mark.parametrize("match", MATCHES)
def test_nothing_relevant_has_nothing_as_its_control(match: str, rng: np.random.Generator) -> None:
    assert len(control(np.array([], dtype=int), FILTERS, rng, match)) == 0


def test_a_whole_layer_is_its_own_control(rng: np.random.Generator) -> None:
    whole = np.flatnonzero(LAYER_F == 2)
    assert sorted(control(whole, FILTERS, rng)) == whole.tolist()


def test_bad_input_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="match must be one of layer, global, live, norm, least_relevant, got 'all'"):
        control(ORDER, FILTERS, rng, "all")
    with pytest.raises(ValueError, match="dead_F must not hold for relevant filters"):
        control(np.arange(5), FILTERS, rng, "live")
