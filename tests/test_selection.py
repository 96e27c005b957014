from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from tipping.selection import random_order, random_orders, relevant, strongest_first

LAYER_F = np.repeat([0, 1, 2], [5, 8, 3])


def test_relevant_filters_have_a_weight_for_some_class_strongest_first() -> None:
    weights_FC = np.zeros((5, 2))
    weights_FC[1], weights_FC[2, 1], weights_FC[4, 0] = (-2, 2), -3, 1e-12
    assert relevant(weights_FC).tolist() == [False, True, True, False, True]
    assert strongest_first(weights_FC).tolist() == [1, 2, 4]
    assert strongest_first(np.zeros((5, 2))).tolist() == []


def test_controls_match_every_prefix_layer_by_layer_without_repeats(rng: np.random.Generator) -> None:
    order_K = rng.permutation(16)[:10]
    for _ in range(200):
        control_K = random_order(order_K, LAYER_F, rng)
        assert np.array_equal(LAYER_F[control_K], LAYER_F[order_K])
        assert len(set(control_K.tolist())) == 10


def test_controls_are_uniform_in_their_layer() -> None:
    rng = np.random.default_rng(0)
    order_K = np.array([0, 1, 5, 6, 7])  # two of layer 0, three of layer 1
    draws = np.array([random_order(order_K, LAYER_F, rng) for _ in range(8000)])
    for layer in (0, 1):
        members = np.flatnonzero(layer == LAYER_F)
        counts = [(draws == member).sum() for member in members]
        assert chisquare(counts).pvalue > 0.01  # fixed seed: a biased draw gives far less
        # each place of the order is uniform too, so that every prefix is
        place = np.flatnonzero(LAYER_F[order_K] == layer)[0]
        assert chisquare([(draws[:, place] == member).sum() for member in members]).pvalue > 0.01


def test_random_orders_depend_on_seed_mu_and_draw_only() -> None:
    order_K = np.arange(12)

    def orders(**changed: float) -> list[list[int]]:
        given = {"seed": 0, "mu": 10.0, "draws": 3, **changed}
        return [order.tolist() for order in random_orders(order_K, LAYER_F, **given)]  # type: ignore[arg-type]

    assert orders() == orders()
    assert orders(draws=5)[:3] == orders()
    assert orders(seed=1) != orders()
    assert orders(mu=100.0) != orders()
    assert len({tuple(order) for order in orders(draws=20)}) == 20


def test_a_whole_layer_is_its_own_control(rng: np.random.Generator) -> None:
    whole = np.flatnonzero(LAYER_F == 2)
    assert sorted(random_order(whole, LAYER_F, rng)) == whole.tolist()
