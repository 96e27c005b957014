"""Exact zeros: weights that rounding alone keeps from zero leave the support.

Where filters tie, a filter may belong to a face though its weight there is zero; solving for the face leaves it a
weight of rounding, which would count as relevant. The names of dimensions are those of `active_set`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tipping.mu_lasso.active_set import BINDING, chunks, factor, move_to_minimum, restrict
from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.projection import project_l1_ball

SMALL = 1e-6  # share of the largest weight, both times ‖x_f‖, up to which a weight may be rounding
SLACK = 8  # multiple of the rounding errors of first order that a weight of zero may have
GAP = 1e-10  # relative duality gap that a filter may not cause by leaving


def without_rounding(problem: MuLassoProblem, weights_FC: Tensor, mu: Tensor) -> Tensor:
    """Return weights (F, C) with exact zeros: those that are zero up to rounding leave, the least certain first.

    A weight is zero up to rounding if rounding errors of the solution of its face reach it. The other weights move to
    the minimum of the smaller face. If that widens the duality gap, the filter stays after all. A small weight that
    the errors do not reach stays, however small.

    Args:
        weights_FC: weights in the ball, each column at the minimum of its face.
        mu: the radius of the ball, one for all columns or (C,).
    """
    weights_BF, mu_B = weights_FC.T.clone(), mu.expand(weights_FC.shape[1])
    settled_BF = _large(problem, weights_BF)
    todo = (~settled_BF).any(1).nonzero()[:, 0]
    while len(todo):
        doubtful_B = torch.zeros_like(todo, dtype=torch.bool)
        for part in chunks(weights_BF[todo] != 0):
            rows = todo[part]
            f_B, doubtful_B[part] = _least_certain(
                problem.classes(rows), weights_BF[rows], mu_B[rows], settled_BF[rows]
            )
            rows, f_B = rows[doubtful_B[part]], f_B[doubtful_B[part]]
            if len(rows):
                settled_BF[rows, f_B] = True
                weights_BF[rows] = _left_out(problem.classes(rows), weights_BF[rows], mu_B[rows], f_B)
        todo = todo[doubtful_B]
        todo = todo[(~settled_BF[todo] & (weights_BF[todo] != 0)).any(1)]
    return weights_BF.T.contiguous()


def _large(problem: MuLassoProblem, weights_BF: Tensor) -> Tensor:
    """Return whether each weight is zero, or too large to be rounding: boolean (B, F)."""
    effect_BF = weights_BF.abs() * problem.gram_FF.diagonal().sqrt()
    return (effect_BF == 0) | (effect_BF > SMALL * effect_BF.amax(1, keepdim=True))


def _least_certain(
    problem: MuLassoProblem, weights_BF: Tensor, mu_B: Tensor, settled_BF: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the weight of each column that is least certain not to be zero, of those that are not settled.

    Returns:
        f_B: the filter.
        doubtful_B: whether its weight is zero up to rounding.
    """
    filter_BK, real_BK, gram_BKK = restrict(problem.gram_FF, weights_BF)
    cross_BK, now_BK = (rows_BF.gather(1, filter_BK) * real_BK for rows_BF in (problem.cross_FC.T, weights_BF))
    error_BK = _errors(gram_BKK, cross_BK, now_BK, mu_B)
    doubtful_BK = real_BK & ~settled_BF.gather(1, filter_BK) & (now_BK.abs() <= error_BK)
    least_B1 = torch.where(doubtful_BK, now_BK.abs() / error_BK, torch.inf).argmin(1, keepdim=True)
    return filter_BK.gather(1, least_B1)[:, 0], doubtful_BK.any(1)


def _errors(gram_BKK: Tensor, cross_BK: Tensor, now_BK: Tensor, mu_B: Tensor) -> Tensor:
    """Return the rounding errors of the weights of faces: (B, K).

    With P the inverse of G on the face, along the bound where it binds, errors e of the gradient give errors P e of the
    weights. To first order |e| ≤ ε (|G| |w| + |q|), as if each number of the problem were rounded once [higham2002].
    """
    sign_BK, eps = now_BK.sign(), torch.finfo(gram_BKK.dtype).eps
    inverse_BKK = torch.cholesky_inverse(factor(gram_BKK))
    along_BK = (inverse_BKK @ sign_BK.unsqueeze(2)).squeeze(2)
    binding_B = now_BK.abs().sum(1) >= BINDING * mu_B
    share_BK = along_BK * (binding_B / (sign_BK * along_BK).sum(1))[:, None]  # of mu, that a filter takes
    inverse_BKK -= share_BK.unsqueeze(2) * along_BK.unsqueeze(1)
    reach_BK = (gram_BKK.abs() @ now_BK.abs().unsqueeze(2)).squeeze(2) + cross_BK.abs()
    error_BK = (inverse_BKK.abs() @ reach_BK.unsqueeze(2)).squeeze(2) + share_BK.abs() * mu_B[:, None]
    return (SLACK * eps * error_BK).nan_to_num(0)  # a failed factorisation tells nothing


def _left_out(problem: MuLassoProblem, weights_BF: Tensor, mu_B: Tensor, f_B: Tensor) -> Tensor:
    """Return weights (B, F) in which filter f of each column has left, unchanged where that widens the duality gap."""
    rest_BF = weights_BF.scatter(1, f_B[:, None], 0)
    filter_BK, real_BK, gram_BKK = restrict(problem.gram_FF, rest_BF)
    now_BK, cross_BK = (rows_BF.gather(1, filter_BK) * real_BK for rows_BF in (rest_BF, problem.cross_FC.T))
    norm_B, pull_BK = now_BK.abs().sum(1), cross_BK - (gram_BKK @ now_BK.unsqueeze(2)).squeeze(2)
    binding_B = norm_B >= BINDING * mu_B
    target_BK = now_BK + move_to_minimum(gram_BKK, pull_BK, now_BK.sign(), mu_B - norm_B, binding_B, 0)
    target_BK = torch.where(target_BK * now_BK > 0, target_BK, 0)
    target_FB = project_l1_ball(torch.zeros_like(weights_BF).scatter(1, filter_BK, target_BK).T, mu_B)
    before_B, moved_B, unmoved_B = (
        problem.relative_gap(weights_FB, mu_B) for weights_FB in (weights_BF.T, target_FB, rest_BF.T)
    )
    better_BF = torch.where((moved_B <= unmoved_B)[:, None], target_FB.T, rest_BF)  # moves err along null directions
    leaves_B = torch.fmin(moved_B, unmoved_B) <= before_B.clamp(min=GAP)
    return torch.where(leaves_B[:, None], better_BF, weights_BF)
