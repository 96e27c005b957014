"""What a user would pick instead of the project's solvers, each run until it is as exact as these."""

from __future__ import annotations

import time
from collections.abc import Sequence

import celer
import numpy as np
import spgl1
import torch
from scipy.sparse.linalg import LinearOperator
from skglm.penalties import L1
from skglm.solvers import GramCD
from sklearn.linear_model import Lasso, lars_path_gram

from tipping.mu_lasso import MuLassoProblem

GAP = 1e-8


def by_lars(problem: MuLassoProblem, mu: Sequence[float], last: Sequence[float]) -> torch.Tensor:
    """scikit-learn's exact path, read off at each mu; `last` is λ of each class at the largest mu, where it stops."""
    weights = np.zeros((len(mu), *problem.cross_FC.shape))
    live = np.flatnonzero(~problem.dead_F())
    gram = problem.gram_FF.numpy()[np.ix_(live, live)]
    for c, cross in enumerate(problem.cross_FC.numpy()[live].T):
        stop = {"alpha_min": last[c], "max_iter": 10**6}
        _, _, path = lars_path_gram(Xy=cross, Gram=gram, n_samples=1, method="lasso", **stop)
        norms = np.append(np.abs(path).sum(0), np.inf)  # beyond the end the weights stay
        path = np.hstack([path, path[:, -1:]])
        after = np.searchsorted(norms, mu).clip(1)
        share = (np.asarray(mu) - norms[after - 1]) / (norms[after] - norms[after - 1])
        weights[:, live, c] = (path[:, after - 1] * (1 - share) + path[:, after] * share).T
    return torch.as_tensor(weights)


class Penalised:
    """A solver of ½‖X w − l‖² + λ‖w‖₁ for one class, continued from where it stood, at λ of the exact solution."""

    def __init__(self, x: np.ndarray, label: np.ndarray, multiplier: float) -> None:
        self.x, self.label, self.alpha = x, label, multiplier / len(x)

    def go_on(self, iterations: int) -> np.ndarray:
        """Go on from the weights so far."""
        raise NotImplementedError


class ScikitLearn(Penalised):
    name = "scikit-learn `Lasso(precompute)`"

    def go_on(self, iterations: int) -> np.ndarray:
        if not hasattr(self, "model"):
            options = {"precompute": self.x.T @ self.x, "fit_intercept": False, "warm_start": True, "tol": 1e-15}
            self.model = Lasso(self.alpha, **options)
        return self.model.set_params(max_iter=30 * iterations).fit(self.x, self.label).coef_


class Celer(Penalised):
    name = "celer"

    def go_on(self, iterations: int) -> np.ndarray:
        if not hasattr(self, "model"):
            options = {"max_epochs": 1000, "fit_intercept": False, "warm_start": True, "tol": 1e-15}
            self.model = celer.Lasso(self.alpha, **options)
        return self.model.set_params(max_iter=min(iterations, 20)).fit(self.x, self.label).coef_


class Skglm(Penalised):
    name = "skglm `GramCD`"

    def go_on(self, iterations: int) -> np.ndarray:
        solver = GramCD(30 * iterations, use_acc=True, greedy_cd=False, tol=1e-15, fit_intercept=False)
        start = getattr(self, "weights", np.zeros(self.x.shape[1]))
        self.weights = solver.solve(self.x, self.label, None, L1(self.alpha), start.copy())[0]
        return self.weights


def until_certified(solver: Penalised, problem: MuLassoProblem, limit: float) -> np.ndarray:
    """A solver's weights after ever more iterations, when the gap is small enough or the limit in seconds over."""
    start, iterations = time.perf_counter(), 10
    while True:
        weights = solver.go_on(iterations)
        gap = gap_of(problem, weights, np.abs(weights).sum())  # at its own radius: the penalty fixes λ, not mu
        if gap <= GAP or time.perf_counter() - start > limit:
            return weights
        iterations = min(2 * iterations, 80)


class Enough(Exception):
    """The time limit is over, or the gap small enough."""


def by_spgl1(
    problem: MuLassoProblem, x: np.ndarray, label: np.ndarray, mu: float, limit: float, **options: float
) -> np.ndarray:
    """spgl1's weights when it stops by itself; the best it tried when the limit in seconds is over; or, looked at every
    20 products, the first that is certified."""
    start, tried = time.perf_counter(), []
    best = np.inf, np.zeros(x.shape[1])

    def forward(weights: np.ndarray) -> np.ndarray:
        nonlocal best
        tried.append(0)
        if len(tried) % 20 == 0:
            best = min(best, (gap_of(problem, weights, mu), weights.copy()), key=lambda pair: pair[0])
            if best[0] <= GAP or time.perf_counter() - start > limit:
                raise Enough
        return x @ weights

    operator = LinearOperator(x.shape, matvec=forward, rmatvec=lambda residual: x.T @ residual, dtype=float)
    try:
        return spgl1.spg_lasso(operator, label, mu, **options)[0]
    except Enough:
        return best[1]


def gap_of(problem: MuLassoProblem, weights: np.ndarray, mu: float) -> float:
    """The relative gap of one class's weights, at their own norm where it is beyond mu."""
    radius = torch.tensor(max(mu, np.abs(weights).sum()), dtype=torch.float64)
    return float(problem.relative_gap(torch.as_tensor(weights)[:, None], radius))
