"""Selectors by the mu-lasso, whose weights are found by its exact path in mu."""

from __future__ import annotations

import numpy as np

from tipping.selectors.evidence import Evidence


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
    """Return the weights at mu of the mu-lasso whose weights are at least 0: (F, C) [efron2004; meynen2023].

    Raises:
        InputError: ties between filters lead the path in circles.
    """
    path = evidence.path_to(evidence.mu, positive=True)
    return evidence.by_filter(path.weights([evidence.mu])[0].cpu().numpy())
