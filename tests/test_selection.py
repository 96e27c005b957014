from __future__ import annotations

import numpy as np
import torch
from conftest import problem_of, responses_like

from tipping.selection import masses, relevant, strongest_first


def test_relevant_filters_have_a_weight_for_some_class_strongest_first() -> None:
    weights_FC = np.zeros((5, 2))
    weights_FC[1], weights_FC[2, 1], weights_FC[4, 0] = (-2, 2), -3, 1e-12
    assert relevant(weights_FC).tolist() == [False, True, True, False, True]
    assert strongest_first(weights_FC).tolist() == [1, 2, 4]
    assert strongest_first(np.zeros((5, 2))).tolist() == []


def test_mass_is_the_sum_of_a_filter_s_responses(rng: np.random.Generator, device: torch.device) -> None:
    responses = responses_like(rng, images=50, sizes=[4, 6], dead=1)
    responses[7, :4] = 0  # an image to which a layer gives nothing
    problem = problem_of(responses, np.ones((50, 1)), device)
    assert np.allclose(masses(problem, np.repeat([0, 1], [4, 6])), responses.sum(0), rtol=1e-12)
