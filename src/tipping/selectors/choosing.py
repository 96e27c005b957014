"""The filters that a selector chooses in place of the mu-lasso's, as many as these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tipping.network import Filters
from tipping.selection import Draws, Selection, with_controls
from tipping.selectors.scores import Scores, own_order, ties_of


def chosen_by(scores: Scores, selection: Selection, filters: Filters, mu: float, draws: Draws) -> Selection:
    """Return the selection of the K filters with the largest scores, where K are relevant by the mu-lasso at mu.

    Ties are in random order. A filter with a score of 0 is never chosen. The weights are the scores, for all classes
    alike where a selector does not tell classes apart; those of a filter that is measured at several places stand at
    its first. The certificate and the shares explained stay those of the mu-lasso, which gives K. The controls are
    drawn anew.
    """
    scores_FC = np.broadcast_to(
        scores.values.reshape(len(scores.values), -1), (len(scores.values), selection.weights_RC.shape[1])
    )
    eligible_F = filters.ablatable_F & (scores_FC != 0).any(1)
    order_K = own_order(scores.overall_F, eligible_F, ties_of(draws.seed))[: len(selection.order_K)]
    relevant_F = np.isin(np.arange(len(scores_FC)), order_K)
    _, first_F = np.unique(filters.filter_R, return_index=True)
    weights_RC = np.zeros_like(selection.weights_RC)
    weights_RC[first_F[order_K]] = scores_FC[order_K]
    chosen = replace(
        selection, weights_RC=weights_RC, strength_F=scores.overall_F, relevant_F=relevant_F, order_K=order_K
    )
    return with_controls(chosen, filters, mu, draws)
