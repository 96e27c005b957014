"""Selectors by the activations of a filter, whatever the class."""

from __future__ import annotations

import numpy as np

from tipping.selection import mean_activations
from tipping.selectors.evidence import Evidence


def mean(evidence: Evidence) -> np.ndarray:
    """Return each filter's activation averaged over images and positions: (F,) [molchanov2017]."""
    return mean_activations(evidence.filters, evidence.images).double().cpu().numpy()


def share(evidence: Evidence) -> np.ndarray:
    """Return each filter's share of its layer's response, averaged over images, mean_n x_nf: (F,)."""
    return evidence.by_filter(evidence.responses.responses_NR.mean(0, dtype=float))
