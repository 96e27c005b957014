"""At which mu does a network tip? A search for each network: python sweeps/tipping_point.py seed=0,1,2

Each evaluation is a job of interpret.py, in its own folder under that of the network; called again, it goes on where it
was. Its storage is open to `optuna-dashboard`.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import interpret  # noqa: E402

from tipping import command, data, models, networks, records, report, tipping_map  # noqa: E402
from tipping.bracketing import Bracketing, breakpoints  # noqa: E402
from tipping.classifier import find_or_train, pick_device  # noqa: E402
from tipping.config import Config, Search, parse, split_off  # noqa: E402
from tipping.errors import InputError, require  # noqa: E402
from tipping.evaluation import accuracies, chance_of, find_or_predict  # noqa: E402
from tipping.mu_lasso import homotopy  # noqa: E402
from tipping.search import (  # noqa: E402
    EXCESS,
    BracketingSampler,
    find_again,
    key_of,
    known,
    open_study,
    work,
)
from tipping.stability import on_halves, stability  # noqa: E402
from tipping.store import Store  # noqa: E402
from tipping.subject import Subject  # noqa: E402


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="tipping_point")
def search(composed: DictConfig) -> None:
    """Network → its breakpoints and level → evaluations, until accuracy crosses between two neighbouring supports."""
    plain, options = split_off(composed, Search)
    config = parse(plain)
    given = [option for option in HydraConfig.get().overrides.task if option.lstrip("+").startswith("mu=")]
    require(not given, "mu", config.mu, "the search chooses it; give search.low and search.high")
    key = key_of(config, options.low, options.high, options.grid, options.precision)
    directory = Path(HydraConfig.get().sweep.dir) / f"{config.model['name']},seed={config.seed},{key}"
    directory.mkdir(parents=True, exist_ok=True)
    network = Network.of(config, options)
    study = open_study(options.storage, directory, network.subject.weights)

    def evaluate(chosen: dict[str, float]) -> tuple[float, dict[str, float]]:
        folder, own = directory / networks.EVALUATIONS / f"{chosen['mu']!r}", replace(config, mu=chosen["mu"])
        folder.mkdir(parents=True, exist_ok=True)
        record = records.read_own(folder, own, interpret.CONF) or interpret.job(own, folder)
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
    def of(cls, config: Config, options: Search) -> "Network":
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


if __name__ == "__main__":
    command.run(search, gather=report.after(tipping_map.gather))
