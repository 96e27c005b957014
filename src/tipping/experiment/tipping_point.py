"""The job of sweeps/tipping_point.py: the search for the mu at which one network tips."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tipping.experiment import interpret
from tipping.experiment.config import Config, search_key
from tipping.experiment.network import pick_device
from tipping.experiment.record import InterpretRecord
from tipping.experiment.search_note import EVALUATIONS, folder_name, write_search
from tipping.experiment.search_options import SearchOptions
from tipping.experiment.searched import Searched
from tipping.experiment.standing import read_matching
from tipping.tipping_points.study import EXCESS, BracketingSampler, find_again, known, open_study, work


def job(config: Config, options: SearchOptions, sweep: Path, conf: Path) -> None:
    """Run the search: network → breakpoints and level → evaluations, until each crossing is between two breakpoints.

    Args:
        config: the options of the job; the search chooses mu.
        options: the options of the search.
        sweep: the folder of searches; this search gets a folder there.
        conf: the folder of the presets.
    """
    key = search_key(config, options.low, options.high, options.grid, options.precision)
    directory = sweep / folder_name(config.model["name"], f"seed={config.seed}", key)
    directory.mkdir(parents=True, exist_ok=True)
    network = Searched.from_options(config, options, pick_device(config.device))
    study = open_study(options.storage, directory, network.subject.weights)

    def evaluate(chosen: dict[str, float]) -> tuple[float, dict[str, float]]:
        folder, evaluated = directory / EVALUATIONS / f"{chosen['mu']!r}", replace(config, mu=chosen["mu"])
        folder.mkdir(parents=True, exist_ok=True)
        record = read_matching(folder, evaluated, conf, InterpretRecord) or interpret.job(evaluated, folder, conf)
        excess = record.accuracy.selected - network.level
        return abs(excess), {EXCESS: excess}

    sampler = BracketingSampler(network.bracketing)
    with quiet_lookups():
        find_again(study, evaluate, directory)
        work(study, {"mu": (options.low, options.high)}, evaluate, lambda _: sampler, directory, options.trials)
    write_search(directory, network.bracketing, known(study), **network.facts(known(study)))


@contextmanager
def quiet_lookups() -> Iterator[None]:
    """Silence the log lines that say, for each evaluation, that its network and responses are in the store."""
    rooms = [logging.getLogger(f"tipping.experiment.{room}") for room in ("network", "subject")]
    for room in rooms:
        room.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for room in rooms:
            room.setLevel(logging.NOTSET)
