"""Selectors by the weights of a filter alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tipping.errors import InputError
from tipping.selectors.evidence import Evidence
from tipping.selectors.layers import norms_after, weights_of_filters


def l1(evidence: Evidence) -> np.ndarray:
    """Return the L1 norm of each filter's weights, Σ |w|: (F,) [li2017]."""
    return _by_layer(evidence, lambda w_CD: w_CD.abs().sum(1))


def l2(evidence: Evidence) -> np.ndarray:
    """Return the L2 norm of each filter's weights, (Σ w²)^½: (F,) [li2017]."""
    return _by_layer(evidence, lambda w_CD: w_CD.norm(dim=1))


def fpgm(evidence: Evidence) -> np.ndarray:
    """Return the distances of each filter's weights to those of the layer's other filters, Σ_j ‖w_f − w_j‖: (F,).

    It is the least at the geometric median of the layer, whose filters the others can replace [he2019].
    """
    return _by_layer(evidence, lambda w_CD: torch.cdist(w_CD, w_CD).sum(1))


def lamp(evidence: Evidence) -> np.ndarray:
    """Return each filter's share among the layer's filters that are not smaller: s_f / Σ_{s_j ≥ s_f} s_j, with the
    squared norms s = Σ w²: (F,) [lee2021, there of single weights]. Weights that are all zero have the score 0."""

    def layer(w_CD: Tensor) -> Tensor:
        s_C = w_CD.square().sum(1)
        larger_C = torch.where(s_C >= s_C[:, None], s_C, 0).sum(1)
        return s_C / torch.where(s_C == 0, 1, larger_C)

    return _by_layer(evidence, layer)


def batch_norm(evidence: Evidence) -> np.ndarray:
    """Return the scale |γ| by which the batch normalisation after a layer multiplies each filter's map: (F,) [liu2017].

    Raises:
        InputError: a layer has no batch normalisation with a scale after it.
    """
    filters = evidence.filters
    norms = norms_after(filters, evidence.images[:1].images_NCHW)
    scales = []
    for layer in filters.sites:
        scale = filters.model.get_submodule(norms[layer]).weight if layer in norms else None
        if not isinstance(scale, Tensor):
            raise InputError(f"selector=batch_norm: {layer} has no batch normalisation after it; leave it out")
        scales.append(scale.detach().double().abs().cpu().numpy())
    return np.concatenate(scales)


def _by_layer(evidence: Evidence, formula: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Return the scores by a formula of the weights of each layer, (filters, inputs)."""
    return np.concatenate([formula(w_CD).numpy() for w_CD in weights_of_filters(evidence.filters)])
