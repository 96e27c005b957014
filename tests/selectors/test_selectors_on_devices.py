"""Scores are the same on a device as on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_evidence import evidence_of

from tipping.network import Filters
from tipping.selectors import SELECTORS, Budget, score

NAMES = [name for name in SELECTORS if name != "lrp"]
# of the largest: rounding decides the places of filters whose losses hardly differ, and which responses are the nearest
ROUNDING = {"greedy": 0.2, "mutual_information": 0.02}


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    evidence = replace(evidence_of("residual"), budget=Budget(images=10, single_images=10, permutations=2, removals=1))
    expected = score(name, evidence).values
    images = evidence.images.to(device)
    filters = Filters.of(evidence.filters.given.to(device), images[:1].images_NCHW, dense=True)
    scores = score(name, replace(evidence, filters=filters, images=images)).values
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=ROUNDING.get(name, 1e-4) * np.abs(expected).max())
