"""The stability of a selection of filters under resampling: on random halves of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from tipping.mu_lasso import MuLassoProblem, spg


def stability(chosen_MF: np.ndarray) -> float:
    """Return Nogueira's stability index of M selections among F filters [nogueira2018].

    The index is 1 − mean_f s_f² / (k/F (1 − k/F)), where s_f² = M/(M − 1) p_f (1 − p_f), p_f is the share of selections
    that contain filter f, and k is the mean size of a selection. It is 1 for equal selections and 0 on average for
    random ones. It is nan where every selection is empty, or every selection holds all filters.

    Args:
        chosen_MF: whether each selection contains each filter: boolean (M, F).
    """
    selections, filters = chosen_MF.shape
    share_F = chosen_MF.mean(0)
    spread_F = selections / (selections - 1) * share_F * (1 - share_F)
    size = share_F.sum() / filters
    return float(1 - spread_F.mean() / (size * (1 - size))) if 0 < size < 1 else float("nan")


def on_halves(
    parts: Sequence[MuLassoProblem], mu: float, filter_R: np.ndarray, rng: np.random.Generator, selections: int = 20
) -> np.ndarray:
    """Select the filters relevant at mu on random halves of the images: boolean (selections, F).

    Args:
        parts: the mu-lasso problems of disjoint parts of the images; each selection uses a random half of the parts.
        filter_R: the filter of each response.
    """
    chosen = []
    for _ in range(selections):
        half = rng.choice(len(parts), len(parts) // 2, replace=False)
        weights_RC = spg(reduce(add, (parts[i] for i in half)), [mu]).weights_MFC[0].cpu().numpy()
        chosen.append(np.bincount(filter_R, weights=(weights_RC != 0).any(1)) > 0)
    return np.array(chosen)
