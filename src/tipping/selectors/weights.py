"""Selectors by the weights of a filter alone."""

from __future__ import annotations

import numpy as np

from tipping.selectors.evidence import Evidence
from tipping.selectors.layers import weights_of_filters


def l1(evidence: Evidence) -> np.ndarray:
    """Return the L1 norm of each filter's weights, Σ |w|: (F,) [li2017]."""
    return np.concatenate([w_CD.abs().sum(1).numpy() for w_CD in weights_of_filters(evidence.filters)])
