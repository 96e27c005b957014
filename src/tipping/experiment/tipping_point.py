"""The job of sweeps/tipping_point.py: the search for the mu at which one network tips."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from tipping import data, models, networks, records
from tipping.bracketing import Bracketing, breakpoints
from tipping.classifier import find_or_train, pick_device
from tipping.config import Config, Search
from tipping.errors import InputError
from tipping.evaluation import accuracies, chance_of, find_or_predict
from tipping.experiment import interpret
from tipping.mu_lasso import homotopy
from tipping.search import EXCESS, BracketingSampler, find_again, key_of, known, open_study, work
from tipping.stability import on_halves, stability
from tipping.store import Store
from tipping.subject import Subject


def job(config: Config, options: Search, sweep: Path, conf: Path) -> None:
    """Network → its breakpoints and level → evaluations, until accuracy crosses between two neighbouring supports.

    Args:
        sweep: the folder of searches, which gets one for this network.
        conf: the folder of the presets.
    """
    key = key_of(config, options.low, options.high, options.grid, options.precision)
    directory = sweep / f"{config.model['name']},seed={config.seed},{key}"
    directory.mkdir(parents=True, exist_ok=True)
    network = Network.of(config, options)
    study = open_study(options.storage, directory, network.subject.weights)

    def evaluate(chosen: dict[str, float]) -> tuple[float, dict[str, float]]:
        folder, own = directory / networks.EVALUATIONS / f"{chosen['mu']!r}", replace(config, mu=chosen["mu"])
        folder.mkdir(parents=True, exist_ok=True)
        record = records.read_own(folder, own, conf) or interpret.job(own, folder, conf)
        excess = record["accuracy"]["selected"] - network.level
        return abs(excess), {EXCESS: excess}

    sampler = BracketingSampler(network.bracketing)
    with found_again():
        find_again(study, evaluate, directory)
        work(study, {"mu": (options.low, options.high)}, evaluate, lambda _: sampler, directory, options.trials)
    networks.write_search(directory, network.bracketing, known(study), **network.facts(known(study)))


@contextmanager
def found_again() -> Iterator[None]:
    """Each evaluation would say that it found its network and responses in the store."""
    rooms = [logging.getLogger(f"tipping.{room}") for room in ("classifier", "responses")]
    for room in rooms:
        room.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for room in rooms:
            room.setLevel(logging.NOTSET)


@dataclass(frozen=True)
class Network:
    """A network, trained now or before: the accuracy midway between intact and chance, and where its relevant filters
    change."""

    subject: Subject
    store: Store
    level: float
    bracketing: Bracketing
    saturation: float

    @classmethod
    def of(cls, config: Config, options: Search) -> Network:
        store, dataset = Store(config.store.dir), data.load(config.data, pick_device(config.device))
        model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)
        find_or_train(model, dataset, config, store)
        subject, images = Subject.of(model, dataset, config), dataset.split(config.protocol.evaluated_on)
        problem, _ = subject.responses(store)
        (intact,) = accuracies(find_or_predict(model, subject.weights, images, store)[None], images.labels_N)
        try:
            edges = breakpoints(homotopy(problem, options.high), subject.probe.filter_R, options.low)
        except ArithmeticError as error:
            raise InputError(f"{config.model['name']}: its breakpoints cannot be told: {error}") from error
        bracketing = Bracketing(options.low, options.high, options.grid, options.precision, edges)
        saturation = float(problem.saturation().max())
        return cls(subject, store, (intact + chance_of(images)) / 2, bracketing, saturation)

    def facts(self, known: dict[float, float]) -> dict[str, Any]:
        """What the table has besides: the level, saturation mu, and how stable the selection is at the first crossing:
        Nogueira's index over live filters, and how often each filter is selected."""
        facts: dict[str, Any] = {"level": self.level, "saturation_mu": self.saturation}
        crossings = self.bracketing.brackets(known)
        if crossings:
            filter_R, parts = self.subject.probe.filter_R, self.subject.responses_of_parts(self.store)
            chosen_MF = on_halves(parts, crossings[0].at, filter_R, np.random.default_rng(0))
            live_R = ~reduce(add, parts).dead_F()
            index = stability(chosen_MF[:, np.bincount(filter_R, weights=live_R) > 0])
            facts["stability"] = None if np.isnan(index) else index
            facts["selection_frequencies"] = chosen_MF.mean(0).tolist()
        return facts
