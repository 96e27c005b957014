"""Selectors by the activations of a filter, whatever the class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tipping.selection import watch_maps
from tipping.selectors.evidence import Evidence

RANKED = 500  # images whose maps are ranked, as in HRank: their mean rank is nearly that of all images


def mean(evidence: Evidence) -> np.ndarray:
    """Return each filter's activation averaged over images and positions: (F,) [molchanov2017]."""
    return evidence.activations.mean_F


def share(evidence: Evidence) -> np.ndarray:
    """Return each filter's share of its layer's response, averaged over images, mean_n x_nf: (F,)."""
    return evidence.by_filter(evidence.responses.responses_NR.mean(0, dtype=float))


def apoz(evidence: Evidence) -> np.ndarray:
    """Return the share of each filter's activations that are not zero: (F,).

    It is 1 less the average percentage of zeros (APoZ), so that larger scores are more relevant [hu2016].
    """
    return evidence.activations.active_F


def hrank(evidence: Evidence) -> np.ndarray:
    """Return the rank of each filter's map averaged over 500 images: (F,) [lin2020]. Dense units have rank 1 or 0."""
    ranks: dict[str, list[Tensor]] = {layer: [] for layer in evidence.filters.sites}

    def rank(layer: str, maps_NCHW: Tensor) -> None:
        wide = maps_NCHW.to(torch.promote_types(maps_NCHW.dtype, torch.float32))
        ranks[layer].append(torch.linalg.matrix_rank(wide) if wide.ndim > 2 else wide != 0)

    watch_maps(evidence.filters, evidence.images.spread(RANKED), rank)
    return np.concatenate([torch.cat(parts).double().mean(0).cpu().numpy() for parts in ranks.values()])
