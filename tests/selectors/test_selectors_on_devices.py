"""Scores are the same on a device as on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_evidence import evidence_of

from tipping.network import Filters
from tipping.selectors import SELECTORS, Budget, score

FAMILIES = ("weights", "activations", "gradients", "attribution")
NAMES = [name for name, selector in SELECTORS.items() if selector.family in FAMILIES and name != "lrp"]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    evidence = replace(evidence_of("residual"), budget=Budget(images=10))
    expected = score(name, evidence).values
    images = evidence.images.to(device)
    filters = Filters.of(evidence.filters.given.to(device), images[:1].images_NCHW, dense=True)
    scores = score(name, replace(evidence, filters=filters, images=images)).values
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
