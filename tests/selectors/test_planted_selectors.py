"""Selectors tell filters that a network uses from those that it does not: on a network where these are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from toys import filters_of

from tipping import data, planted
from tipping.network import build
from tipping.planted import CLASSES, PLANTED, STEM, PlantedNet
from tipping.selectors import Budget, Evidence, score

FILTERS = 87


@cache
def known(seed: int) -> tuple[Evidence, np.ndarray, int]:
    """The evidence of a planted network, the filters of its classes' patterns, and the one that carries the image."""
    dataset = data.load("planted")
    model = build({"_target_": "tipping.planted.PlantedNet"}, planted.IMAGE_SHAPE, CLASSES + 1, seed).eval()
    assert isinstance(model, PlantedNet)
    budget = Budget(images=150, permutations=6, removals=40)
    evidence = Evidence(filters_of(model), dataset.train, mu=4, seed=seed, budget=budget)
    return evidence, STEM + np.array(model.planted), model.carrier


def recall(scores_F: np.ndarray, used: np.ndarray) -> float:
    """The share of the used filters among as many of the largest scores; ties fall at random."""
    first = np.lexsort((np.random.default_rng(0).random(len(scores_F)), -scores_F))[: len(used)]
    return float(np.isin(used, first).mean())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["single", "greedy"])
def test_ablations_find_all_that_is_used(name: str, seed: int) -> None:
    evidence, patterns, carrier = known(seed)
    scores_F = score(name, evidence).values
    assert recall(scores_F, np.append(patterns, carrier)) == 1
    assert scores_F.argmax() == carrier, "without it nothing is seen"


def test_shapley_values_find_what_is_used() -> None:
    evidence, patterns, carrier = known(0)
    scores = score("shapley", evidence)
    assert recall(scores.values, np.append(patterns, carrier)) >= 0.95
    unused = np.setdiff1d(np.arange(FILTERS), [*patterns, carrier])
    assert not scores.values[unused].any()


@pytest.mark.parametrize("name", ["mu_lasso", "mu_lasso_path", "mu_lasso_contribution", "mu_lasso_positive", "nnls"])
def test_the_mu_lasso_and_its_kin_find_what_is_encoded(name: str) -> None:
    """The filters of the patterns; not the one that passes the image on, which responds alike to all classes."""
    evidence, patterns, carrier = known(0)
    scores_F = score(name, evidence).overall_F
    assert recall(scores_F, patterns) == 1
    assert (scores_F > scores_F[carrier]).sum() >= PLANTED


@pytest.mark.parametrize("name", ["anova", "class_selectivity", "group_lasso", "l1_logistic"])
def test_probes_find_what_is_encoded(name: str) -> None:
    evidence, patterns, _ = known(0)
    assert recall(score(name, evidence).overall_F, patterns) >= 0.95


def test_a_random_order_finds_its_share() -> None:
    """The mean of 500 draws; its standard deviation is 0.004."""
    _, patterns, _ = known(0)
    rng = np.random.default_rng(0)
    found = np.mean([recall(rng.random(FILTERS), patterns) for _ in range(500)])
    assert found == pytest.approx(PLANTED / FILTERS, abs=0.015)


def test_the_mean_response_does_not_tell_which_are_used() -> None:
    evidence, patterns, _ = known(0)
    assert recall(score("share", evidence).values, patterns) <= 0.2
