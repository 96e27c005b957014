"""The evidence that selectors score filters by: a network, its training images, and what passes over them give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tipping.data import Split
from tipping.errors import InputError
from tipping.mu_lasso import MuLassoProblem, SolutionPath, homotopy
from tipping.network import Filters
from tipping.selection import PLAIN, Measure, by_filter, response_batches
from tipping.selectors.passes import Activations, Gradients, activations_of, gradients_of
from tipping.selectors.timing import Clock, shared_property


class Responses(NamedTuple):
    """The responses of filters to images, and what they are to explain.

    Attributes:
        problem: the mu-lasso problem of the responses.
        responses_NR: X, L1-normalised at each place measured: float32.
        labels_N: the class of each image, as the measure has it.
    """

    problem: MuLassoProblem
    responses_NR: np.ndarray
    labels_N: np.ndarray


class Budget(NamedTuple):
    """What selectors may spend that ablate filters.

    Attributes:
        images: training images, evenly spread, on which sets of filters are ablated, for greedy selection and Shapley
            values.
        single_images: those on which each filter is ablated alone, or is attributed to.
        permutations: orders in which filters are removed, for Shapley values.
        removals: filters that greedy selection removes one by one.
    """

    images: int = 200
    single_images: int = 2000
    permutations: int = 20
    removals: int = 40


DEFAULT_BUDGET = Budget()
MOST = 8e9  # bytes of responses that are held


@dataclass(frozen=True)
class Evidence:
    """The evidence that all selectors share: each part is computed when one first asks for it, and kept.

    Attributes:
        filters: the filters of the network.
        images: training images.
        mu: the L1 radius of the mu-lasso, for each class.
        seed: the seed of whatever a selector draws.
        measure: the measure of the responses.
        value, scope: how filters are ablated, as in `ablated`.
        budget: what selectors may spend that ablate filters.
        clock: knows what each part took, so that the time of a selector has that of the parts that it uses.
    """

    filters: Filters
    images: Split
    mu: float = 100
    seed: int = 0
    measure: Measure = PLAIN
    value: Tensor | None = None
    scope: str = "filter"
    budget: Budget = DEFAULT_BUDGET
    clock: Clock = field(default_factory=Clock, compare=False, repr=False)

    @shared_property
    def responses(self) -> Responses:
        """The responses to all images, from one pass.

        Raises:
            InputError: they would take more memory than `MOST`.
        """
        size = 4 * len(self.images) * len(self.filters.filter_R)
        if size > MOST:
            raise InputError(
                f"responses of {len(self.filters.filter_R)} filters to {len(self.images)} images take "
                f"{size / 1e9:.1f} GB, and {MOST / 1e9:g} are the most: give fewer images (data.responses)"
            )
        kept: list[tuple[Tensor, Tensor]] = []

        def keeping(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
            for responses_NR, onehot_NC in batches:
                kept.append((responses_NR.float().cpu(), onehot_NC.argmax(1).cpu()))
                yield responses_NR, onehot_NC

        with torch.no_grad(), closing(response_batches(self.filters, self.images, self.measure)) as batches:
            problem = MuLassoProblem.stream(keeping(batches), torch.float64)
        responses, labels = (torch.cat(parts).numpy() for parts in zip(*kept, strict=True))
        return Responses(problem, responses, labels)

    @shared_property
    def activations(self) -> Activations:
        """The statistics of activations where filters are ablated, from one pass."""
        return activations_of(self.filters, self.images)

    @shared_property
    def gradients(self) -> Gradients:
        """The statistics of gradients where filters are ablated, from one pass forward and back."""
        return gradients_of(self.filters, self.images)

    @shared_property
    def path(self) -> SolutionPath:
        """The exact solutions of the mu-lasso at every mu up to `mu`.

        Raises:
            InputError: ties between filters lead the path in circles.
        """
        return self.path_to(self.mu)

    def path_to(self, mu: float, positive: bool = False) -> SolutionPath:
        """Return the exact solutions of the mu-lasso at every mu up to one, which may be infinite; raise as `path`.

        Args:
            positive: whether weights must be at least 0.
        """
        try:
            return homotopy(self.responses.problem.non_negative(positive), largest_mu=mu)
        except ArithmeticError as error:
            raise InputError(f"the path of the mu-lasso cannot be followed: {error}") from error

    @cached_property
    def few(self) -> Split:
        """The images on which many ablations are measured."""
        return self.images.spread(self.budget.images).in_memory()

    @property
    def several(self) -> Split:
        """The images on which each filter is ablated alone, or is attributed to: fewer would say little of it."""
        return self.images.spread(self.budget.single_images)

    @property
    def manner(self) -> dict[str, Any]:
        """How filters are ablated, as keyword arguments of `ablated` and `evaluate_ablations`."""
        return {"value": self.value, "scope": self.scope}

    def by_filter(self, values_R: np.ndarray) -> np.ndarray:
        """Sum values (R,) or (R, C) over the responses of each filter: (F,) or (F, C)."""
        return by_filter(values_R, self.filters)
