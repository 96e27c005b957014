"""Selectors by ablation, beside all orders and all sets of a network with few filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest
import torch
from oracles import without
from torch import nn
from torch.nn.functional import cross_entropy
from toy_responses import DEAD, observed, with_biases
from toys import filters_of

from tipping.data import Split
from tipping.errors import InputError
from tipping.network import build
from tipping.selectors import Budget, Evidence, removal, score

NAMES = ("single", "shapley", "greedy")


def small(filters: int = 3, **budget: int) -> Evidence:
    """Two layers of as many filters, labels that the network itself gives, and no loss of rounding in what is right."""
    options = {"_target_": "tipping.models.KerasCNN", "filters": filters, "depth": 2, "dropout": 0.5}
    model = with_biases(build(options, (1, 8, 8), 4, seed=3))
    images = (
        torch.randn(150, 1, 8, 8, generator=torch.Generator().manual_seed(2))
        + torch.linspace(-2, 2, 150)[:, None, None, None]
    )
    with torch.no_grad():
        model.dense3.bias -= model(images).mean(0)
        labels_N = model(images).argmax(1)
    assert labels_N.bincount().max() < 100
    return Evidence(filters_of(model), Split(images, labels_N), budget=Budget(**{"images": 0, **budget}))


def outcomes(evidence: Evidence) -> Callable[[frozenset[int]], tuple[float, float]]:
    """Loss and accuracy of a copy of the network whose filters have no weights."""
    split, model = evidence.images, evidence.filters.model

    @cache
    def measured(gone: frozenset[int]) -> tuple[float, float]:
        with torch.no_grad():
            logits_NC = without(model, sorted(gone)).double()(split.images_NCHW.double())
        right = (logits_NC.argmax(1) == split.labels_N).double().mean()
        return float(cross_entropy(logits_NC, split.labels_N)), float(right)

    return measured


def test_single_is_the_rise_of_the_loss_without_each_filter() -> None:
    evidence = observed(budget=Budget(images=0))
    measured = outcomes(evidence)
    intact, _ = measured(frozenset())
    expected = [measured(frozenset([f]))[0] - intact for f in range(18)]
    assert np.allclose(score("single", evidence).values, expected, atol=1e-6)
    assert not np.allclose(expected, 0, atol=1e-3)


def test_ablations_are_measured_on_some_images_in_the_manner_given() -> None:
    evidence = observed(budget=Budget(single_images=40), value=torch.linspace(0, 1, 18))
    few = evidence.images.spread(40)
    rises = score("single", evidence).values
    logits = []
    for mean in (False, True):
        model = evidence.filters.model
        handle = model.relu2.register_forward_hook(
            lambda _, __, maps, mean=mean: (
                torch.cat([maps[:, :2], 0 * maps[:, 2:3] + 8 / 17, maps[:, 3:]], 1) if mean else None
            )
        )
        with torch.no_grad():
            logits.append(float(cross_entropy(model(few.images_NCHW), few.labels_N)))
        handle.remove()
    assert rises[8] == pytest.approx(logits[1] - logits[0], abs=1e-6)
    assert abs(rises[8]) > 1e-4, "dead, but not with another value"


def shapley_of_all_sets(value: Callable[[frozenset[int]], float], filters: int) -> np.ndarray:
    """By the definition: the weighted mean, over all sets of others, of what is lost with the filter."""
    values_F = np.zeros(filters)
    for f in range(filters):
        others = [g for g in range(filters) if g != f]
        for size in range(filters):
            weight = factorial(size) * factorial(filters - size - 1) / factorial(filters)
            for gone in map(frozenset, combinations(others, size)):
                values_F[f] += weight * (value(gone) - value(gone | {f}))
    return values_F


def lost_in_order(value: Callable[[frozenset[int]], float], order: tuple[int, ...], floor: float) -> np.ndarray:
    """What is lost with each filter of an order, until nothing is left to lose."""
    lost_F = np.zeros(len(order))
    for k, f in enumerate(order):
        before = value(frozenset(order[:k]))
        if before <= floor:
            break
        lost_F[f] = before - value(frozenset(order[: k + 1]))
    return lost_F


def test_shapley_values_of_all_sets_lie_in_the_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 standard errors: of 6 filters, one in 3,000 lies further away."""
    monkeypatch.setattr(removal, "NEAR_CHANCE", -2)  # no order ends early
    evidence = small(permutations=200)
    measured = outcomes(evidence)
    exact_F = shapley_of_all_sets(lambda gone: measured(gone)[1], 6)
    scores = score("shapley", evidence)
    assert scores.error_F is not None
    assert (np.abs(scores.values - exact_F) <= 4 * scores.error_F + 1e-12).all()
    assert (scores.error_F < 0.3 * np.abs(exact_F).max()).all()
    assert scores.values.sum() == pytest.approx(measured(frozenset())[1] - measured(frozenset(range(6)))[1])


@pytest.mark.parametrize("together", [1, 2, 16])
def test_orders_end_near_chance(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Beside all 720 orders, each with its end; however many ablations are measured at once."""
    monkeypatch.setattr(removal, "TOGETHER", together)
    evidence = small(permutations=200)
    measured, floor = outcomes(evidence), float(evidence.images.labels_N.bincount().max()) / 150 + 0.01
    lost_OF = np.array(
        [lost_in_order(lambda gone: measured(gone)[1], order, floor) for order in permutations(range(6))]
    )
    whole_OF = np.array([lost_in_order(lambda gone: measured(gone)[1], order, -1) for order in permutations(range(6))])
    assert not np.allclose(lost_OF, whole_OF), "some end early"
    scores = score("shapley", evidence)
    assert (np.abs(scores.values - lost_OF.mean(0)) <= 4 * scores.error_F + 1e-12).all()
    assert np.allclose(scores.error_F, lost_OF.std(0) / np.sqrt(200), rtol=0.3)
    first = score("shapley", replace(evidence, budget=Budget(images=0, permutations=2)))
    rng = np.random.default_rng(0)
    drawn = [tuple(rng.permutation(6).tolist()) for _ in range(2)]
    expected = np.array([lost_in_order(lambda gone: measured(gone)[1], order, floor) for order in drawn])
    assert np.allclose(first.values, expected.mean(0))
    assert np.allclose(first.error_F, np.abs(expected[0] - expected[1]) / 2)


def greedy_slowly(evidence: Evidence, removals: int, floor: float) -> list[int]:
    measured, order = outcomes(evidence), list[int]()
    rest = list(range(len(evidence.filters.ablatable_F)))
    while len(order) < removals and rest:
        loss = {f: measured(frozenset([*order, f]))[0] for f in rest}
        rest.sort(key=lambda f, loss=loss: -loss[f])
        order.append(rest.pop(0))
        if measured(frozenset(order))[1] <= floor:
            break
    return order + rest


@pytest.mark.parametrize("removals", [1, 3, 40])
@pytest.mark.parametrize("floor", [0.01, -2])
def test_greedy_is_the_order_by_trying_all(monkeypatch: pytest.MonkeyPatch, removals: int, floor: float) -> None:
    monkeypatch.setattr(removal, "NEAR_CHANCE", floor)
    evidence = small(5, removals=removals)
    chance = float(evidence.images.labels_N.bincount().max()) / 150
    expected = greedy_slowly(evidence, removals, chance + floor)
    place_F = score("greedy", evidence).values
    assert np.argsort(-place_F).tolist() == expected
    assert sorted(place_F.tolist()) == list(range(1, 11))


def test_greedy_is_not_single_ablation() -> None:
    evidence = small(5, removals=40)
    orders = [np.argsort(-score(name, evidence).values).tolist() for name in ("greedy", "single")]
    assert orders[0][0] == orders[1][0]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("name", NAMES)
def test_filters_that_may_not_be_ablated_are_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    evidence = small(3, permutations=3)
    spared_F = np.array([False, True, False, False, False, True])
    evidence = replace(evidence, filters=replace(evidence.filters, ablatable_F=~spared_F))
    ablated: list[int] = []
    evaluate = removal.evaluate_losses
    monkeypatch.setattr(
        removal,
        "evaluate_losses",
        lambda *given, **how: ablated.extend(np.concatenate(given[2])) or evaluate(*given, **how),
    )
    scores_F = score(name, evidence).values
    assert set(ablated) == {0, 2, 3, 4}
    assert not scores_F[spared_F].any()
    assert scores_F[~spared_F].any()
    nothing = replace(evidence, filters=replace(evidence.filters, ablatable_F=np.zeros(6, dtype=bool)))
    with pytest.raises(InputError, match="no filter may be ablated"):
        score(name, nothing)


@pytest.mark.parametrize("name", NAMES)
def test_dead_filters_lose_nothing(name: str) -> None:
    scores_F = score(name, observed(budget=Budget(images=60, permutations=2, removals=2))).values
    if name == "greedy":
        assert scores_F.argmax() not in DEAD
    else:
        assert np.allclose(scores_F[DEAD], 0, atol=1e-6)


def test_where_there_is_nothing_to_lose_all_is_measured_once() -> None:
    """A network that knows one class: it is at chance from the start."""
    evidence = small(3)
    nn.init.zeros_(evidence.filters.model.dense3.weight)
    assert not score("shapley", evidence).values.any()
    assert sorted(score("greedy", evidence).values.tolist()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "budget", "message"),
    [
        ("shapley", {"permutations": 1}, "budget.permutations=1: give a whole number of at least 2"),
        ("greedy", {"removals": 0}, "budget.removals=0: give a whole number of at least 1"),
    ],
)
def test_a_budget_for_nothing_is_refused(name: str, budget: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(name, small(3, **budget))


@pytest.mark.parametrize("name", NAMES)
def test_losses_that_are_not_finite_are_refused(name: str) -> None:
    evidence = small(3)
    with torch.no_grad():
        evidence.filters.model.dense3.bias[0] = torch.nan
    with pytest.raises(InputError, match="losses are not finite"):
        score(name, evidence)
