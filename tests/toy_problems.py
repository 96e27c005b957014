"""Toy problems of the mu-lasso, and how each solver is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

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


def degenerate(
    seed: int, images: int, filters: int, classes: int, collinear: bool, copies: int, mixtures: int, dead: int
) -> tuple[MuLassoProblem, MuLassoProblem]:
    """A problem with copies and convex mixtures of its filters and dead ones, and the same without these."""
    rng = np.random.default_rng(seed)
    # nearly of rank 3 and summing to 1, or full of ties
    plain = responses_like(rng, images, [filters]) if collinear else 1.0 * rng.integers(0, 3, (images, filters))
    labels = np.eye(classes)[rng.integers(classes, size=images)]
    copied = plain[:, rng.integers(filters, size=copies)]
    mixed = plain @ rng.dirichlet(np.ones(filters), size=mixtures).T
    return problem_of(np.concatenate([plain, copied, mixed, np.zeros((images, dead))], 1), labels), problem_of(
        plain, labels
    )


degenerate_problems = st.builds(
    degenerate,
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(2, 40),
    filters=st.integers(1, 15),
    classes=st.integers(1, 3),
    collinear=st.booleans(),
    copies=st.integers(0, 3),
    mixtures=st.integers(0, 2),
    dead=st.integers(0, 2),
)


Solver = Callable[[MuLassoProblem, list[float]], Solution]


def follow(problem: MuLassoProblem, mu: list[float]) -> Solution:
    return homotopy(problem).solution(mu)


SOLVERS = pytest.mark.parametrize("solve", [spg, follow], ids=["spg", "homotopy"])
