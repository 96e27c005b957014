"""The job of sweeps/fewest_filters.py: the search for the fewest filters that tip a network."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from optuna.samplers import BaseSampler

from tipping import records, report
from tipping.config import Config, FewestFilters, parse
from tipping.experiment import interpret
from tipping.results import print_lines
from tipping.search import EXCESS, SAMPLERS, find_again, key_of, open_study, work, write_trials

log = logging.getLogger(__name__)
BEST = 5  # trials that are printed


def job(plain: DictConfig, config: Config, options: FewestFilters, common: Path, conf: Path) -> None:
    """Parameters → jobs of some seeds → how many filters tip these networks.

    Args:
        plain: the composed options of each job, which the search changes.
        config: the same, checked.
        common: the folder of searches, which gets one for this search.
        conf: the folder of the presets.
    """
    key = key_of(config, options.over, options.sampler, options.seeds)
    directory = common / f"{config.model['name']},{key}"
    shutil.copytree(common / ".hydra", directory / ".hydra", dirs_exist_ok=True)  # the command of this search
    study = open_study(options.storage, directory)

    def sampler(number: int) -> BaseSampler:
        return SAMPLERS[options.sampler](config.seed + number)

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        found = [_record_of(plain, {**chosen, "seed": seed}, directory, conf) for seed in options.seeds]
        kinds = ("intact", "selected", "chance")
        accuracy = {kind: float(np.mean([one["accuracy"][kind] for one in found])) for kind in kinds}
        excess = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        return float(np.mean([one["filters"]["ablated"] for one in found])), {EXCESS: excess, **accuracy}

    try:
        find_again(study, evaluate, directory)
        work(study, options.over, evaluate, sampler, directory, options.trials)
    finally:  # also when it is stopped
        conclude(write_trials(study, directory), directory, options)


def _record_of(plain: DictConfig, chosen: dict[str, Any], directory: Path, conf: Path) -> dict[str, Any]:
    """The record of a job, made now or before."""
    own = OmegaConf.create(OmegaConf.to_container(plain))
    assert isinstance(own, DictConfig), "as plain is"
    for option, value in chosen.items():
        OmegaConf.update(own, option, value, force_add=False)
    config = parse(own)
    folder = directory / "trials" / ",".join(f"{option}={value!r}" for option, value in chosen.items())
    folder.mkdir(parents=True, exist_ok=True)
    return records.read_own(folder, config, conf) or interpret.job(config, folder, conf)


def conclude(trials: list[dict[str, Any]], directory: Path, options: FewestFilters) -> None:
    """Say the best of trials, as far as there are any, and write their page."""
    if not trials:
        return
    if trials[0]["tips"]:
        where = ", ".join(f"{name}={trials[0][name]:.4g}" for name in options.over)
        log.info(
            "fewest filters that tip the network: %g, with %s (%d trials)", trials[0]["filters"], where, len(trials)
        )
    else:
        log.info("no network tipped in %d trials", len(trials))
    _print_best(trials[:BEST])
    report.conclude(directory)


def _print_best(trials: list[dict[str, Any]]) -> None:
    """Print the best trials as a table."""
    if not trials:
        return
    heads = [key for key in trials[0] if key != EXCESS]
    print("\nThe best trials: accuracies intact and without the relevant filters; tips: midway to chance or below\n")
    print_lines([heads, *[[_short(trial[key]) for key in heads] for trial in trials]])
    print()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
