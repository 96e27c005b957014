"""Selectors that ablate filters and see what comes of it."""

from __future__ import annotations

import numpy as np

from tipping.ablation import chance_of, evaluate_losses
from tipping.data import Split
from tipping.errors import InputError, require_whole
from tipping.selectors.evidence import Evidence
from tipping.selectors.scores import Scores

NEAR_CHANCE = 0.01  # accuracy over chance up to which nothing is left to lose
TOGETHER = 16  # ablations of each order that are measured at once: so many may be measured in vain at its end


def alone(evidence: Evidence) -> np.ndarray:
    """Return the rise of the mean loss when each filter alone is ablated: (F,) [morcos2018].

    The loss is the cross-entropy of `several` images. A filter that may not be ablated scores 0.
    """
    positions_K = _ablatable(evidence)
    loss_A, _ = _measured(evidence, evidence.several, [positions_K[:0], *positions_K[:, None]])
    rise_F = np.zeros(len(evidence.filters.ablatable_F))
    rise_F[positions_K] = loss_A[1:] - loss_A[0]
    return rise_F


def shapley_values(evidence: Evidence) -> Scores:
    """Estimate each filter's Shapley value for the accuracy on `few` images: (F,) [ghorbani2020].

    It is the accuracy lost when the filter is ablated after all before it in an order, averaged over all orders of the
    filters. Here the orders are drawn at random, and each ends where the accuracy is within a point of chance: filters
    after that lose nothing. A filter that may not be ablated scores 0.

    Raises:
        InputError: the budget has fewer than two permutations.
    """
    permutations = evidence.budget.permutations
    require_whole("budget.permutations", permutations, 2)
    positions_K, rng = _ablatable(evidence), np.random.default_rng(evidence.seed)
    orders_PK = np.array([rng.permutation(positions_K) for _ in range(permutations)])
    accuracy_PA = np.full((permutations, len(positions_K) + 1), np.nan)  # after 0 to K ablations
    accuracy_PA[:, 0] = _measured(evidence, evidence.few, [positions_K[:0]])[1]
    tipped_PA = accuracy_PA <= _floor(evidence)
    for start in range(0, len(positions_K), TOGETHER):
        going = np.flatnonzero(~tipped_PA[:, : start + 1].any(1))
        counts = np.arange(start, len(positions_K))[:TOGETHER] + 1
        if len(going):
            _, accuracy_A = _measured(evidence, evidence.few, [orders_PK[p, :count] for p in going for count in counts])
            accuracy_PA[np.ix_(going, counts)] = accuracy_A.reshape(len(going), -1)
            tipped_PA = accuracy_PA <= _floor(evidence)
    over_PK = np.logical_or.accumulate(tipped_PA, 1)[:, :-1]
    lost_PF = np.zeros((permutations, len(evidence.filters.ablatable_F)))
    np.put_along_axis(lost_PF, orders_PK, np.where(over_PK, 0, -np.diff(accuracy_PA)), 1)
    return Scores(lost_PF.mean(0), lost_PF.std(0, ddof=1) / np.sqrt(permutations))


def greedy_forward(evidence: Evidence) -> np.ndarray:
    """Return the place of each filter in a greedy order, counted from its end: (F,) [nemhauser1978].

    The filter whose ablation raises the mean loss of `few` images the most, together with those already ablated, goes
    next; this ends when the accuracy is within a point of chance, or with the removals of the budget. All others follow
    by the loss when they were last tried. A filter that may not be ablated scores 0.

    Raises:
        InputError: the budget has no removals.
    """
    require_whole("budget.removals", evidence.budget.removals, 1)
    rest_K, order, accuracy = _ablatable(evidence), list[int](), np.inf
    while len(rest_K) and len(order) < evidence.budget.removals and accuracy > _floor(evidence):
        loss_K, accuracy_K = _measured(evidence, evidence.few, [np.array([*order, f]) for f in rest_K.tolist()])
        rest_K = rest_K[by_loss := np.argsort(-loss_K, kind="stable")]
        order.append(int(rest_K[0]))
        rest_K, accuracy = rest_K[1:], float(accuracy_K[by_loss[0]])
    place_F = np.zeros(len(evidence.filters.ablatable_F))
    order += rest_K.tolist()
    place_F[order] = np.arange(len(order), 0, -1)
    return place_F


def _ablatable(evidence: Evidence) -> np.ndarray:
    """Return the positions of the filters that may be ablated: (K,)."""
    positions_K = np.flatnonzero(evidence.filters.ablatable_F)
    if not len(positions_K):
        raise InputError("no filter may be ablated: leave selectors by ablation out, or give protocol.sites=conv+dense")
    return positions_K


def _floor(evidence: Evidence) -> float:
    """Return the accuracy at which nothing is left to lose."""
    return chance_of(evidence.few) + NEAR_CHANCE


def _measured(evidence: Evidence, images: Split, ablations: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss, in nats, and the accuracy of images under each ablation: (A,) and (A,)."""
    evaluated = evaluate_losses(evidence.filters, images, ablations, **evidence.manner)
    if not np.isfinite(evaluated.losses_AN).all():
        raise InputError("the network's losses are not finite under ablations: leave selectors by ablation out")
    right_AN = evaluated.predictions_AN == images.labels_N.cpu().numpy()
    return evaluated.losses_AN.mean(1, dtype=float), right_AN.mean(1)
