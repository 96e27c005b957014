"""What a solver returns: weights, each column with its certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tipping.mu_lasso.active_set import chunks, restrict
from tipping.mu_lasso.problem import MuLassoProblem

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative duality gaps that rounding allows on real problems
TIE = 1e-6  # |g_f| this little under those of the support, relatively, counts as tied with them,
SPARE = 1e-8  # and so does one with which a weight of mu would raise the objective by this share of max(f, 1)
RANK = 1e-10  # eigenvalue, beside a diagonal of 1, under which filters count as linearly dependent


@dataclass(frozen=True)
class Solution:
    """Weights of every (mu, class) column, each with its certificate.

    Attributes:
        weights_MFC: weights in the ball, with exact zeros.
        relative_gap_MC: relative duality gap: f is at most this times max(f, 1) over its minimum.
        certified_MC: whether the weights are in the ball and the relative gap is at or under the tolerance.
        unique_MC: whether the column is certified and its solution, and so its support, certainly the only one: the
            filters whose |gradient| is the largest are linearly independent [tibshirani2013]. Duplicate filters make
            it false.
        iterations_MC: gradient steps of spg, or breakpoints passed by homotopy.
        stopped: why each uncertified column stopped, a sentence under its (m, c).
    """

    weights_MFC: Tensor
    relative_gap_MC: Tensor
    certified_MC: Tensor
    unique_MC: Tensor
    iterations_MC: Tensor
    stopped: Mapping[tuple[int, int], str]

    def at(self, m: int) -> Solution:
        """Return the columns of one mu, by its position."""
        one = slice(m, m + 1)
        return Solution(
            self.weights_MFC[one],
            self.relative_gap_MC[one],
            self.certified_MC[one],
            self.unique_MC[one],
            self.iterations_MC[one],
            {(0, c): why for (row, c), why in self.stopped.items() if row == m},
        )


def checked_mu(mu: Sequence[float] | Tensor, problem: MuLassoProblem) -> Tensor:
    """mu as a tensor (M,) on the problem's device, in float64.

    Raises:
        ValueError: it is no sequence of finite values over 0.
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
    """Return the tolerance, by default that of the problem's type.

    Raises:
        ValueError: it is not finite and over 0.
    """
    tolerance = TOLERANCE[problem.gram_FF.dtype] if tolerance is None else tolerance
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and over 0, got {tolerance}")
    return tolerance


def rounded(weights_MFC: Tensor, problem: MuLassoProblem) -> Tensor:
    """Weights computed in float64, in the problem's type."""
    return weights_MFC.to(problem.gram_FF.dtype).contiguous()


def certify(
    problem: MuLassoProblem,
    weights_MFC: Tensor,
    mu_M: Tensor,
    tolerance: float,
    iterations_MC: Tensor,
    reasons: Mapping[tuple[int, int], str],
) -> Solution:
    """Certify a solution: its gaps and objectives, computed in float64.

    Args:
        weights_MFC: in the balls of radius mu, up to the rounding of their type, or not certified.
        reasons: why the solver stopped at column (m, c), where it did not reach its tolerance.
    """
    exact = problem.to(torch.float64)
    gap_MC = exact.relative_gap(weights_MFC.double(), mu_M[:, None])
    rounding = 4 * weights_MFC.shape[1] * torch.finfo(weights_MFC.dtype).eps
    inside_MC = weights_MFC.double().abs().sum(1) <= (1 + rounding) * mu_M[:, None]
    certified_MC = inside_MC & (gap_MC <= tolerance)
    unique_MC = certified_MC & _unique(exact, weights_MFC.double(), mu_M[:, None], gap_MC)
    last = "exact descents went no further" if weights_MFC.dtype == torch.float64 else "weights rounded to float32"
    stopped = {
        (m, c): f"mu = {float(mu_M[m]):g}, class {c}: stopped at a relative gap of {float(gap_MC[m, c]):.1e}, over "
        f"{tolerance:g}: {reasons.get((m, c), last)}"
        for m, c in (~certified_MC).nonzero().tolist()
    }
    return Solution(weights_MFC, gap_MC, certified_MC, unique_MC, iterations_MC, stopped)


def _unique(problem: MuLassoProblem, weights_MFC: Tensor, mu_M1: Tensor, gap_MC: Tensor) -> Tensor:
    """Return whether the live filters tied for the largest |gradient| are linearly independent: boolean (M, C).

    Tied are all whose |gradient| is no smaller than the smallest on the support, or that the gap leaves in doubt.
    """
    normalised_FF, _ = problem.normalised()
    live_F = normalised_FF.diagonal() > 0
    sizes_MFC = problem.gradient(weights_MFC).abs()
    spare_MC = gap_MC.clamp(min=SPARE) * problem.objective(weights_MFC).clamp(min=1) / mu_M1
    smallest_MC = torch.where(weights_MFC != 0, sizes_MFC, sizes_MFC.amax(1, keepdim=True)).amin(1)
    limit_MC = (1 - TIE) * smallest_MC - spare_MC
    tied_MFC = live_F[:, None] & (sizes_MFC >= limit_MC.unsqueeze(1))
    tied_BF = tied_MFC.transpose(1, 2).flatten(0, 1)
    unique_B = torch.zeros_like(tied_BF[:, 0])
    for part in chunks(tied_BF):
        _, _, gram_BKK = restrict(normalised_FF, tied_BF[part])
        gram_BKK.diagonal(dim1=1, dim2=2).sub_(RANK)
        unique_B[part] = torch.linalg.cholesky_ex(gram_BKK).info == 0
    return unique_B.reshape(limit_MC.shape)
