"""Solutions: the weights that a solver returns, each column with its certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tipping.mu_lasso.active_set import chunks, restrict
from tipping.mu_lasso.problem import MuLassoProblem

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative duality gaps that rounding allows on real problems
TIE = 1e-6  # relative distance within which |g_f| counts as tied with |g| on the support
SPARE = 1e-8  # |g_f| also counts as tied where a weight of mu raises the objective by at most this share of max(f, 1)
RANK = 1e-10  # eigenvalue, for a diagonal of 1, under which filters count as linearly dependent


@dataclass(frozen=True)
class Solution:
    """The weights of every (mu, class) column, each with its certificate.

    Attributes:
        weights_MFC: weights in the ball, with exact zeros.
        relative_gap_MC: the relative duality gap: f exceeds its minimum by at most the gap times max(f, 1).
        certified_MC: whether the weights are in the ball and the relative gap is at or under the tolerance.
        unique_MC: whether the column is certified and its solution is unique, and so its support: the filters with the
            largest pull, |gradient|, are linearly independent [tibshirani2013]. Duplicate filters make it false.
        binds_MC: whether the bound binds: more room would lower f, by more than the tolerance and the gap. In float32,
            f may fall without end along directions that the rounding of G has made: any bound binds.
        iterations_MC: gradient steps of `spg`, or breakpoints passed by `homotopy`.
        stopped: for each uncertified column, the reason why it stopped: a sentence, by (m, c).
    """

    weights_MFC: Tensor
    relative_gap_MC: Tensor
    certified_MC: Tensor
    unique_MC: Tensor
    binds_MC: Tensor
    iterations_MC: Tensor
    stopped: Mapping[tuple[int, int], str]

    def at(self, m: int) -> Solution:
        """Return the solution at one mu, by the position of mu: M is 1."""
        only = slice(m, m + 1)
        return Solution(
            self.weights_MFC[only],
            self.relative_gap_MC[only],
            self.certified_MC[only],
            self.unique_MC[only],
            self.binds_MC[only],
            self.iterations_MC[only],
            {(0, c): why for (row, c), why in self.stopped.items() if row == m},
        )


def checked_mu(mu: Sequence[float] | Tensor, problem: MuLassoProblem) -> Tensor:
    """Return mu as a tensor (M,) on the problem's device, in float64.

    Raises:
        ValueError: mu is no sequence of finite values over 0.
    """
    try:
        mu_M = torch.as_tensor(mu, dtype=torch.float64, device=problem.gram_FF.device)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mu must be a sequence of numbers, got {mu!r}") from error
    if mu_M.ndim != 1 or not len(mu_M):
        raise ValueError(f"mu must be a sequence of values, got shape {tuple(mu_M.shape)}")
    if not bool((mu_M.isfinite() & (mu_M > 0)).all()):
        raise ValueError(f"mu must be finite and over 0, got {mu_M.tolist()}")
    return mu_M


def checked_tolerance(tolerance: float | None, problem: MuLassoProblem) -> float:
    """Return the tolerance; by default 1e-8 for a problem in float64, 1e-3 in float32.

    Raises:
        ValueError: the tolerance is not finite and over 0.
    """
    tolerance = TOLERANCE[problem.gram_FF.dtype] if tolerance is None else tolerance
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and over 0, got {tolerance}")
    return tolerance


def rounded(weights_MFC: Tensor, problem: MuLassoProblem) -> Tensor:
    """Return weights that were computed in float64 in the type of the problem."""
    return weights_MFC.to(problem.gram_FF.dtype).contiguous()


def certify(
    problem: MuLassoProblem,
    weights_MFC: Tensor,
    mu_M: Tensor,
    tolerance: float,
    iterations_MC: Tensor,
    reasons: Mapping[tuple[int, int], str],
) -> Solution:
    """Return a solution with its certificates: duality gaps, uniqueness, and what binds, computed in float64.

    Args:
        weights_MFC: the weights; columns outside the ball of radius mu, beyond rounding, are not certified, nor are
            those with a negative weight where weights must be at least 0.
        reasons: for columns (m, c) over the tolerance, the reason why the solver stopped.
    """
    exact = problem.to(torch.float64)
    gap_MC = exact.relative_gap(weights_MFC.double(), mu_M[:, None])
    rounding = 4 * weights_MFC.shape[1] * torch.finfo(weights_MFC.dtype).eps
    inside_MC = weights_MFC.double().abs().sum(1) <= (1 + rounding) * mu_M[:, None]
    if problem.positive:
        inside_MC &= (weights_MFC >= 0).all(1)
    certified_MC = inside_MC & (gap_MC <= tolerance)
    unique_MC = certified_MC & _unique(exact, weights_MFC.double(), mu_M[:, None], gap_MC)
    binds_MC = _relief(exact, weights_MFC.double()) > gap_MC.clamp(min=tolerance)
    last = "exact descents went no further" if weights_MFC.dtype == torch.float64 else "weights rounded to float32"
    stopped = {
        (m, c): f"mu = {float(mu_M[m]):g}, class {c}: stopped at a relative gap of {float(gap_MC[m, c]):.1e}, over "
        f"{tolerance:g}: {reasons.get((m, c), last)}"
        for m, c in (~certified_MC).nonzero().tolist()
    }
    return Solution(weights_MFC, gap_MC, certified_MC, unique_MC, binds_MC, iterations_MC, stopped)


def _relief(problem: MuLassoProblem, weights_MFC: Tensor) -> Tensor:
    """Return −gᵀw / max(f, 1), with g = ∇f: (M, C).

    At the minimum, g is −λ times the sign of w on the support, so that −gᵀw = λ ‖w‖₁. The multiplier λ ≥ 0 is the rate
    at which the minimum falls with mu, and 0 where the bound does not bind. Since the minimum is convex in mu, a ball
    of twice the size lowers it by at most mu λ. The sum hardly feels that weights are rounded, as g itself does.
    """
    return -(problem.gradient(weights_MFC) * weights_MFC).sum(1) / problem.objective(weights_MFC).clamp(min=1)


def _unique(problem: MuLassoProblem, weights_MFC: Tensor, mu_M1: Tensor, gap_MC: Tensor) -> Tensor:
    """Return whether the live filters tied for the largest pull are linearly independent: boolean (M, C).

    A filter is tied if its pull is at least the smallest on the support, or at least λ without one, up to `TIE` and the
    gap.
    """
    normalised_FF, _ = problem.normalised()
    live_F = normalised_FF.diagonal() > 0
    sizes_MFC = problem.pull(problem.gradient(weights_MFC))
    spare_MC = gap_MC.clamp(min=SPARE) * problem.objective(weights_MFC).clamp(min=1) / mu_M1
    smallest_MC = torch.where(weights_MFC != 0, sizes_MFC, sizes_MFC.amax(1, keepdim=True).clamp(min=0)).amin(1)
    limit_MC = (1 - TIE) * smallest_MC - spare_MC
    tied_MFC = live_F[:, None] & (sizes_MFC >= limit_MC.unsqueeze(1))
    columns_BF = tied_MFC.transpose(1, 2).flatten(0, 1)
    tied_BF, column_B = torch.unique(columns_BF, dim=0, return_inverse=True)  # each set of filters once
    unique_B = torch.zeros_like(tied_BF[:, 0])
    for part in chunks(tied_BF):
        _, _, gram_BKK = restrict(normalised_FF, tied_BF[part])
        gram_BKK.diagonal(dim1=1, dim2=2).sub_(RANK)
        unique_B[part] = torch.linalg.cholesky_ex(gram_BKK).info == 0
    return unique_B[column_B].reshape(limit_MC.shape)
