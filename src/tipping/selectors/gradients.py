"""Selectors by gradients: what a first-order estimate says of a network without the filter."""

from __future__ import annotations

import numpy as np

from tipping.errors import InputError
from tipping.selectors.evidence import Evidence
from tipping.selectors.layers import not_as_written


def taylor(evidence: Evidence) -> np.ndarray:
    """Return what a filter changes of the loss ℓ, to first order: mean_n |mean_p a ∂ℓ/∂a| over images n and positions p
    of its activations a: (F,) [molchanov2017]."""
    return evidence.gradients.size_F


def taylor_weights(evidence: Evidence) -> np.ndarray:
    """Return the square of the same by the filter's weights and bias w: (Σ_w w ∂E/∂w)² of the mean loss E: (F,).

    E is the loss of all images, as in the formula of [molchanov2019], and not that of a batch at a time as in its
    training, so that scores do not depend on the size of batches.

    Raises:
        InputError: a layer computes something of its own, so that it may not be linear in its weights.
    """
    if strange := not_as_written(evidence.filters):
        raise InputError(f"selector=taylor_weights: {strange} has a forward of its own; leave it out")
    return np.square(evidence.gradients.weights_F)


def gradient_activation(evidence: Evidence) -> np.ndarray:
    """Return what a filter adds to the logit z_c of the images of each class c, to first order: the mean over these of
    Σ_p a ∂z_c/∂a: (F, C), positive for what speaks for the class [shrikumar2016]."""
    return evidence.gradients.logit_FC


def fisher(evidence: Evidence) -> np.ndarray:
    """Return what a filter changes of the loss, to second order by the Fisher information: ½ mean_n (Σ_p a ∂ℓ/∂a)²:
    (F,) [theis2018]."""
    return evidence.gradients.square_F / 2
