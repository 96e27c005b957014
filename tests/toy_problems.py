"""Toy problems of the mu-lasso, and how each solver is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tipping.mu_lasso import MuLassoProblem, Solution, homotopy, spg


def problem_of(responses: np.ndarray, labels: np.ndarray, device: torch.device | str = "cpu") -> MuLassoProblem:
    return MuLassoProblem.stream([(torch.as_tensor(responses, device=device), torch.as_tensor(labels, device=device))])


def responses_like(rng: np.random.Generator, images: int, sizes: list[int], dead: int = 0) -> np.ndarray:
    """Positive, collinear responses that sum to 1 in each layer, as real ones do; the first `dead` are zero."""
    layers = []
    for size in sizes:
        factors = rng.random((images, 3)) @ rng.random((3, size)) + 0.05 * rng.random((images, size))
        factors[:, :dead] = 0
        layers.append(factors / factors.sum(1, keepdims=True))
    return np.concatenate(layers, axis=1)


Solver = Callable[[MuLassoProblem, list[float]], Solution]


def follow(problem: MuLassoProblem, mu: list[float]) -> Solution:
    return homotopy(problem).solution(mu)


SOLVERS = pytest.mark.parametrize("solve", [spg, follow], ids=["spg", "homotopy"])
