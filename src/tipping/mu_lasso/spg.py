"""Solve the mu-lasso by spectral projected gradient with exact descents, all classes in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tipping.mu_lasso.active_set import descend
from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.projection import project_l1_ball
from tipping.mu_lasso.solution import TOLERANCE, Solution, certify, checked_mu, checked_tolerance, rounded
from tipping.mu_lasso.zeros import without_rounding

PHASE = 50  # gradient steps between two exact descents
LONGEST = 1e4  # length of a gradient step before projection, in units of mu: longer steps lose digits


def spg(
    problem: MuLassoProblem,
    mu: Sequence[float] | Tensor,
    *,
    tolerance: float | None = None,
    max_iterations: int = 20_000,
) -> Solution:
    """Solve the mu-lasso for every mu and class: exact descents and spectral projected gradient [birgin2000].

    The smallest mu starts from zero, each larger mu from the solution at the mu before. `descend` finds the exact
    supports of all classes. Where rounding or degenerate filters stop a descent short of the tolerance, gradient steps
    and descents alternate. Columns at or under the tolerance leave the batch.

    Args:
        problem: F filters, C classes, on any device; non-negative or not.
        mu: M bounds on ‖w_c‖₁, each over 0, in any order.
        tolerance: the relative duality gap at which a column is done; by default 1e-8 in float64, 1e-3 in float32.
        max_iterations: the number of gradient steps at one mu after which unfinished columns are returned as they are,
            uncertified.

    Returns:
        the weights (M, F, C) with their certificates.

    Raises:
        ValueError: mu, tolerance or max_iterations is out of its range.
    """
    mu_M, tolerance = checked_mu(mu, problem), checked_tolerance(tolerance, problem)
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    exact = problem.to(torch.float64)
    inner = tolerance if problem.gram_FF.dtype == torch.float64 else TOLERANCE[torch.float64]
    weights_MFC = exact.cross_FC.new_zeros(len(mu_M), *exact.cross_FC.shape)
    iterations_MC = torch.zeros_like(weights_MFC[:, 0], dtype=torch.long)
    reasons: dict[tuple[int, int], str] = {}
    start_FC = torch.zeros_like(exact.cross_FC)
    for m in mu_M.argsort().tolist():
        start_FC, iterations_MC[m], unfinished = _solve(exact, start_FC, mu_M[m], inner, max_iterations)
        weights_MFC[m] = start_FC = without_rounding(exact, start_FC, mu_M[m])
        reasons |= {(m, c): reason for c, reason in unfinished.items()}
    del exact  # which may be as large as the problem; the certificates take another
    return certify(problem, rounded(weights_MFC, problem), mu_M, tolerance, iterations_MC, reasons)


def _solve(
    problem: MuLassoProblem, start_FC: Tensor, mu: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Return weights (F, C) at one mu, gradient steps (C,), and the reason why each unfinished class stopped."""
    weights_FC = start_FC.clone()
    todo = problem.cross_FC.any(0).nonzero()[:, 0]  # a class without images has the weights 0
    iterations_C = torch.zeros_like(weights_FC[0], dtype=torch.long)
    taken, steps = 0, 0
    reasons: dict[int, str] = {}
    while len(todo):
        steps = min(steps, max_iterations - taken)
        taken += steps
        iterations_C[todo] = taken
        columns, before_FB = problem.classes(todo), weights_FC[:, todo]
        after_FB = descend(columns, gradient_steps(columns, before_FB, mu, steps), mu)
        lower_B = columns.change(before_FB, after_FB) < 0
        weights_FC[:, todo] = torch.where(lower_B, after_FB, before_FB)
        open_B = columns.relative_gap(weights_FC[:, todo], mu) > tolerance
        stalled_B = open_B & ~lower_B & (steps > 0)
        reasons |= dict.fromkeys(todo[stalled_B].tolist(), "rounding allows no lower objective")
        todo = todo[open_B & ~stalled_B]
        if taken == max_iterations:
            reasons |= dict.fromkeys(todo.tolist(), f"max_iterations={taken} gradient steps were taken")
            break
        steps = PHASE
    return weights_FC, iterations_C, reasons


def gradient_steps(problem: MuLassoProblem, weights_FC: Tensor, mu: Tensor, steps: int) -> Tensor:
    """Return the weights (F, C) after some steps of spectral projected gradient in the ball of radius mu [birgin2000].

    If weights must be at least 0, it is the part of the ball where they are.

    Each step has Barzilai-Borwein length and is followed by a line search, which is exact since f is quadratic.
    """
    tiny = torch.finfo(weights_FC.dtype).tiny
    gradient_FC = problem.gradient(weights_FC)
    step_C = mu / gradient_FC.abs().amax(0).clamp(min=tiny)
    for _ in range(steps):
        direction_FC = project_l1_ball(weights_FC - step_C * gradient_FC, mu, problem.positive) - weights_FC
        product_FC = problem.gram_FF @ direction_FC
        slope_C = (gradient_FC * direction_FC).sum(0)  # f(w + t d) = f(w) + t slope + t² curvature / 2
        curvature_C = (direction_FC * product_FC).sum(0).clamp(min=tiny)
        length_C = (-slope_C / curvature_C).clamp(0, 1)
        weights_FC = weights_FC + length_C * direction_FC
        gradient_FC = gradient_FC + length_C * product_FC
        longest_C = LONGEST * mu / gradient_FC.abs().amax(0).clamp(min=tiny)
        step_C = torch.minimum(direction_FC.square().sum(0) / curvature_C, longest_C)
    return weights_FC
