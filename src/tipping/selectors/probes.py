"""Selectors by probes: how well the responses of a filter, or of all together, tell the classes apart."""

from __future__ import annotations

import numpy as np

from tipping.errors import InputError
from tipping.selectors.evidence import Evidence
from tipping.selectors.squares import factored, non_negative_least_squares

SLOW = 2500  # images, evenly spread, that probes take which are slow in their number
CERTAIN = 1e15  # F beyond which the variance within classes is rounding
ROUNDING = 1e-6  # standard deviation, relative to the largest response, under which a response is constant
PENALTY = 1e-3  # of ‖w‖₁ beside the mean logistic loss
POINTS, LEAST_PENALTY = 40, 0.02  # of the path of the group lasso; the last λ, relative to the first
REACHED = 1e-4  # relative distance from λ within which a filter has reached it


def anova(evidence: Evidence) -> np.ndarray:
    """Return the F statistic of each filter's responses: variance between over variance within classes: (F,).

    F_f = [Σ_c N_c (m_fc − m_f)² / (C − 1)] / [Σ_n (x_nf − m_f,c(n))² / (N − C)], with m the means [fisher1925].
    """
    from sklearn.feature_selection import f_classif  # here, as below: it takes long to load

    z_NV, labels_N, varies_R = standardised(evidence)
    with np.errstate(divide="ignore"):  # no variance within classes
        f_V, _ = f_classif(z_NV, labels_N)
    return evidence.by_filter(_placed(np.minimum(np.abs(f_V), CERTAIN), varies_R))


def class_selectivity(evidence: Evidence) -> np.ndarray:
    """Return (μ_max − μ_rest) / (μ_max + μ_rest) of the mean responses to each class: (F,) [morcos2018].

    μ_max is the largest mean, and μ_rest the mean of those of the other classes. A dead filter scores 0.
    """
    responses_NR, labels_N = _labelled(evidence)
    means_CR = np.array([responses_NR[labels_N == c].mean(0, dtype=float) for c in np.unique(labels_N)])
    most_R = means_CR.max(0)
    rest_R = (means_CR.sum(0) - most_R) / (len(means_CR) - 1)
    total_R = most_R + rest_R
    return evidence.by_filter(np.divide(most_R - rest_R, total_R, out=np.zeros_like(total_R), where=total_R > 0))


def mutual_information(evidence: Evidence) -> np.ndarray:
    """Return the mutual information of each filter's response and the class, in nats: (F,).

    It is estimated from the three nearest neighbours of each response [ross2014], on 2,500 images at most.
    """
    from sklearn.feature_selection import mutual_info_classif

    z_NV, labels_N, varies_R = standardised(evidence, SLOW)
    return evidence.by_filter(_placed(mutual_info_classif(z_NV, labels_N, random_state=evidence.seed), varies_R))


def l1_logistic(evidence: Evidence) -> np.ndarray:
    """Return |w_fc| of a logistic regression for each class under an L1 penalty: (F, C) [fan2008].

    Each class c minimises mean_n log(1 + exp(−s_n (w·z_n + b))) + 0.001 (‖w‖₁ + |b|), with s_n = 1 for images of the
    class and −1 for others, and z the standardised responses, on 2,500 images at most.
    """
    from sklearn.linear_model import LogisticRegression

    z_NV, labels_N, varies_R = standardised(evidence, SLOW)
    settings = {"l1_ratio": 1, "solver": "liblinear", "tol": 1e-7, "max_iter": 10_000, "random_state": evidence.seed}
    weights_VC = np.zeros((z_NV.shape[1], evidence.filters.classes))
    for c in np.unique(labels_N):
        fitted = LogisticRegression(C=1 / (PENALTY * len(z_NV)), **settings).fit(z_NV, labels_N == c)
        weights_VC[:, c] = fitted.coef_[0]
    return evidence.by_filter(_placed(np.abs(weights_VC), varies_R))


def group_lasso(evidence: Evidence) -> np.ndarray:
    """Return λ, relative to its largest, at which each filter enters the path of the group lasso: (F,) [yuan2006].

    W minimises ½‖Z W − L‖² + λ Σ_f ‖w_f‖₂, with Z the standardised responses, L the one-hot labels and w_f the weights
    of filter f for all classes. A filter enters where its pull ‖z_fᵀ(L − Z W)‖₂ reaches λ. At 40 values of λ, down to
    0.02 of the largest, this is seen; between two of them, filters are in the order of their pull at the larger, and so
    are those that never enter: λ_k + (λ_k−1 − λ_k) pull_k−1 / λ_k−1, with 0 as the last λ_k.
    """
    from sklearn.linear_model import MultiTaskLasso

    z_NV, labels_N, varies_R = standardised(evidence)
    onehot_NC = (labels_N[:, None] == np.unique(labels_N)).astype(float)
    gram_VV, cross_VC = z_NV.T @ z_NV, z_NV.T @ onehot_NC
    lambda_P = np.geomspace(1, LEAST_PENALTY, POINTS) * np.linalg.norm(cross_VC, axis=1).max()
    rows_KV, target_KC = factored(gram_VV, cross_VC)
    settings = {"l1_ratio": 1.0, "tol": 1e-6, "max_iter": 100_000}
    data = np.asfortranarray(rows_KV), np.asfortranarray(target_KC)
    _, weights_CVP, _ = MultiTaskLasso.path(*data, alphas=lambda_P / len(rows_KV), **settings)
    pull_PV = np.linalg.norm(cross_VC[:, :, None] - np.einsum("vu,cup->vcp", gram_VV, weights_CVP), axis=1).T
    reached_PV = np.vstack([pull_PV[1:] >= (1 - REACHED) * lambda_P[1:, None], np.ones_like(pull_PV[:1], dtype=bool)])
    k_V, all_V = reached_PV.argmax(0), np.arange(pull_PV.shape[1])
    before_V, now_V = lambda_P[k_V], np.append(lambda_P[1:], 0)[k_V]
    score_V = now_V + (before_V - now_V) * np.minimum(pull_PV[k_V, all_V] / before_V, 1)
    return evidence.by_filter(_placed(score_V / lambda_P[0], varies_R))


def non_negative(evidence: Evidence) -> np.ndarray:
    """Return u_fc of least squares with weights of at least 0: (F, C) [lawson1974].

    Each class c minimises ‖Σ_f u_f x_f / ‖x_f‖ − l_c‖² over u ≥ 0. Since nothing bounds the weights, those of responses
    scaled to norm 1 count: a filter that is hardly ever there needs a large weight for a small effect.
    """
    _labelled(evidence)
    return evidence.by_filter(non_negative_least_squares(evidence.responses.problem))


def standardised(evidence: Evidence, most: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the responses that vary, each with mean 0 and standard deviation 1 over the images.

    Args:
        most: the number of images, evenly spread, that are taken at most; 0 takes all.

    Returns:
        the responses (N, V), the label of each image (N,), and whether each response varies (R,).

    Raises:
        InputError: all images are of one class, or no response varies.
    """
    responses_NR, labels_N = _labelled(evidence, most)
    spread_R = responses_NR.std(0, dtype=float)
    varies_R = spread_R > ROUNDING * np.abs(responses_NR).max(0)
    if not varies_R.any():
        raise InputError("no filter's response varies over the images: leave selectors by probes out")
    varying_NV = responses_NR[:, varies_R].astype(float)
    return (varying_NV - varying_NV.mean(0)) / spread_R[varies_R], labels_N, varies_R


def _labelled(evidence: Evidence, most: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return responses (N, R) and labels (N,) of at least two classes."""
    _, responses_NR, labels_N = evidence.responses
    if 0 < most < len(labels_N):
        rows = np.linspace(0, len(labels_N) - 1, most).astype(int)
        responses_NR, labels_N = responses_NR[rows], labels_N[rows]
    if (labels_N == labels_N[0]).all():
        only = f"all images are of class {labels_N[0]}"
        raise InputError(f"selectors by probes tell classes apart, but {only}: give images of two classes at least")
    return responses_NR, labels_N


def _placed(values_V: np.ndarray, varies_R: np.ndarray) -> np.ndarray:
    """Return values (V,) or (V, C) at the responses that vary, 0 at the others: (R,) or (R, C)."""
    values_R = np.zeros((len(varies_R), *values_V.shape[1:]))
    values_R[varies_R] = values_V
    return values_R
