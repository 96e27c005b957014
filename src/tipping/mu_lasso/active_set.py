"""Exact steps for the mu-lasso: from face to face of the L1 ball, all columns in lockstep.

A face is a support with signs: a row of signs (F,), zero off the support. On a face the problem is least squares with
one linear bound, solved by a Cholesky factorisation. A column (mu, class) of weights is a row of the tensors in this
module: B columns, F filters, and K, the size of the largest support.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.projection import project_l1_ball

LENGTHS = (1, 0.5, 0.1)  # steps to try, as shares of the way to a face's minimum
ENTRIES = 8  # filters that enter a support at first; doubled after a success, cut to a quarter after a failure
ROUNDS = 1000  # faces visited, at most
FLAT = 2.5e-9  # mu‖g‖∞ on a support, in units of max(f, 1), under which f is flat there, up to rounding
BINDING = 1 - 1e-9  # share of mu from which ‖w‖₁ counts as mu
SLACK = 8  # excess of |g_f| over λ that counts as rounding, in units of the rounding error of g
REFINEMENTS = 1  # refinements of a solution by its residual
DAMPING = 1e-8  # ridge, relative to the Gram diagonal, where a target runs off along null directions
CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**31}  # rows of the Gram matrix held at once


def descend(problem: MuLassoProblem, weights_FC: Tensor, mu: Tensor) -> Tensor:
    """Minimise the objective in the L1 ball, or in its part with w ≥ 0, by exact steps from face to face: (F, C).

    The objective of the result is lower than that of `weights_FC` or equal to it. It is the minimum, unless rounding or
    `ROUNDS` end the descent; the caller has to certify it.

    This is an active-set method that changes many filters at once. Each round moves to the minimum of the column's
    face, or as far towards the minimum as the objective falls. Weights that would change sign become zero, and the
    others are projected back onto the ball. From a face's minimum, the method moves on to a larger face: the filters
    whose gradient most exceeds the gradient on the support enter. If a single weight is dropped or a single filter
    enters, the objective always falls [nocedal2006]; larger changes are kept only if the objective falls.

    Args:
        weights_FC: the start, in the ball.
        mu: the radius of the ball, one for all columns or (C,).
    """
    weights_BF, mu_B = weights_FC.T.clone(), mu.expand(weights_FC.shape[1])
    settled_B = (weights_BF == 0).all(1)  # at the minimum of its face
    entries_B = torch.full_like(settled_B, ENTRIES, dtype=torch.long)
    todo = torch.arange(len(weights_BF), device=weights_BF.device)
    for _ in range(ROUNDS):
        sign_BF, going_B = weights_BF[todo].sign(), ~settled_B[todo]
        ready = todo[~going_B]
        entering_BF = _entering(problem.classes(ready), weights_BF[ready], mu_B[ready], entries_B[ready])
        sign_BF[~going_B] += entering_BF
        going_B[~going_B] = (entering_BF != 0).any(1)
        todo, sign_BF = todo[going_B], sign_BF[going_B]
        if not len(todo):
            break
        for part in chunks(sign_BF != 0):
            columns = todo[part]
            lower_B, reached_B, tried_B = torch.zeros_like(settled_B[columns]), settled_B[columns], entries_B[columns]
            for damping in (0, DAMPING):
                if bool(lower_B.all()):
                    break
                again = (~lower_B).nonzero()[:, 0]
                rows = columns[again]
                weights_BF[rows], change_B, reached_B[again] = _towards_minimum(
                    problem.classes(rows), weights_BF[rows], sign_BF[part][again], mu_B[rows], damping
                )
                lower_B[again] = change_B < 0
            grown_B, cut_B = lower_B & reached_B, ~lower_B & settled_B[columns]
            more_B = (2 * tried_B).clamp(max=weights_BF.shape[1])
            fewer_B = (tried_B // 4).clamp(min=1) * (tried_B > 1)
            entries_B[columns] = torch.where(grown_B, more_B, torch.where(cut_B, fewer_B, tried_B))
            settled_B[columns] = reached_B | ~lower_B | (weights_BF[columns] == 0).all(1)
    return weights_BF.T.contiguous()


def move_to_minimum(
    gram_BKK: Tensor, pull_BK: Tensor, sign_BK: Tensor, room_B: Tensor, binding_B: Tensor, damping: float
) -> Tensor:
    """Find the move d that minimises ½dᵀGd − pᵀd subject to sᵀd ≤ room, for each of B faces: (B, K).

    A ridge of the size of rounding errors, relative to the diagonal, makes null directions of G harmless. Refining the
    solution by its residual removes the ridge's effect from the other directions. At the minimum p − G d = λ s with
    λ ≥ 0, or λ = 0 where there is room. Where the bound is binding, p is split into λ₀ s and a rest; near the minimum
    the rest vanishes, and all rounding with it.

    A null direction along which sᵀd falls frees any amount of the bound; rounding then decides how far the move goes
    along this direction. A larger ridge keeps the move short.

    Args:
        gram_BKK: G of each face.
        pull_BK: p, the negative gradient.
        sign_BK: s, the signs of the face; 0 where padded.
        room_B: mu − ‖w‖₁.
        binding_B: whether ‖w‖₁ counts as mu.
        damping: the larger ridge, relative to the diagonal; 0 for none.
    """
    factor_BKK = factor(gram_BKK, damping)  # after a failure the caller sees no lower objective
    multiplier_B = (pull_BK * sign_BK).sum(1) / sign_BK.abs().sum(1) * binding_B
    multiplier_B1 = multiplier_B.clamp(min=0)[:, None]
    right_BK2 = torch.stack([pull_BK - multiplier_B1 * sign_BK, sign_BK], 2)
    solution_BK2 = torch.cholesky_solve(right_BK2, factor_BKK)
    for _ in range(0 if damping else REFINEMENTS):
        solution_BK2 = solution_BK2 + torch.cholesky_solve(right_BK2 - gram_BKK @ solution_BK2, factor_BKK)
    rest_BK, along_BK = solution_BK2.unbind(2)
    tiny = torch.finfo(gram_BKK.dtype).tiny
    decrease_B = (room_B - (sign_BK * rest_BK).sum(1)) / (sign_BK * along_BK).sum(1).clamp(min=tiny)  # λ₀ − λ
    return rest_BK + torch.minimum(decrease_B[:, None], multiplier_B1) * along_BK


def factor(gram_BKK: Tensor, damping: float = 0) -> Tensor:
    """Return the Cholesky factor of G of each face, with a ridge relative to the diagonal: (B, K, K).

    Args:
        damping: the ridge; 0 for one of the size of rounding errors.
    """
    ridged_BKK = gram_BKK.clone()
    ridge = damping or torch.finfo(gram_BKK.dtype).eps * gram_BKK.shape[1]
    ridged_BKK.diagonal(dim1=1, dim2=2).mul_(1 + ridge)
    return torch.linalg.cholesky_ex(ridged_BKK).L


def restrict(gram_FF: Tensor, face_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Gram matrix on the support of each face.

    Returns:
        filter_BK: the filters of each support, in order, then other filters as padding.
        real_BK: false where padded.
        gram_BKK: the Gram matrix on each support; the identity where padded.
    """
    support_BF = face_BF != 0
    largest = int(support_BF.sum(1).max())
    filter_BK = support_BF.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :largest]
    real_BK = support_BF.gather(1, filter_BK)
    gram_BKK = gram_FF[filter_BK].gather(2, filter_BK.unsqueeze(1).expand(-1, largest, -1))
    if not bool(real_BK.all()):
        gram_BKK *= real_BK.unsqueeze(1) & real_BK.unsqueeze(2)
        gram_BKK.diagonal(dim1=1, dim2=2).add_(~real_BK)
    return filter_BK, real_BK, gram_BKK


def chunks(support_BF: Tensor) -> Iterator[Tensor]:
    """Yield the indices of columns in groups, whose rows of the Gram matrix fit in memory together.

    Columns of a group have supports of similar size.
    """
    sizes_B, order_B = support_BF.sum(1).sort()
    limit = CHUNK_BYTES["cuda" if support_BF.is_cuda else "cpu"] // 8 // support_BF.shape[1]
    start = 0
    sizes = sizes_B.tolist()
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or (end + 1 - start) * sizes[end] > limit:
            yield order_B[start:end]
            start = end


def _entering(problem: MuLassoProblem, weights_BF: Tensor, mu_B: Tensor, entries_B: Tensor) -> Tensor:
    """Return the signs of the filters that enter each column's support, 0 for all others: (B, F).

    The filters whose pull most exceeds λ enter, at most `entries_B` in each column. The multiplier λ of the bound is
    |g| on the support where ‖w‖₁ = mu, and 0 otherwise.
    """
    gram_FF, cross_BF = problem.gram_FF, problem.cross_FC.T
    pull_BF = cross_BF - weights_BF @ gram_FF  # −g
    sign_BF = weights_BF.sign()
    binding_B = weights_BF.abs().sum(1) >= BINDING * mu_B
    multiplier_B = binding_B * (pull_BF * sign_BF).sum(1) / sign_BF.abs().sum(1).clamp(min=1)
    reach_B = weights_BF.abs().sum(1) * gram_FF.diagonal().max() + cross_BF.abs().amax(1)
    rounding_B = SLACK * torch.finfo(gram_FF.dtype).eps * (multiplier_B + reach_B)
    excess_BF = (problem.pull(-pull_BF) - (multiplier_B + rounding_B)[:, None]) * (sign_BF == 0)
    most = min(int(entries_B.max()), excess_BF.shape[1]) if len(entries_B) else 0
    excess_BE, filter_BE = excess_BF.topk(most, dim=1)
    enters_BE = (excess_BE > 0) & (torch.arange(most, device=entries_B.device) < entries_B[:, None])
    return torch.zeros_like(sign_BF).scatter(1, filter_BE, pull_BF.gather(1, filter_BE).sign() * enters_BE)


def _towards_minimum(
    problem: MuLassoProblem, weights_BF: Tensor, sign_BF: Tensor, mu_B: Tensor, damping: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Move each column once towards the minimum of its face.

    Returns:
        weights_BF: the best of several points on the way to the face's minimum; unchanged where no point is lower.
        change_B: the change of the objective at the best point; at least 0 where no point is lower.
        reached_B: whether the face's minimum is reached: it has the face's signs, or lies lower by rounding alone.
    """
    filter_BK, real_BK, gram_BKK = restrict(problem.gram_FF, sign_BF)
    rows = (problem.cross_FC.T, sign_BF, weights_BF)
    cross_BK, sign_BK, now_BK = (row_BF.gather(1, filter_BK) * real_BK for row_BF in rows)
    pull_BK = cross_BK - (gram_BKK @ now_BK.unsqueeze(2)).squeeze(2)
    norm_B = now_BK.abs().sum(1)
    binding_B = norm_B >= BINDING * mu_B
    target_BK = now_BK + move_to_minimum(gram_BKK, pull_BK, sign_BK, mu_B - norm_B, binding_B, damping)
    crossing_BK = target_BK * sign_BK < 0
    points_BKT = _on_the_way(now_BK, target_BK, sign_BK, crossing_BK, mu_B)
    move_BKT = points_BKT - now_BK.unsqueeze(2)
    change_BT = (move_BKT * (gram_BKK @ move_BKT / 2 - pull_BK.unsqueeze(2))).sum(1).nan_to_num(torch.inf)
    inside_B = ~crossing_BK.any(1)
    best_B = torch.where(inside_B, 0, change_BT.argmin(1))  # the first point is the minimum itself
    objective_B = (problem.label_sq_C - (now_BK * (cross_BK + pull_BK)).sum(1)) / 2
    flat_B = mu_B * pull_BK.abs().amax(1) <= FLAT * objective_B.clamp(min=1)
    change_B = change_BT.take_along_dim(best_B[:, None], 1)[:, 0]
    best_BK = points_BKT.take_along_dim(best_B[:, None, None], 2).squeeze(2)
    moved_BF = torch.zeros_like(weights_BF).scatter(1, filter_BK, best_BK)
    return torch.where(change_B[:, None] < 0, moved_BF, weights_BF), change_B, (inside_B & (damping == 0)) | flat_B


def _on_the_way(now_BK: Tensor, target_BK: Tensor, sign_BK: Tensor, crossing_BK: Tensor, mu_B: Tensor) -> Tensor:
    """Return T points in the ball on the way to a face's minimum; weights of another sign are 0: (B, K, T).

    The last point lies exactly where the first weight reaches zero.
    """
    reach_BK = torch.where(crossing_BK & (now_BK != 0), now_BK / (now_BK - target_BK), torch.inf)
    reach_B, first_B = reach_BK.min(1)
    lengths_BT = torch.cat([now_BK.new_tensor(LENGTHS).expand(len(now_BK), -1), reach_B.clamp(max=1)[:, None]], 1)
    points_BKT = torch.lerp(now_BK.unsqueeze(2), target_BK.unsqueeze(2), lengths_BT.unsqueeze(1))
    points_BKT = torch.where(points_BKT * sign_BK.unsqueeze(2) > 0, points_BKT, 0)
    stops_B = reach_B.isfinite()
    points_BKT[stops_B, first_B[stops_B], -1] = 0
    return project_l1_ball(points_BKT, mu_B[:, None])
