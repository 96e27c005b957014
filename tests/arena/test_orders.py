"""Orders of filters by scores, beside plain loops."""

from __future__ import annotations

import numpy as np

from tipping.arena import counts_along, layer_matched_order, within_layers
from tipping.selectors import own_order

LAYER_F = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])


def test_own_order_is_by_falling_score_and_leaves_out_what_may_not_be_ablated(rng: np.random.Generator) -> None:
    score_F = np.array([0.3, -1, 2, 0.5, 0.1, 7, -0.2, 0.4, 3])
    ablatable_F = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1], dtype=bool)
    assert own_order(score_F, ablatable_F, rng).tolist() == [8, 2, 3, 7, 0, 4, 6, 1]


def test_ties_are_in_random_order() -> None:
    everything = np.ones(9, dtype=bool)
    orders = [own_order(np.zeros(9), everything, np.random.default_rng(seed)) for seed in range(2000)]
    first = np.bincount([order[0] for order in orders], minlength=9)
    assert (abs(first - 2000 / 9) < 5 * np.sqrt(2000 / 9)).all(), "five standard deviations"
    assert all(sorted(order.tolist()) == list(range(9)) for order in orders)


def test_a_matched_order_has_as_many_of_each_layer_among_the_first_k_for_every_k(rng: np.random.Generator) -> None:
    score_F = rng.normal(size=9)
    order_A = own_order(score_F, np.ones(9, dtype=bool), rng)
    reference_K = np.array([4, 0, 5, 8, 3])
    matched_K = layer_matched_order(order_A, reference_K, LAYER_F)
    for k in range(1, 6):
        for layer in range(3):
            count = int((LAYER_F[reference_K[:k]] == layer).sum())
            best = sorted((f for f in range(9) if LAYER_F[f] == layer), key=lambda f: -score_F[f])[:count]
            assert {f for f in matched_K[:k].tolist() if LAYER_F[f] == layer} == set(best)


def test_an_order_matched_with_itself_is_itself(rng: np.random.Generator) -> None:
    order_A = own_order(rng.normal(size=9), np.ones(9, dtype=bool), rng)
    assert layer_matched_order(order_A, order_A[:6], LAYER_F).tolist() == order_A[:6].tolist()


def test_within_layers_each_layer_has_norm_one_or_stays_zero(rng: np.random.Generator) -> None:
    score_F = rng.normal(size=9) * np.array([1, 1, 1, 50, 50, 50, 50, 0, 0])
    scaled_F = within_layers(score_F, LAYER_F)
    norms = [np.linalg.norm(scaled_F[layer == LAYER_F]) for layer in range(3)]
    np.testing.assert_allclose(norms, [1, 1, 0], rtol=1e-12)
    assert (np.sign(scaled_F) == np.sign(score_F)).all()


def test_counts_rise_from_nothing_to_all_and_hold_those_asked_for() -> None:
    assert counts_along(20, 7) == [0, 1, 2, 3, 4, 6, 7, 8, 11, 16, 20]
    assert counts_along(1) == [0, 1]
    assert counts_along(0) == [0]
