"""Least squares by the products of X and L alone."""

from __future__ import annotations

import numpy as np

from tipping.mu_lasso import MuLassoProblem


def factored(gram_VV: np.ndarray, cross_VC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A (K, V) and B (K, C) with AᵀA = XᵀX and AᵀB = XᵀL, so that K rows do for the N of X and L.

    K is the rank of X; directions under rounding are left out.
    """
    value_V, vector_VV = np.linalg.eigh(gram_VV)
    kept_V = value_V > len(value_V) * np.finfo(float).eps * value_V.max()
    root_K, vector_VK = np.sqrt(value_V[kept_V]), vector_VV[:, kept_V]
    return root_K[:, None] * vector_VK.T, vector_VK.T @ cross_VC / root_K[:, None]


def non_negative_least_squares(problem: MuLassoProblem) -> np.ndarray:
    """Return the u ≥ 0 of each class that minimises ‖Σ_f u_f x_f / ‖x_f‖ − l_c‖², 0 for dead filters: (F, C)."""
    from scipy.optimize import nnls  # here: it takes long to load

    live_F = ~problem.dead_F()
    gram_FF, norm_F = (tensor.cpu().numpy() for tensor in problem.normalised())
    cross_FC = problem.cross_FC.double().cpu().numpy() / norm_F[:, None]
    rows_KV, target_KC = factored(gram_FF[np.ix_(live_F, live_F)], cross_FC[live_F])
    weights_FC = np.zeros_like(cross_FC)
    weights_FC[live_F] = np.array([nnls(rows_KV, target_K, maxiter=100 * len(live_F))[0] for target_K in target_KC.T]).T
    return weights_FC
