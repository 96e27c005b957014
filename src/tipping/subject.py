"""A network under a protocol: its responses, its relevant filters, and how these are ablated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tipping import config
from tipping.ablation import ablated
from tipping.controls import Draws
from tipping.data import Dataset, Split
from tipping.errors import InputError
from tipping.filters import Filters
from tipping.layers import evaluating
from tipping.mu_lasso import MuLassoProblem, Solution, homotopy, spg
from tipping.responses import (
    Measure,
    collect,
    find_or_average,
    find_or_collect,
    find_or_collect_parts,
    mean_activations,
    response_batches,
)
from tipping.selection import Selection, select_each
from tipping.store import Item, Store, digest

TRIED = 4  # images


@dataclass(frozen=True)
class Subject:
    """A network, and how the configured protocol treats it.

    Attributes:
        filters: what of it is measured and ablated.
        weights: a digest of its tensors, and of what it makes of some images.
        options: of the job.
        train: the images it is measured on.
    """

    filters: Filters
    weights: str
    options: config.Config
    train: Split

    @classmethod
    def of(cls, model: nn.Module, dataset: Dataset, options: config.Config) -> Subject:
        """A network as it is now.

        Raises:
            InputError: it has no filters of the kind wanted.
        """
        protocol, image_1CHW = options.protocol, dataset.train.images_NCHW[:1]
        only = options.model.get("layers")
        filters = Filters.of(
            model, image_1CHW, maps=protocol.maps, dense=protocol.dense, sites=protocol.sites, only=only
        )
        with evaluating(model), torch.no_grad():  # other code may make something else of the same weights
            logits_NC = model(dataset.train.images_NCHW[:TRIED].clone())
        return cls(filters, digest({**model.state_dict(), "logits": logits_NC}), options, dataset.train)

    def check(self) -> None:
        """Try on an image whether the network can be measured and ablated as the protocol says.

        Raises:
            InputError: it cannot.
        """
        protocol, everything = self.options.protocol, np.arange(len(self.filters.ablatable_F))
        try:
            with ablated(self.filters, everything, scope=protocol.scope), torch.no_grad():
                next(iter(response_batches(self.filters, self.train[:1], self.measure)))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"protocol={protocol.name} does not suit the network: {error}") from error

    @property
    def measure(self) -> Measure:
        """What is measured of it."""
        protocol = self.options.protocol
        return Measure(protocol.norm, protocol.labels, self.options.seed)

    def responses(self, store: Store) -> tuple[MuLassoProblem, Item]:
        """The mu-lasso problem of its responses: from the store, or collected now and kept there."""
        return find_or_collect(self.filters, self.weights, self.train, store, self.measure)

    def responses_of_parts(self, store: Store) -> list[MuLassoProblem]:
        """The same of twenty parts of the images."""
        return find_or_collect_parts(self.filters, self.weights, self.train, store, self.measure)

    def fresh_responses(self) -> MuLassoProblem:
        """The mu-lasso problem of its responses, collected now."""
        return collect(self.filters, self.train, self.measure)

    @property
    def draws(self) -> Draws:
        """The controls of its selections."""
        protocol = self.options.protocol
        return Draws(protocol.draws, protocol.control, self.options.seed)

    def select(self, problem: MuLassoProblem) -> Selection:
        """Select at the configured mu."""
        return self.select_each(problem, [self.options.mu])[0]

    def select_each(self, problem: MuLassoProblem, mu: Sequence[float]) -> list[Selection]:
        """Select at several mu in place of the configured one, by the configured solver."""
        return select_each(problem, self.filters, mu, solver=self.solve, draws=self.draws)

    def solve(self, problem: MuLassoProblem, mu: Sequence[float]) -> Solution:
        """The solutions at some mu, by the configured solver.

        Raises:
            InputError: ties between filters lead homotopy's path in circles.
        """
        options = self.options.selection
        if options.solver == "homotopy":
            try:
                return homotopy(problem, largest_mu=max(mu)).solution(mu, tolerance=options.tolerance)
            except ArithmeticError as error:
                raise InputError(f"selection=homotopy: {error}") from error
        assert options.max_iterations is not None, "checked in config"
        return spg(problem, mu, tolerance=options.tolerance, max_iterations=options.max_iterations)

    def manner(self, store: Store | None = None) -> dict[str, Any]:
        """How `ablated` ablates its filters; means of activations are from the store, if there is one."""
        protocol, value = self.options.protocol, None
        if protocol.value == "mean" and store:
            value = find_or_average(self.filters, self.weights, self.train, store)
        elif protocol.value == "mean":
            value = mean_activations(self.filters, self.train)
        return {"value": value, "scope": protocol.scope}
