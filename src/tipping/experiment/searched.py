"""A network whose tipping point is searched: its level, and the values of mu at which its relevant filters change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch

from tipping.ablation import accuracies, chance_of
from tipping.errors import InputError
from tipping.experiment.config import Config
from tipping.experiment.network import find_or_train, load_dataset_and_model, warn_near_chance
from tipping.experiment.search_options import SearchOptions
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.mu_lasso import SolutionPath, homotopy
from tipping.selection import on_halves, stability
from tipping.tipping_points import Bracketing, breakpoints


@dataclass(frozen=True)
class Searched:
    """A trained network whose tipping point is searched.

    Attributes:
        subject: the network under its protocol.
        store: the store of the network and its responses.
        path: the solutions of the mu-lasso at every mu.
        level: the accuracy midway between intact and chance.
        bracketing: the search, with the values of mu at which the relevant filters change as breakpoints.
        saturation: the mu from which the bound no longer binds.
    """

    subject: Subject
    store: Store
    path: SolutionPath
    level: float
    bracketing: Bracketing
    saturation: float

    @classmethod
    def from_options(cls, config: Config, options: SearchOptions, device: torch.device) -> Searched:
        """Return the network of a job's options, trained if the store does not hold its weights.

        Args:
            config: the options of the job.
            options: the options of the search.
            device: the device of the network and the images.

        Raises:
            InputError: ties between filters hide where the relevant filters change.
        """
        store, (dataset, model) = Store(config.store.dir), load_dataset_and_model(config, device)
        find_or_train(model, dataset, config, store)
        subject, images = Subject.from_options(model, dataset, config), dataset.split(config.protocol.evaluated_on)
        problem, _ = subject.responses(store)
        (intact,) = accuracies(subject.intact(images, store)[None], images.labels_N)
        warn_near_chance(model, config, intact, chance_of(images))
        try:
            path = homotopy(problem, options.high)
        except ArithmeticError as error:
            raise InputError(f"{config.model['name']}: its breakpoints cannot be told: {error}") from error
        edges = breakpoints(path, subject.filters.filter_R, options.low)
        bracketing = Bracketing(options.low, options.high, options.grid, options.precision, edges)
        saturation = float(problem.saturation().max())
        return cls(subject, store, path, (intact + chance_of(images)) / 2, bracketing, saturation)

    def facts(self, known: dict[float, float]) -> dict[str, Any]:
        """Return further facts for the note of the search: the level, the saturation mu, and stability.

        Stability is that of the selection at the first crossing, if there is a crossing: Nogueira's index over live
        filters, and the frequency with which each filter is selected.

        Args:
            known: accuracy minus the level at each mu evaluated.
        """
        facts: dict[str, Any] = {"level": self.level, "saturation_mu": self.saturation}
        crossings = self.bracketing.brackets(known)
        if crossings:
            filter_R, parts = self.subject.filters.filter_R, self.subject.responses_of_parts(self.store)
            chosen_MF = on_halves(parts, crossings[0].at, filter_R, np.random.default_rng(0))
            live_R = ~reduce(add, parts).dead_F()
            index = stability(chosen_MF[:, np.bincount(filter_R, weights=live_R) > 0])
            facts["stability"] = None if np.isnan(index) else index
            facts["selection_frequencies"] = chosen_MF.mean(0).tolist()
        return facts
