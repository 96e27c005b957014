"""How far a selection of filters depends on the training images: on halves of them, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from tipping.mu_lasso import MuLassoProblem, spg


def stability(chosen_MF: np.ndarray) -> float:
    """Nogueira's index of M selections among F filters [nogueira2018]; nan where all select all, or none.

    1 − mean_f s_f² / (k/F (1 − k/F)), with s_f² = M/(M − 1) p_f (1 − p_f), p_f the share of the selections that have
    filter f, and k their mean size: 1 where all are the same, 0 on average where they are random.
    """
    selections, filters = chosen_MF.shape
    share_F = chosen_MF.mean(0)
    spread_F = selections / (selections - 1) * share_F * (1 - share_F)
    size = share_F.sum() / filters
    return float(1 - spread_F.mean() / (size * (1 - size))) if 0 < size < 1 else float("nan")


def on_halves(
    parts: Sequence[MuLassoProblem], mu: float, filter_R: np.ndarray, rng: np.random.Generator, selections: int = 20
) -> np.ndarray:
    """Select on halves of the images the filters relevant at mu: (selections, F).

    Args:
        parts: the problems of disjoint parts of the images, of which each selection takes half.
        filter_R: the filter of each response.
    """
    chosen = []
    for _ in range(selections):
        half = rng.choice(len(parts), len(parts) // 2, replace=False)
        weights_RC = spg(reduce(add, (parts[i] for i in half)), [mu]).weights_MFC[0].cpu().numpy()
        chosen.append(np.bincount(filter_R, weights=(weights_RC != 0).any(1)) > 0)
    return np.array(chosen)
