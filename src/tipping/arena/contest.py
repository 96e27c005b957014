"""The contest of selectors on one network: each scores the filters, and what they score highest is removed or kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tipping.ablation import evaluate_ablations
from tipping.arena.classes import ByClass, counts_by_class, sets_by_class
from tipping.arena.lines import Lines, measure_lines
from tipping.arena.orders import counts_along, layer_matched_order, within_layers
from tipping.data import Split
from tipping.errors import InputError
from tipping.selection import Draws, Selection, selections, with_controls
from tipping.selectors import Evidence, Scores, own_order, score, ties_of

OWN, MATCHED = "own", "matched"
RANDOM = {"random": OWN, "random_layer": MATCHED, "random_live": MATCHED, "random_norm": MATCHED}  # by their orders


class Result(NamedTuple):
    """The result of a selector, or of random orders.

    Attributes:
        scores: the scores; None of random orders.
        seconds: how long they take by themselves.
        lines: the curves by kind of order.
        classes: the predictions without the filters of each class; None where the selector does not tell classes apart.
    """

    scores: Scores | None
    seconds: float
    lines: dict[str, Lines]
    classes: ByClass | None = None


@dataclass(frozen=True)
class Arena:
    """The rules of a contest on one network, the same for all selectors.

    Attributes:
        evidence: what selectors score filters by: the network and training images.
        images: the images on which accuracy is measured.
        draws: the number of random orders.
        scaled: whether scores are divided by the norm of their layer's.
    """

    evidence: Evidence
    images: Split
    draws: int = 5
    scaled: bool = False

    @cached_property
    def reference(self) -> Selection:
        """The relevant filters by the mu-lasso at mu, with which orders are matched.

        Raises:
            InputError: no filter is relevant.
        """
        evidence, mu = self.evidence, [self.evidence.mu]
        (chosen,) = selections(evidence.responses.problem, evidence.filters, mu, evidence.path.solution(mu))
        if not len(chosen.order_K):
            raise InputError(
                f"mu={evidence.mu:g}: no filter is relevant, so there is nothing to match; give a larger mu"
            )
        return chosen

    def orders(self, scores: Scores) -> dict[str, list[np.ndarray]]:
        """Return the orders of a selector: its own over all layers, and the one matched with the mu-lasso's filters."""
        index, score_F = self.evidence.filters.index, scores.overall_F
        if self.scaled:
            score_F = within_layers(score_F, index.layer_F)
        order_A = own_order(score_F, self.evidence.filters.ablatable_F, ties_of(self.evidence.seed))
        return {OWN: [order_A], MATCHED: [layer_matched_order(order_A, self.reference.order_K, index.layer_F)]}

    def random_orders(self, name: str) -> dict[str, list[np.ndarray]]:
        """Return random orders, by a name in `RANDOM`: of any layer, or as the random controls of the mu-lasso."""
        evidence = self.evidence
        if name == "random":
            rng = np.random.default_rng((evidence.seed, 4))
            everything = np.flatnonzero(evidence.filters.ablatable_F)
            return {OWN: [rng.permutation(everything) for _ in range(self.draws)]}
        draws = Draws(self.draws, name.removeprefix("random_"), evidence.seed)
        drawn = with_controls(self.reference, evidence.filters, evidence.mu, draws)
        return {MATCHED: drawn.controls}

    def play(self, name: str) -> Result:
        """Let a selector score, or draw random orders, and measure the curves.

        Raises:
            InputError: the selector does not suit the network.
        """
        scores, seconds = (
            (None, 0.0) if name in RANDOM else self.evidence.clock.alone(lambda: score(name, self.evidence))
        )
        orders = self.orders(scores) if scores else self.random_orders(name)
        lines = {kind: self.measure(some) for kind, some in orders.items()}
        return Result(scores, seconds, lines, self.measure_classes(scores) if OWN in orders else None)

    def measure_classes(self, scores: Scores | None) -> ByClass | None:
        """Predict without as many filters of each class as the mu-lasso has for it: those with the largest scores.

        Args:
            scores: the scores; None for random filters.

        Returns:
            the predictions; None where the scores do not tell classes apart.
        """
        evidence = self.evidence
        ablatable_F = evidence.filters.ablatable_F
        counts = counts_by_class(self.reference, evidence.filters)
        sets = sets_by_class(scores, counts, ablatable_F, self.draws, evidence.seed)
        if sets is None:
            return None
        every = [gone for some in sets for gone in some]
        predictions_AN = evaluate_ablations(evidence.filters, self.images, every, **evidence.manner)
        return ByClass(np.array(list(counts)), predictions_AN.reshape(len(counts), -1, len(self.images)))

    def measure(self, orders: Sequence[np.ndarray]) -> Lines:
        """Measure accuracy and loss along orders of the same length."""
        relevant = len(self.reference.order_K)
        counts = counts_along(len(orders[0]), min(relevant, len(orders[0])))
        return measure_lines(self.evidence.filters, self.images, orders, counts, **self.evidence.manner)
