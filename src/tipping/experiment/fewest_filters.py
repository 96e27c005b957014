"""The job of sweeps/fewest_filters.py: the search for the fewest filters that tip a network."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tipping.experiment import interpret
from tipping.experiment.config import Config, parse, search_key
from tipping.experiment.record import InterpretRecord
from tipping.experiment.search_note import TRIALS, folder_name
from tipping.experiment.search_options import FewestFiltersOptions
from tipping.experiment.standing import read_matching
from tipping.files import replacing
from tipping.tipping_points.study import EXCESS, SAMPLERS, find_again, open_study, work

VALUES = ("trial", "filters", "intact", "selected", "tips", EXCESS)  # the columns of a trial, besides its parameters


def job(
    plain: DictConfig,
    config: Config,
    options: FewestFiltersOptions,
    common: Path,
    conf: Path,
    conclude: Callable[[list[dict[str, Any]], Path], None],
) -> None:
    """Run the search: parameters → jobs of some seeds → the number of filters that tip these networks.

    Args:
        plain: the composed options of each job, which the search changes.
        config: the same options, checked.
        options: the options of the search.
        common: the folder of searches; this search gets a folder there.
        conf: the folder of the presets.
        conclude: called at the end with the trials, the best first, and the folder of this search.
    """
    key = search_key(config, options.over, options.sampler, options.seeds)
    directory = common / folder_name(config.model["name"], key)
    shutil.copytree(common / ".hydra", directory / ".hydra", dirs_exist_ok=True)  # the command of this search
    study = open_study(options.storage, directory)

    def sampler(number: int) -> BaseSampler:
        return SAMPLERS[options.sampler](config.seed + number)

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        job_records = [_record_of(plain, {**chosen, "seed": seed}, directory, conf) for seed in options.seeds]
        kinds = ("intact", "selected", "chance")
        accuracy = {kind: float(np.mean([getattr(record.accuracy, kind) for record in job_records])) for kind in kinds}
        excess = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        return float(np.mean([record.filters.ablated for record in job_records])), {EXCESS: excess, **accuracy}

    try:
        find_again(study, evaluate, directory)
        work(study, options.over, evaluate, sampler, directory, options.trials)
    finally:  # also when it is stopped
        if trials := write_trials(study, directory):
            conclude(trials, directory)


def _record_of(plain: DictConfig, chosen: dict[str, Any], directory: Path, conf: Path) -> InterpretRecord:
    """Return the record of a job. The job is run, unless its folder already holds the record."""
    composed = OmegaConf.create(OmegaConf.to_container(plain))
    assert isinstance(composed, DictConfig), "as plain is"
    for option, value in chosen.items():
        OmegaConf.update(composed, option, value, force_add=False)
    config = parse(composed)
    folder = directory / "trials" / ",".join(f"{option}={value!r}" for option, value in chosen.items())
    folder.mkdir(parents=True, exist_ok=True)
    return read_matching(folder, config, conf, InterpretRecord) or interpret.job(config, folder, conf)


def write_trials(study: Study, directory: Path) -> list[dict[str, Any]]:
    """Write the finished trials of a search into its folder, and return them, the best first.

    Trials that tip the network come first, those with the fewest filters leading. The others follow, those nearest to
    tipping leading.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    rows = [
        {
            "trial": trial.number,
            **trial.params,
            "filters": trial.value,
            **{kind: trial.user_attrs[kind] for kind in ("intact", "selected")},
            "tips": trial.user_attrs[EXCESS] <= 0,
            EXCESS: trial.user_attrs[EXCESS],
        }
        for trial in done
    ]
    rows.sort(key=lambda row: (not row["tips"], row["filters"] if row["tips"] else row[EXCESS]))
    if rows:
        with replacing(directory / TRIALS) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return rows
