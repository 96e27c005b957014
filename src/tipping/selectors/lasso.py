"""Selectors by the mu-lasso, whose weights are found by its exact path in mu."""

from __future__ import annotations

import numpy as np
import torch

from tipping.errors import InputError
from tipping.selectors.evidence import Evidence
from tipping.selectors.squares import factored, nearest_in_hull, non_negative_least_squares

TOLERANCE = 1e-8  # relative duality gap


def by_strength(evidence: Evidence) -> np.ndarray:
    """Return the absolute weight of each filter for each class at mu, |w_fc|: (F, C) [oramas2019]."""
    weights_RC = evidence.path.weights([evidence.mu])[0].cpu().numpy()
    return evidence.by_filter(np.abs(weights_RC))


def by_entering(evidence: Evidence) -> np.ndarray:
    """Return 1 / (1 + mu) of the mu at which each filter first enters the path of a class: (F,) [efron2004].

    The path is followed beyond `mu`, to its end, so that nearly all filters have an order. The first filter of each
    class enters at mu = 0. A filter that never enters scores 0.

    Raises:
        InputError: ties between filters lead the path in circles.
    """
    mu_F = np.full(len(evidence.filters.ablatable_F), np.inf)
    for one in evidence.path_to(np.inf).classes:
        np.minimum.at(mu_F, evidence.filters.filter_R[one.filter_K], one.mu_K)
    return 1 / (1 + mu_F)


def by_contribution(evidence: Evidence) -> np.ndarray:
    """Return |w_fc| times the mean response of filter f to images of class c, at mu: (F, C) [oramas2019].

    With signs, the sum over filters would be the mean of what the mu-lasso predicts for images of the class; without,
    a filter that speaks for one class and against another counts twice, and not for nothing.
    """
    problem = evidence.responses.problem
    weights_RC, cross_RC = evidence.path.weights([evidence.mu])[0], problem.cross_FC
    means_RC = cross_RC / problem.label_sq_C.clamp(min=1)  # a class without images has none to sum
    return evidence.by_filter((weights_RC.abs() * means_RC).cpu().numpy())


def by_positive_weight(evidence: Evidence) -> np.ndarray:
    """Return the weights of the mu-lasso whose weights are at least 0: (F, C) [lawson1974; wolfe1976].

    Each class c minimises ½‖X w − l_c‖² over w ≥ 0 with Σ_f w_f ≤ mu. Where the bound binds, w = mu v with Σ_f v_f = 1,
    and X w − l is Σ_f v_f (mu x_f − l): the point nearest to 0 in the convex hull of the mu x_f − l.

    Raises:
        InputError: the solution of a class has a relative duality gap over 1e-8.
    """
    problem, mu = evidence.responses.problem, evidence.mu
    weights_RC = non_negative_least_squares(problem) / problem.normalised()[1].cpu().numpy()[:, None]
    live_R = ~problem.dead_F()
    gram_VV, cross_VC = problem.gram_FF.cpu().numpy()[np.ix_(live_R, live_R)], problem.cross_FC.cpu().numpy()[live_R]
    rows_KV, target_KC = factored(gram_VV, cross_VC)
    for c in np.flatnonzero(weights_RC.sum(0) > mu):
        weights_RC[live_R, c] = mu * nearest_in_hull(mu * rows_KV - target_KC[:, [c]])
    weights_FC = torch.as_tensor(weights_RC).to(problem.gram_FF)
    gradient_FC = problem.gradient(weights_FC)
    over_C = (gradient_FC * weights_FC).sum(0) - mu * gradient_FC.amin(0).clamp(max=0)  # of the least objective
    gap_C = over_C / problem.objective(weights_FC).clamp(min=1)
    if float(gap_C.max()) > TOLERANCE:
        culprit = f"the non-negative mu-lasso of class {int(gap_C.argmax())}"
        raise InputError(f"{culprit} keeps a relative gap of {float(gap_C.max()):.1e}: leave mu_lasso_positive out")
    return evidence.by_filter(weights_RC)
