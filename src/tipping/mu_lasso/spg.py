"""Spectral projected gradient for the mu-lasso, all columns in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tipping.mu_lasso.face import minimize_on_face
from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.projection import project_l1_ball

MEMORY = 10  # objectives the non-monotone line search looks back on [birgin2000]
SUFFICIENT = 1e-4  # share of the predicted decrease that a full step must reach [birgin2000]
EXACT_EVERY = 50  # iterations between two exact solves on the support
LONGEST = 1e4  # of a gradient step before projection, in units of mu: longer ones lose digits


@dataclass(frozen=True)
class Solution:
    """Weights of every (mu, class) column, each with its certificate.

    Attributes:
        weights_MFC: feasible weights, with exact zeros.
        relative_gap_MC: relative duality gap: how far at most the objective is from its minimum.
        certified_MC: whether the relative gap is at or under the tolerance.
        iterations: gradient steps taken.
    """

    weights_MFC: Tensor
    relative_gap_MC: Tensor
    certified_MC: Tensor
    iterations: int


def spg(
    problem: MuLassoProblem, mu: Sequence[float], *, tolerance: float = 1e-8, max_iterations: int = 20_000
) -> Solution:
    """Solve the mu-lasso for every mu and class: spectral projected gradient [birgin2000].

    Barzilai-Borwein steps with a non-monotone line search, which falls back on the exact minimum along the
    direction, since f is quadratic. Every few iterations each column is solved exactly on its support and signs.

    Args:
        problem: F filters, C classes, on any device.
        mu: M bounds on ‖w_c‖₁, each over 0.
        tolerance: relative duality gap at which a column is done.
        max_iterations: gradient steps after which the columns left are returned as they are, uncertified.

    Raises:
        ValueError: a mu is not finite and over 0.
    """
    gram_FF = problem.gram_FF
    tiny = torch.finfo(gram_FF.dtype).tiny
    mu_M1 = torch.as_tensor(mu, dtype=gram_FF.dtype, device=gram_FF.device).reshape(-1, 1)
    if not bool((mu_M1.isfinite() & (mu_M1 > 0)).all()):
        raise ValueError(f"mu must be finite and over 0, got {mu}")
    weights = problem.cross_FC.new_zeros(len(mu_M1), *problem.cross_FC.shape)
    gradient, step, past = _start(problem, weights)
    for iteration in range(max_iterations + 1):
        if iteration % EXACT_EVERY == 0 or iteration == max_iterations:
            weights = minimize_on_face(problem, weights, mu_M1, problem.relative_gap(weights, mu_M1) > tolerance)
            gap = problem.relative_gap(weights, mu_M1)
            if iteration == max_iterations or bool((gap <= tolerance).all()):
                break
            gradient, step, past = _start(problem, weights)
        direction = project_l1_ball(weights - step.unsqueeze(-2) * gradient, mu_M1) - weights
        product = gram_FF @ direction
        slope = (gradient * direction).sum(-2)  # f(w + t d) = f(w) + t slope + t² curvature / 2
        curvature = (direction * product).sum(-2)
        full_step = past[0] + slope + curvature / 2 <= past.amax(0) + SUFFICIENT * slope
        exact = (-slope / curvature.clamp(min=tiny)).clamp(0, 1)
        length = torch.where(full_step, 1, exact)
        weights = weights + length.unsqueeze(-2) * direction
        gradient = gradient + length.unsqueeze(-2) * product
        objective = past[0] + length * slope + length.square() * curvature / 2
        past = torch.cat([objective[None], past[: MEMORY - 1]])
        longest = LONGEST * mu_M1 / gradient.abs().amax(-2).clamp(min=tiny)
        step = torch.minimum(direction.square().sum(-2) / curvature.clamp(min=tiny), longest)  # Barzilai-Borwein
    return Solution(weights, gap, gap <= tolerance, iteration)


def _start(problem: MuLassoProblem, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient, first step length and objectives looked back on, at the given weights."""
    gradient = problem.gradient(weights)
    step = 1 / gradient.abs().amax(-2).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient, step, problem.objective(weights)[None]
