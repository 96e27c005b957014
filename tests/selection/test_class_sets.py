from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toy_problems import problem_of, responses_like

from tipping.mu_lasso import MuLassoProblem, spg
from tipping.network import Filters
from tipping.selection import KINDS, ClassSets, Draws, Selection, class_sets, ranked_filters, select_each

SIZES, MU = [6, 8], 30.0  # at which classes share filters, and one has most of a layer


@pytest.fixture
def filters() -> Filters:
    """Fourteen filters in two layers; those of the first are measured at two places."""
    model = nn.Sequential(*(nn.Linear(1, size) for size in SIZES))
    maps = (("0", "0"), ("1", "1"), ("0", "0"))
    return Filters.at(model, {"0": "0", "1": "1"}, classes=4, maps=maps)


@pytest.fixture
def problem(rng: np.random.Generator, device: torch.device) -> MuLassoProblem:
    """Of the four classes, nobody is of the last."""
    responses = responses_like(rng, images=200, sizes=[*SIZES, SIZES[0]], dead=1)
    scores = responses @ rng.normal(size=(20, 3))
    return problem_of(responses, np.eye(4)[(scores - scores.mean(0)).argmax(1)], device)


@pytest.fixture
def selection(problem: MuLassoProblem, filters: Filters) -> Selection:
    return select_each(problem, filters, [MU], solver=spg)[0]


@pytest.fixture
def sets(selection: Selection, filters: Filters) -> list[ClassSets]:
    return class_sets(selection, filters, MU, Draws(3))


def weights_by_loops(selection: Selection) -> np.ndarray:
    """Weights by filter, response by response."""
    weights_FC = np.zeros((14, 4))
    for r, f in enumerate([*range(14), *range(6)]):
        weights_FC[f] += selection.weights_RC[r]
    return weights_FC


def strengths_by_loops(selection: Selection) -> np.ndarray:
    strength_FC = np.zeros((14, 4))
    for r, f in enumerate([*range(14), *range(6)]):
        strength_FC[f] += abs(selection.weights_RC[r])
    return strength_FC


def test_own_filters_are_those_with_a_weight_for_the_class_strongest_first(
    sets: list[ClassSets], selection: Selection
) -> None:
    strength_FC, weights_FC = strengths_by_loops(selection), weights_by_loops(selection)
    assert [one.label for one in sets] == [0, 1, 2]
    for one in sets:
        own = sorted(np.flatnonzero(strength_FC[:, one.label]), key=lambda f: -strength_FC[f, one.label])
        assert one.order_K.tolist() == one.sets["own"][0].tolist() == own
        assert one.sets["for"][0].tolist() == [f for f in own if weights_FC[f, one.label] > 0]
        assert one.sets["against"][0].tolist() == [f for f in own if weights_FC[f, one.label] < 0]
        assert one.sets["kept"][0].tolist() == [f for f in range(14) if f not in own]
        assert list(one.sets) == list(KINDS)


def test_sets_have_as_many_of_each_layer(sets: list[ClassSets]) -> None:
    for one in sets:
        own = np.bincount(one.order_K >= 6, minlength=2).tolist()
        for kind in ("random", "least_relevant", "others"):
            assert all(np.bincount(some >= 6, minlength=2).tolist() == own for some in one.sets[kind]), kind
        assert all(len(one.sets[kind]) == (3 if "random" in kind else 1) for kind in KINDS)
        for drawn, kept in zip(one.sets["random"], one.sets["kept_random"], strict=True):
            assert sorted([*drawn, *kept]) == list(range(14))


def test_others_are_the_strongest_of_another_class_and_not_own_ones_as_long_as_there_are_others(
    sets: list[ClassSets], selection: Selection
) -> None:
    strength_FC = strengths_by_loops(selection)
    assert any(np.isin(range(6), one.order_K).sum() > 3 for one in sets)
    for one in sets:
        for layer in (range(6), range(6, 14)):
            own = [f for f in layer if f in one.order_K]
            free = [f for f in layer if f not in own]
            chosen, least = (
                [f for f in one.sets[kind][0].tolist() if f in layer] for kind in ("others", "least_relevant")
            )
            best = {f: max(np.delete(strength_FC[f], one.label)) for f in layer}
            count = min(len(own), len(free))
            taken = sorted((best[f] for f in set(chosen) - set(own)), reverse=True)
            assert np.allclose(taken, sorted((best[f] for f in free), reverse=True)[:count], rtol=1e-12)
            assert len(set(least) - set(own)) == count


def test_random_sets_of_classes_are_drawn_independently(problem: MuLassoProblem, filters: Filters) -> None:
    """Of classes with as many filters of each layer: else one class would get the filters of another."""
    (selection,) = select_each(problem, filters, [1e4], solver=spg)
    sets = class_sets(selection, filters, 1e4, Draws(8))
    counts = [np.bincount(one.order_K >= 6, minlength=2).tolist() for one in sets]
    pairs = [(a, b) for a in range(3) for b in range(a) if counts[a] == counts[b] and counts[a] < SIZES]
    for a, b in pairs:
        assert [set(one) for one in sets[a].random] != [set(one) for one in sets[b].random]


def test_filters_are_ranked_with_weights_added_up(selection: Selection, filters: Filters) -> None:
    weights_FC = weights_by_loops(selection)
    places = [place[:2] for place in filters.places]
    alone_K = np.arange(len(selection.order_K)) / 100
    rows = ranked_filters(places, selection.weights_RC, selection.order_K, ["a", "b", "c", "d"], alone_K=alone_K)
    assert [row["rank"] for row in rows] == list(range(1, len(selection.order_K) + 1))
    for row, f, alone in zip(rows, selection.order_K.tolist(), alone_K, strict=True):
        assert (row["layer"], row["channel"]) == (("0", f) if f < 6 else ("1", f - 6))
        assert np.isclose(row["strength"], selection.strength_F[f], rtol=1e-12)
        assert np.allclose([row[f"class {name}"] for name in "abc"], weights_FC[f, :3], rtol=1e-12)
        assert (row["alone"], "class d" in row) == (alone, False)
    assert [row["strength"] for row in rows] == sorted((row["strength"] for row in rows), reverse=True)
