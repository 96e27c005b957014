"""Selectors by the mu-lasso, whose weights are found by its exact path in mu."""

from __future__ import annotations

import numpy as np

from tipping.selectors.evidence import Evidence


def by_strength(evidence: Evidence) -> np.ndarray:
    """Return the absolute weight of each filter for each class at mu, |w_fc|: (F, C) [oramas2019]."""
    weights_RC = evidence.path.weights([evidence.mu])[0].cpu().numpy()
    return evidence.by_filter(np.abs(weights_RC))
