"""The ranked list of relevant filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def ranked_filters(
    places: Sequence[tuple[str, int]],
    weights_RC: np.ndarray,
    order_K: np.ndarray,
    classes: Sequence[str],
    *,
    strength_F: np.ndarray | None = None,
    alone_K: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Rank relevant filters: a row for each, the strongest first.

    A row has its rank, layer, channel, strength, what it costs alone where that was measured, in accuracy, and its
    weight for each class that any filter has a weight for. Weights of a filter that is measured at several places are
    added up; its strength is Σ_c |w_rc| over its responses.

    Args:
        places: the layer and the channel of each of R responses.
        weights_RC: the weights of the responses.
        order_K: positions of the relevant filters in the network's index: the order in which places first occur.
        classes: the names of the C classes.
        strength_F: the strengths, where they are other ones.
        alone_K: the drop of accuracy without each of these filters alone.
    """
    number = {place: position for position, place in enumerate(dict.fromkeys(places))}
    filter_R = [number[place] for place in places]
    index = list(number)
    weights_FC, sums_F = np.zeros((len(index), weights_RC.shape[1])), np.zeros(len(index))
    np.add.at(weights_FC, filter_R, weights_RC)
    np.add.at(sums_F, filter_R, np.abs(weights_RC).sum(1))
    strength_F = sums_F if strength_F is None else strength_F
    weighted = np.flatnonzero((weights_RC != 0).any(0)).tolist()
    return [
        {
            "rank": rank + 1,
            "layer": index[position][0],
            "channel": int(index[position][1]),
            "strength": float(strength_F[position]),
            **({} if alone_K is None else {"alone": float(alone_K[rank])}),
            **{f"class {classes[label]}": float(weights_FC[position, label]) for label in weighted},
        }
        for rank, position in enumerate(order_K.tolist())
    ]
