"""A network under a protocol: its responses, its relevant filters and their ablation, and the results it caches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tipping.ablation import ablated, evaluate_ablations
from tipping.data import Dataset, Split
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.reached import mu_at
from tipping.experiment.store import Item, Store
from tipping.files import digest
from tipping.mu_lasso import MuLassoProblem, Reach, Solution, followed_quickly, homotopy, spg
from tipping.network import Filters, evaluating
from tipping.selection import (
    Draws,
    Measure,
    Selection,
    collect,
    mean_activations,
    require_memory,
    response_batches,
    select_each,
)
from tipping.selectors import DEFAULT_BUDGET, MU_LASSO, Budget, Evidence, chosen_by, require_selector, score
from tipping.visualize import Backward, Strongest, strongest_images

TRIED = 4  # images whose logits are part of the digest of a network
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A network under the protocol of a job.

    Attributes:
        filters: the filters that are measured and ablated.
        weights: a digest of the network's tensors, and of its logits for some images.
        options: the options of the job.
        train: the images on which the filters are measured.
    """

    filters: Filters
    weights: str
    options: config.Config
    train: Split

    @classmethod
    def from_options(cls, model: nn.Module, dataset: Dataset, options: config.Config) -> Subject:
        """Return the subject of a network, with the weights that the network has now.

        Args:
            model: the network.
            dataset: the data set whose training images the filters are measured on.
            options: the options of the job.

        Raises:
            InputError: the network has no filters of the kind that the options ask for.
        """
        protocol, image_1CHW = options.protocol, dataset.train[:1].images_NCHW
        only = options.model.get("layers")
        filters = Filters.of(
            model, image_1CHW, maps=protocol.maps, dense=protocol.dense, sites=protocol.sites, only=only
        )
        with evaluating(model), torch.no_grad():  # other code may compute other logits from the same weights
            logits_NC = model(dataset.train[:TRIED].images_NCHW.clone())
        weights = digest({**model.state_dict(), "logits": logits_NC})
        return cls(filters, weights, options, dataset.train.spread(options.data.responses))

    def check(self) -> None:
        """Check with one image that the network can be measured and ablated under the protocol.

        Raises:
            InputError: the protocol does not suit the network, its filters are more than memory allows for, or there is
                no such selector.
        """
        require_selector(self.options.selector)
        require_memory(self.filters, self.options.selection.memory, self.options.selection.gram)
        protocol, everything = self.options.protocol, np.arange(len(self.filters.ablatable_F))
        try:
            with ablated(self.filters, everything, scope=protocol.scope), torch.no_grad():
                next(iter(response_batches(self.filters, self.train[:1], self.measure)))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"protocol={protocol.name} does not suit the network: {error}") from error

    @property
    def measure(self) -> Measure:
        """The measure of the filters' responses."""
        protocol = self.options.protocol
        return Measure(protocol.norm, protocol.labels, self.options.seed, self.options.selection.gram, protocol.scale)

    def responses(self, store: Store) -> tuple[MuLassoProblem, Item]:
        """Return the mu-lasso problem of the responses, and its item of the store; a new problem is kept there.

        If the job draws pictures, the images with the largest responses are found in the same pass, and kept too.

        Raises:
            InputError: a response is not finite, or the stored problem cannot be read.
        """
        strongest = Strongest(config.MOST_IMAGES)
        watch = strongest.add if self.options.visualize.enabled else None

        def make() -> dict[str, Tensor]:
            return collect(self.filters, self.train, self.measure, watch).products()

        item = store.fetch("responses", self._recipe(**self.measure.recipe(self.filters)), make)
        log.info("responses %s: %s", item.key, "found in the store" if item.existed else "collected")
        if watch and not item.existed:
            self._keep_strongest(store, strongest.on_cpu)
        try:
            problem = MuLassoProblem(**item.tensors, positive=self.options.selection.positive)
        except ValueError as error:
            raise InputError(f"{item.path}: {error}; delete it, and the next job makes it anew") from error
        return problem.to(self.train.labels_N.device), item

    def responses_of_parts(self, store: Store, parts: int = 20) -> list[MuLassoProblem]:
        """Return the mu-lasso problems of equal parts of the images; new problems are kept in the store.

        Args:
            store: the store.
            parts: the number of parts; part p has the images p, p + parts, p + 2 parts, …
        """

        def make() -> dict[str, Tensor]:
            each = [collect(self.filters, self.train[start::parts], self.measure).products() for start in range(parts)]
            return {name: torch.stack([problem[name] for problem in each]) for name in each[0]}

        tensors = store.fetch("parts", self._recipe(parts=parts, **self.measure.recipe(self.filters)), make).tensors
        problems = [dict(zip(tensors, part, strict=True)) for part in zip(*tensors.values(), strict=True)]
        positive, device = self.options.selection.positive, self.train.labels_N.device
        return [MuLassoProblem(**problem, positive=positive).to(device) for problem in problems]

    def strongest(self, count: int, store: Store | None = None) -> tuple[Tensor, Tensor]:
        """Return the training images on which each response is largest, and the responses, both (count, R).

        Args:
            count: the number of images for each response.
            store: keeps the largest number of images that a picture takes; None to find the images anew.
        """

        def find() -> tuple[Tensor, Tensor]:
            return strongest_images(self.filters, self.train, config.MOST_IMAGES, self._unlabelled)

        images_KR, values_KR = self._keep_strongest(store, find) if store else find()
        return images_KR[:count], values_KR[:count]

    @property
    def _unlabelled(self) -> Measure:
        """The measure of the strongest responses, for which labels do not matter."""
        return replace(self.measure, labels="true")

    def _keep_strongest(self, store: Store, find: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the strongest images and responses that the store keeps: what `find` returns, if there were none."""
        recipe = self._recipe(count=config.MOST_IMAGES, **self._unlabelled.recipe(self.filters))
        tensors = store.fetch("strongest", recipe, lambda: dict(zip(("images", "values"), find(), strict=True))).tensors
        return tensors["images"], tensors["values"]

    def means(self, store: Store) -> Tensor:
        """Return the mean activations of the filters; new ones are kept in the store."""
        recipe = self._recipe(maps=list(self.filters.sites.items()))
        item = store.fetch("means", recipe, lambda: {"means": mean_activations(self.filters, self.train)})
        return item.tensors["means"].to(next(self.filters.model.parameters()))

    def intact(self, split: Split, store: Store) -> np.ndarray:
        """Return the predictions (N,) of the intact network for some images; new ones are kept in the store."""

        def make() -> dict[str, Tensor]:
            (predictions_N,) = evaluate_ablations(self.filters, split, [np.array([], dtype=int)])
            return {"predictions": torch.from_numpy(predictions_N)}

        recipe = {"weights": self.weights, "images": split.fingerprint}
        return store.fetch("predictions", recipe, make).tensors["predictions"].numpy()

    def _recipe(self, **more: Any) -> dict[str, Any]:
        """Return the recipe of a result for the training images, with further entries."""
        return {"weights": self.weights, "images": self.train.fingerprint, **more}

    def fresh_responses(self) -> MuLassoProblem:
        """Collect the mu-lasso problem of the responses anew, without a store."""
        return collect(self.filters, self.train, self.measure).non_negative(self.options.selection.positive)

    @property
    def draws(self) -> Draws:
        """The random controls of selections."""
        protocol = self.options.protocol
        return Draws(protocol.draws, protocol.control, self.options.seed)

    def select(self, problem: MuLassoProblem) -> Selection:
        """Select the relevant filters at the configured mu."""
        return self.select_each(problem, [self.options.mu])[0]

    def reach(self, problem: MuLassoProblem, store: Store) -> Reach | None:
        """Return between which mu the mu-lasso says something, by its exact path; a new answer is kept in the store.

        Returns:
            the reach; None where following the path would take long and mu is a number, in float32, whose rounding
            hides the end, and where ties lead the path in circles.
        """
        asked = isinstance(self.options.mu, str)
        if self.measure.gram != "float64" or not (asked or followed_quickly(problem)):
            return None

        def make() -> dict[str, Tensor]:
            try:
                reach = Reach.from_path(homotopy(problem))
            except ArithmeticError:
                reach = Reach(math.nan, np.full(problem.cross_FC.shape[1], math.nan))
            return {"first": torch.tensor(reach.first), "saturation": torch.from_numpy(reach.saturation_C)}

        recipe = self._recipe(positive=problem.positive, **self.measure.recipe(self.filters))
        tensors = store.fetch("reach", recipe, make).tensors
        first = float(tensors["first"])
        return None if math.isnan(first) else Reach(first, tensors["saturation"].numpy())

    def at_mu(self, reach: Reach | None) -> Subject:
        """Return the subject with mu as a number, where the options have it as a share of the way.

        Raises:
            InputError: the way is not known, or there is none.
        """
        share = self.options.mu
        if not isinstance(share, str):
            return self
        mu = mu_at(share, reach)
        log.info("mu=%s of the way on the path: %g", share, mu)
        return replace(self, options=replace(self.options, mu=mu))

    def select_each(self, problem: MuLassoProblem, mu: Sequence[float]) -> list[Selection]:
        """Select the relevant filters at each of several values of mu, by the configured solver and selector.

        Raises:
            InputError: the selector does not suit the network.
        """
        each, name = select_each(problem, self.filters, mu, solver=self.solve, draws=self.draws), self.options.selector
        if name == MU_LASSO:
            return each
        return [
            chosen_by(score(name, self.evidence(value)), selection, self.filters, value, self.draws)
            for selection, value in zip(each, mu, strict=True)
        ]

    def evidence(self, mu: float, budget: Budget = DEFAULT_BUDGET, store: Store | None = None) -> Evidence:
        """Return the evidence by which selectors score the filters.

        Args:
            mu: the L1 radius of the mu-lasso.
            budget: what selectors may spend that ablate filters.
            store: keeps mean activations; None to measure them anew.
        """
        manner = self.manner(store)
        return Evidence(
            self.filters, self.train, mu, self.options.seed, self.measure, manner["value"], manner["scope"], budget
        )

    def solve(self, problem: MuLassoProblem, mu: Sequence[float]) -> Solution:
        """Solve the mu-lasso at several values of mu, by the configured solver.

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

    @property
    def backward(self) -> Backward:
        """The rules by which signals go back, for pictures."""
        options = self.options.visualize
        resample = "none" if options.resample == "none" else "nearest"
        return Backward(tuple(options.rules), options.seed, resample, options.pooling)

    def manner(self, store: Store | None = None) -> dict[str, Any]:
        """Return the keyword arguments with which `ablated` ablates the filters.

        Args:
            store: keeps mean activations; None to measure them anew.
        """
        protocol, value = self.options.protocol, None
        if protocol.value == "mean" and store:
            value = self.means(store)
        elif protocol.value == "mean":
            value = mean_activations(self.filters, self.train)
        return {"value": value, "scope": protocol.scope}
