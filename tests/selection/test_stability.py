"""Nogueira's index against its definition, and on responses that do or do not tell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from toy_problems import problem_of, responses_like

from tipping.selection import on_halves, stability


def test_the_index_is_the_correlation_of_selections_of_one_size(rng: np.random.Generator) -> None:
    """For selections of k among F, it is the mean over pairs of (r - k²/F) / (k - k²/F) with r in common."""
    chosen_MF = np.array([rng.permutation(30) < 8 for _ in range(6)])
    pairs = [(one & other).sum() for one, other in itertools.combinations(chosen_MF, 2)]
    assert stability(chosen_MF) == pytest.approx(np.mean([(r - 64 / 30) / (8 - 64 / 30) for r in pairs]))


def test_the_same_selection_each_time_has_1_and_random_ones_0(rng: np.random.Generator) -> None:
    assert stability(np.tile(np.arange(10) < 3, (5, 1))) == 1
    # standard error of the mean over 2,000 draws: under 0.01
    assert np.mean([stability(rng.random((5, 20)) < 0.4) for _ in range(2000)]) == pytest.approx(0, abs=0.03)
    assert np.isnan(stability(np.ones((3, 4), dtype=bool)))


def test_halves_of_telling_responses_select_the_same(rng: np.random.Generator) -> None:
    responses = responses_like(rng, images=4000, sizes=[12, 20])
    told = responses[:, [2, 15]] - responses[:, [2, 15]].mean(0)
    labels = np.eye(3)[np.column_stack([told / told.std(0), np.zeros(4000)]).argmax(1)]
    shuffled = rng.permutation(labels)

    def index(labels: np.ndarray) -> float:
        parts = [problem_of(responses[start::10], labels[start::10]) for start in range(10)]
        return stability(on_halves(parts, 8.0, np.arange(32), np.random.default_rng(0)))

    assert index(labels) > index(shuffled) + 0.2
