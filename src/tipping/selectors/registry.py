"""All selectors, the cheap ones first: a new one is entered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tipping.errors import InputError, require
from tipping.selectors import activations, attribution, gradients, lasso, probes, removal, weights
from tipping.selectors.evidence import Evidence
from tipping.selectors.scores import Scores

COSTS = {  # what a selector takes, from cheap to dear
    "weights": "the weights alone",
    "pass": "a pass over the images",
    "backward": "a pass over the images and back",
    "fit": "a pass over the images, and a fit to the responses",
    "attribution": "several passes over the images and back",
    "ablations": "many ablations",
}


@dataclass(frozen=True)
class Selector:
    """A way to score filters by their relevance.

    Attributes:
        name: the name, as an option gives it.
        family: the kind of evidence that decides: weights, activations, gradients, attribution, probes or ablation.
        cost: what it takes, a key of `COSTS`.
        formula: computes the scores; its docstring has the mathematics and the source.
    """

    name: str
    family: str
    cost: str
    formula: Callable[[Evidence], np.ndarray | Scores]


SELECTORS = {
    selector.name: selector
    for selector in (
        Selector("l1", "weights", "weights", weights.l1),
        Selector("l2", "weights", "weights", weights.l2),
        Selector("batch_norm", "weights", "weights", weights.batch_norm),
        Selector("fpgm", "weights", "weights", weights.fpgm),
        Selector("lamp", "weights", "weights", weights.lamp),
        Selector("mean", "activations", "pass", activations.mean),
        Selector("share", "activations", "pass", activations.share),
        Selector("apoz", "activations", "pass", activations.apoz),
        Selector("hrank", "activations", "pass", activations.hrank),
        Selector("taylor", "gradients", "backward", gradients.taylor),
        Selector("taylor_weights", "gradients", "backward", gradients.taylor_weights),
        Selector("gradient_activation", "gradients", "backward", gradients.gradient_activation),
        Selector("fisher", "gradients", "backward", gradients.fisher),
        Selector("mu_lasso", "probes", "fit", lasso.by_strength),
        Selector("mu_lasso_path", "probes", "fit", lasso.by_entering),
        Selector("mu_lasso_contribution", "probes", "fit", lasso.by_contribution),
        Selector("mu_lasso_positive", "probes", "fit", lasso.by_positive_weight),
        Selector("nnls", "probes", "fit", probes.non_negative),
        Selector("anova", "probes", "fit", probes.anova),
        Selector("class_selectivity", "probes", "fit", probes.class_selectivity),
        Selector("group_lasso", "probes", "fit", probes.group_lasso),
        Selector("mutual_information", "probes", "fit", probes.mutual_information),
        Selector("l1_logistic", "probes", "fit", probes.l1_logistic),
        Selector("conductance", "attribution", "attribution", attribution.conductance),
        Selector("internal_influence", "attribution", "attribution", attribution.internal_influence),
        Selector("lrp", "attribution", "attribution", attribution.lrp),
        Selector("single", "ablation", "ablations", removal.alone),
        Selector("shapley", "ablation", "ablations", removal.shapley_values),
        Selector("greedy", "ablation", "ablations", removal.greedy_forward),
    )
}


MU_LASSO = "mu_lasso"  # the one that `tipping.selection` solves, with certificates


def require_selector(name: object, option: str = "selector") -> None:
    """Raise `InputError` unless there is a selector of a name, which an option gives."""
    require(name in list(SELECTORS), option, name, f"give one of {', '.join(SELECTORS)}")


def score(name: str, evidence: Evidence) -> Scores:
    """Score the filters of a network by a selector.

    Raises:
        InputError: there is no such selector, it does not suit the network, or a score is not finite.
    """
    require_selector(name)
    computed = SELECTORS[name].formula(evidence)
    scores = computed if isinstance(computed, Scores) else Scores(np.asarray(computed, dtype=float))
    if not np.isfinite(scores.values).all():
        raise InputError(f"selector={name}: its scores of this network are not finite; leave it out")
    return scores
