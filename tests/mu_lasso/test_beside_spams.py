"""The non-negative mu-lasso beside SPAMS, whose LARS the lab's releases call with `mode=0, pos=True`."""

from __future__ import annotations

import numpy as np
import pytest
from spams_here import spams
from toy_problems import SOLVERS, Solver, problem_of, responses_like


@SOLVERS
@pytest.mark.parametrize("mu", [0.2, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_equal_to_spams(rng: np.random.Generator, solve: Solver, mu: float, size: float) -> None:
    """Also of responses that are large, as raw norms are."""
    responses = size * responses_like(rng, 400, sizes=[12, 20, 15], dead=2)
    scores = responses @ np.abs(rng.normal(size=(47, 4)))
    labels = np.eye(4)[(scores / scores.mean(0) + 0.01 * rng.random(scores.shape)).argmax(1)]
    data = np.asfortranarray(labels), np.asfortranarray(responses)
    expected = spams.lasso(data[0], D=data[1], mode=0, lambda1=mu / size, pos=True, numThreads=1).toarray()
    solution = solve(problem_of(responses, labels).non_negative(), [mu / size])
    assert solution.certified_MC.all()
    # SPAMS ends its path a little before λ = 0
    assert np.allclose(solution.weights_MFC[0], expected, rtol=0, atol=1e-8 * max(1 / size, expected.sum(0).max()))
