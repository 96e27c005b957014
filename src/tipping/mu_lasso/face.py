"""Exact minimisation with fixed signs on a support: over a face of the L1 ball, or its inside."""

from __future__ import annotations

import torch
from torch import Tensor

from tipping.mu_lasso.problem import MuLassoProblem

REFINEMENTS = 2


def minimize_on_face(problem: MuLassoProblem, weights: Tensor, mu_M1: Tensor, wanted_MC: Tensor) -> Tensor:
    """Weights (M, F, C) in which each wanted column is the minimum with its signs and support, if that is lower."""
    better = weights.clone()
    for m, c in wanted_MC.nonzero().tolist():
        better[m, :, c] = _walk(problem.gram_FF, problem.cross_FC[:, c], weights[m, :, c], mu_M1[m, 0])
    lower_MC = problem.objective(better) < problem.objective(weights)
    return torch.where(lower_MC.unsqueeze(-2), better, weights)


def _walk(gram_FF: Tensor, cross_F: Tensor, weights_F: Tensor, mu: Tensor) -> Tensor:
    """Walk to the minimum with these signs; a weight that reaches zero on the way leaves the support.

    The straight way to the minimum over a convex set never raises the objective.
    """
    weights_F = weights_F.clone()
    support = weights_F.nonzero()[:, 0]
    while len(support):
        now_S = weights_F[support]
        sign_S = now_S.sign()
        target_S = _minimum(gram_FF[support][:, support], cross_F[support], sign_S, mu)
        crossing_S = target_S * sign_S <= 0
        if not bool(crossing_S.any()):
            weights_F[support] = target_S
            break
        reach_S = torch.where(crossing_S, now_S / (now_S - target_S), torch.inf)
        weights_F[support] = now_S + reach_S.min() * (target_S - now_S)
        weights_F[support[reach_S.argmin()]] = 0
        support = weights_F.nonzero()[:, 0]
    return weights_F


def _minimum(gram_SS: Tensor, cross_S: Tensor, sign_S: Tensor, mu: Tensor) -> Tensor:
    """The minimum of ½wᵀGw − bᵀw subject to sᵀw ≤ mu.

    A ridge at the size of the rounding errors makes null directions of G harmless; refining the solution by its
    residual takes the ridge's effect out of the other directions.
    """
    ridge = torch.finfo(gram_SS.dtype).eps * len(gram_SS) * gram_SS.diagonal().sum()
    eye_SS = torch.eye(len(gram_SS), dtype=ridge.dtype, device=ridge.device)
    factor = torch.linalg.cholesky_ex(gram_SS + ridge * eye_SS).L  # a failure gives no lower objective: not taken
    right_S2 = torch.stack([cross_S, sign_S], 1)
    solution_S2 = torch.cholesky_solve(right_S2, factor)
    for _ in range(REFINEMENTS):
        solution_S2 = solution_S2 + torch.cholesky_solve(right_S2 - gram_SS @ solution_S2, factor)
    free_S, shift_S = solution_S2.unbind(1)
    excess = (sign_S @ free_S - mu).clamp(min=0)
    return free_S - excess / (sign_S @ shift_S) * shift_S
