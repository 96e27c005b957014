"""The exact solution path of the mu-lasso: every mu at which a filter enters or leaves a support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tipping.mu_lasso.active_set import descend
from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.solution import Solution, certify, checked_mu, checked_tolerance, rounded
from tipping.mu_lasso.zeros import without_rounding

BLOCK = 64  # pivots collected for one update of the matrix, at least
# a filter depends on the support when this leaves at most max(DEPENDENT, FADING · λ_max / λ) of its Gram diagonal
DEPENDENT, FADING = 1e-12, 1e-18
LEAST = 1e-12  # λ, relative to its largest value, under which only rounding remains
BLUR = 1  # share of λ that rounding may add to the gradient of a dependent filter
LONGEST_PATH = 100  # breakpoints per filter beyond which ties must be leading the path in circles


@dataclass(frozen=True)
class ClassPath:
    """The breakpoints of one class, by rising mu. Between two of them the weights are linear in mu.

    Attributes:
        mu_K: mu of each breakpoint; the first is 0, where the first filter enters.
        filter_K: the filter that enters or leaves the support at each breakpoint.
        sign_K: the sign with which the filter enters, 0 when it leaves.
        saturation: the mu from which the bound no longer binds, computed on the last face whose end is not hidden by
            rounding; infinite where the path was cut short.
        filters: the number of filters F.
    """

    mu_K: np.ndarray
    filter_K: np.ndarray
    sign_K: np.ndarray
    saturation: float
    filters: int

    def face(self, mu: float) -> np.ndarray:
        """Return the signs of the weights at mu, 0 off the support: (F,)."""
        passed = int(np.searchsorted(self.mu_K, mu, side="left"))
        signs_F = np.zeros(self.filters, dtype=np.int8)
        signs_F[self.filter_K[:passed]] = self.sign_K[:passed]  # the last entry of a filter counts
        return signs_F

    def supports(self) -> Iterator[np.ndarray]:
        """Yield the support after each breakpoint: its filters in rising order."""
        support: set[int] = set()
        for f in self.filter_K.tolist():
            support ^= {f}
            yield np.array(sorted(support), dtype=int)


@dataclass(frozen=True)
class SolutionPath:
    """The exact solutions of a problem at every mu up to `largest_mu`, which is infinite unless the path was cut short.

    Attributes:
        problem: the problem solved.
        classes: the path of each class.
        largest_mu: the end of the path.
    """

    problem: MuLassoProblem
    classes: tuple[ClassPath, ...]
    largest_mu: float = np.inf

    def saturation(self) -> Tensor:
        """Return the mu of each class from which the bound no longer binds; infinite where the path was cut short:
        (C,)."""
        return self.problem.label_sq_C.new_tensor([path.saturation for path in self.classes])

    def weights(self, mu: Sequence[float] | Tensor) -> Tensor:
        """Return the weights at each mu: (M, F, C).

        The weights are solved anew from the support and signs of the path, so that rounding does not accumulate.

        Raises:
            ValueError: a mu is not finite and over 0, or lies beyond the end of a path that was cut short.
        """
        mu_M, exact = checked_mu(mu, self.problem), self.problem.to(torch.float64)
        if float(mu_M.max()) > self.largest_mu:
            raise ValueError(f"mu must be at most {self.largest_mu:g}, where the path ends, got {float(mu_M.max()):g}")
        weights_MFC = exact.cross_FC.new_zeros(len(mu_M), *exact.cross_FC.shape)
        some = [c for c, path in enumerate(self.classes) if len(path.mu_K)]  # a class without images has no path
        if some:
            faces_BF = np.stack([self.classes[c].face(value) for value in mu_M.tolist() for c in some])
            inside_BF = torch.as_tensor(faces_BF * np.finfo(float).tiny, device=mu_M.device)  # a descent's first move
            every = torch.tensor(some, device=mu_M.device).repeat(len(mu_M))  # then lands on the minimum
            columns, mu_B = exact.classes(every), mu_M.repeat_interleave(len(some))
            weights_FB = without_rounding(columns, descend(columns, inside_BF.T, mu_B), mu_B)
            weights_MFC[:, :, some] = weights_FB.T.reshape(len(mu_M), len(some), -1).transpose(1, 2)
        return rounded(weights_MFC, self.problem)

    def solution(self, mu: Sequence[float] | Tensor, *, tolerance: float | None = None) -> Solution:
        """Return the weights at each mu with certificates, as a solver returns them.

        Args:
            tolerance: the largest relative duality gap of a certified column; by default 1e-8 in float64, 1e-3 in
                float32.

        Raises:
            ValueError: as `weights`, or the tolerance is not finite and over 0.
        """
        weights_MFC, mu_M = self.weights(mu), checked_mu(mu, self.problem)
        passed = [[int((path.mu_K < value).sum()) for path in self.classes] for value in mu_M.tolist()]
        passed_MC = torch.tensor(passed, device=mu_M.device)
        return certify(self.problem, weights_MFC, mu_M, checked_tolerance(tolerance, self.problem), passed_MC, {})


def homotopy(problem: MuLassoProblem, largest_mu: float = np.inf) -> SolutionPath:
    """Follow the exact piecewise-linear path of each class [osborne2000; efron2004].

    The multiplier λ = ‖g‖∞ falls from its largest value to 0. Weights on the support and gradients off the support are
    linear in λ until a weight reaches zero (its filter leaves) or a gradient reaches λ in magnitude (its filter
    enters). If weights must be at least 0, λ = max_f −g_f, and only filters whose gradient reaches −λ enter. The
    computation runs on the CPU in float64, whatever the problem's device and type.

    Args:
        problem: F filters, C classes.
        largest_mu: the mu at which the paths end; by default they end at saturation.

    Raises:
        ValueError: largest_mu is not over 0.
        ArithmeticError: ties between filters lead the path in circles.
    """
    if not largest_mu > 0:
        raise ValueError(f"largest_mu must be over 0, got {largest_mu}")
    live = np.flatnonzero(~problem.dead_F())
    gram_FF, norm_F = (tensor.cpu().numpy() for tensor in problem.normalised())
    gram_FF, norm_F = gram_FF[np.ix_(live, live)], norm_F[live]
    cross_FC = problem.cross_FC.double().cpu().numpy()[live]
    none = ClassPath(np.zeros(0), np.zeros(0, int), np.zeros(0, np.int8), 0.0, len(problem.gram_FF))
    paths = (
        _follow(_Face(gram_FF, norm_F, cross_F, problem.positive), live, len(problem.gram_FF), largest_mu)
        if cross_F.any()
        else none
        for cross_F in cross_FC.T
    )
    return SolutionPath(problem, tuple(paths), largest_mu)


def _follow(face: _Face, live: np.ndarray, filters: int, largest_mu: float) -> ClassPath:
    """Return the path of one class.

    Args:
        live: the positions of the face's filters among all F filters.
    """
    breakpoints: list[tuple[float, int, int]] = []
    multiplier, mu, saturation = np.inf, 0.0, np.inf
    while mu <= largest_mu:
        multiplier, f, sign = face.next_event(multiplier)
        if multiplier <= LEAST * face.peak or face.blurred(multiplier):
            saturation = face.norm(0)
            break
        mu = max(mu, face.norm(multiplier))
        if mu <= largest_mu:
            face.change(f, sign)
            breakpoints.append((mu, live[f], sign))
        if len(breakpoints) > LONGEST_PATH * len(live):
            raise ArithmeticError(f"ties lead the path in circles at mu = {mu:g}; take spg")
    columns = np.array(breakpoints).reshape(-1, 3).T
    return ClassPath(columns[0], columns[1].astype(int), columns[2].astype(np.int8), saturation, filters)


class _Face:
    """The solutions of one class on one face, as a function of λ; filters are scaled to a Gram diagonal of 1.

    The Gram matrix is swept on the support S, with N the filters off S and B = G_SS⁻¹:
    [−B, B G_SN; G_NS B, G_NN − G_NS B G_SN] [goodnight1979]. A filter that enters or leaves is one pivot, an update of
    rank 1. Pivots are collected and applied together, as one matrix product. Two more columns are swept with the
    matrix: XᵀL and the signs.

    Args:
        gram_FF: the normalised Gram matrix, which is not changed.
        norm_F: the norms of the filters' responses.
        cross_F: one column of XᵀL.
        positive: whether weights must be at least 0.

    Attributes:
        sign_F: signs of the weights, 0 off S.
        bound_F: what a scaled weight of 1 adds to ‖w‖₁; a scaled gradient is at most λ bound in magnitude.
        free_F, slope_F: free − λ slope is the scaled weight on S, and the negative scaled gradient off S.
        unexplained_F: off S, the share of the diagonal that S does not explain: 0 for filters linearly dependent on S.
    """

    def __init__(self, gram_FF: np.ndarray, norm_F: np.ndarray, cross_F: np.ndarray, positive: bool = False) -> None:
        self.bound_F = 1 / norm_F
        self.sign_F, self.unexplained_F = np.zeros_like(cross_F), np.ones_like(cross_F)
        self.free_F, self.slope_F = columns = np.stack([cross_F * self.bound_F, np.zeros_like(cross_F)])
        self._columns_2F = columns
        self._positive = positive
        self.peak = float((cross_F if positive else np.abs(cross_F)).max(initial=0))  # the largest λ
        self._matrix_FF, self._copied = gram_FF, False
        self._recent: list[int] = []  # pivots not yet applied to the matrix
        block = max(BLOCK, len(cross_F) // 4)
        self._rows_PF, self._pivots_P = np.empty((block, len(cross_F))), np.empty(block)

    def norm(self, multiplier: float) -> float:
        """Return ‖w‖₁ at λ."""
        return float((self.sign_F * self.bound_F) @ (self.free_F - multiplier * self.slope_F))

    def next_event(self, multiplier: float) -> tuple[float, int, int]:
        """Return the largest λ below `multiplier` at which a filter's sign changes, the filter, and its new sign.

        λ is 0 where no sign changes.
        """
        free_F, slope_F, bound_F = self.free_F, self.slope_F, self.bound_F
        outside_F = (self.sign_F == 0) & ~self._dependent_F(multiplier)
        candidates = (
            (0, free_F, slope_F, self.sign_F * slope_F < 0),  # a weight shrinks to 0
            (1, free_F, bound_F + slope_F, outside_F & (bound_F + slope_F > 0)),  # a negative gradient meets λ
            (-1, -free_F, bound_F - slope_F, outside_F & (bound_F - slope_F > 0)),  # or −λ
        )
        event = 0.0, 0, 0
        for sign, over_F, under_F, where_F in candidates[: 2 if self._positive else 3]:
            events_F = np.divide(over_F, under_F, out=np.zeros_like(over_F), where=where_F)
            if len(events_F) and (latest := float(events_F.max())) > event[0]:
                event = latest, int(events_F.argmax()), sign
        return event

    def blurred(self, multiplier: float) -> bool:
        """Return whether rounding hides the events at λ: a filter linearly dependent on S has a gradient beyond λ."""
        dependent_F = (self.sign_F == 0) & self._dependent_F(multiplier)
        pull_F = self.free_F if self._positive else np.abs(self.free_F)
        return bool((dependent_F & (pull_F > BLUR * multiplier * self.bound_F)).any())

    def _dependent_F(self, multiplier: float) -> np.ndarray:
        """Return whether each filter off S counts as linearly dependent on S, up to rounding: (F,)."""
        return self.unexplained_F <= max(DEPENDENT, FADING * self.peak / multiplier)

    def change(self, f: int, sign: int) -> None:
        """Let filter f enter S with a sign, or leave S (sign 0)."""
        if sign:
            self.slope_F[f] += sign * self.bound_F[f]
        self._pivot(f, 1 if sign else -1)
        if not sign:
            self.slope_F[f] -= self.sign_F[f] * self.bound_F[f]
        self.sign_F[f] = sign

    def _pivot(self, f: int, direction: int) -> None:
        """Divide row f by its diagonal entry and subtract its multiples from all other rows."""
        rows_PF, pivots_P = self._rows_PF[: len(self._recent)], self._pivots_P[: len(self._recent)]
        row_F = np.zeros_like(self.sign_F) if f in self._recent else self._matrix_FF[f].copy()
        row_F[self._recent] = 0
        row_F -= (rows_PF[:, f] / pivots_P) @ rows_PF
        pivot, row_F[f] = row_F[f], -direction
        rows_PF[:, f] = 0
        self.unexplained_F[f] = 0
        self.unexplained_F -= row_F**2 / pivot
        entries_2 = self._columns_2F[:, f] / pivot
        self._columns_2F[:, f] = 0
        self._columns_2F -= np.outer(entries_2, row_F)
        self._rows_PF[len(self._recent)], self._pivots_P[len(self._recent)] = row_F, pivot
        self._recent.append(f)
        if len(self._recent) == len(self._rows_PF):
            self._apply()

    def _apply(self) -> None:
        """Apply the collected pivots to the matrix."""
        if not self._copied:  # all classes share one matrix until their first update
            self._matrix_FF, self._copied = self._matrix_FF.copy(), True
        self._matrix_FF[self._recent], self._matrix_FF[:, self._recent] = 0, 0
        self._matrix_FF -= self._rows_PF.T @ (self._rows_PF / self._pivots_P[:, None])
        self._recent.clear()
