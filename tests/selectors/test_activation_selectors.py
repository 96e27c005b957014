"""Selectors by activations against numpy, map by map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from strangers import state_of
from toy_evidence import BUILDS, evidence_of, maps_of

from tipping.selection import mean_activations
from tipping.selectors import SELECTORS, score

NAMES = [name for name, selector in SELECTORS.items() if selector.family == "activations"]
BY_MAP: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda maps: maps.mean(dtype=float),
    "apoz": lambda maps: np.count_nonzero(maps) / maps.size,
    "hrank": lambda maps: np.linalg.matrix_rank(maps) if maps.ndim == 2 else int(maps != 0),
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", BY_MAP)
def test_scores_are_means_over_maps(name: str, build: str) -> None:
    evidence = evidence_of(build)
    expected = [
        np.mean([[BY_MAP[name](one) for one in maps] for maps in layer], axis=0) for layer in maps_of(evidence).values()
    ]
    scores = score(name, evidence).values
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=1e-5, atol=1e-7)
    assert len(np.unique(scores)) > 1


def test_the_mean_is_that_which_replaces_ablated_filters() -> None:
    evidence = evidence_of("residual")
    means_F = mean_activations(evidence.filters, evidence.images).numpy()
    np.testing.assert_allclose(score("mean", evidence).values, means_F, rtol=1e-6)


def test_ranks_are_those_of_500_images() -> None:
    evidence = evidence_of("chain")
    many = replace(evidence, images=evidence.images[np.arange(1100) % 70])
    chosen = many.images.spread(500)
    np.testing.assert_array_equal(score("hrank", many).values, score("hrank", replace(evidence, images=chosen)).values)
    assert not np.array_equal(score("hrank", many).values, score("hrank", evidence).values)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_unchanged(name: str) -> None:
    evidence = evidence_of("residual")
    model = evidence.filters.given.train()
    before = state_of(model)
    score(name, evidence)
    assert state_of(model) == before
