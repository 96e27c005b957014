"""The fewest relevant filters that tip a network, over mu and its architecture: python sweeps/fewest_filters.py

Each trial takes the mean over networks of some seeds; each of these is a job of interpret.py, in a folder of its own.
Called again, the search goes on where it was. Its storage is open to `optuna-dashboard`.
"""

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.samplers import BaseSampler

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import interpret  # noqa: E402

from tipping import command, records, report  # noqa: E402
from tipping.config import FewestFilters, parse, split_off  # noqa: E402
from tipping.errors import InputError, require  # noqa: E402
from tipping.results import print_lines  # noqa: E402
from tipping.search import EXCESS, SAMPLERS, find_again, key_of, open_study, work, write_trials  # noqa: E402

log = logging.getLogger(__name__)
BEST = 5  # trials that are printed


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="fewest_filters")
def search(composed: DictConfig) -> None:
    """Parameters → jobs of some seeds → how many filters tip these networks."""
    plain, options = split_off(composed, FewestFilters)
    config = parse(plain)
    given = {option.lstrip("+").split("=")[0] for option in HydraConfig.get().overrides.task}
    for option in sorted(given & options.over.keys()):
        raise InputError(f"{option}: it is searched; leave it out, or say 'search.over={{{option}:null}}'")
    require(config.seed == 0, "seed", config.seed, "give search.seeds, over which trials take the mean")
    key = key_of(config, options.over, options.sampler, options.seeds)
    common = Path(HydraConfig.get().runtime.output_dir)
    directory = common / f"{config.model['name']},{key}"
    shutil.copytree(common / ".hydra", directory / ".hydra", dirs_exist_ok=True)  # the command of this search
    study = open_study(options.storage, directory)

    def sampler(number: int) -> BaseSampler:
        return SAMPLERS[options.sampler](config.seed + number)

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        found = [job(plain, {**chosen, "seed": seed}, directory) for seed in options.seeds]
        kinds = ("intact", "selected", "chance")
        accuracy = {kind: float(np.mean([one["accuracy"][kind] for one in found])) for kind in kinds}
        excess = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        return float(np.mean([one["filters"]["ablated"] for one in found])), {EXCESS: excess, **accuracy}

    try:
        find_again(study, evaluate, directory)
        work(study, options.over, evaluate, sampler, directory, options.trials)
    finally:  # also when it is stopped
        conclude(write_trials(study, directory), directory, options)


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


def job(plain: DictConfig, chosen: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The record of a job, made now or before."""
    own = OmegaConf.create(OmegaConf.to_container(plain))
    for option, value in chosen.items():
        OmegaConf.update(own, option, value, force_add=False)
    config = parse(own)
    folder = directory / "trials" / ",".join(f"{option}={value!r}" for option, value in chosen.items())
    folder.mkdir(parents=True, exist_ok=True)
    return records.read_own(folder, config, interpret.CONF) or interpret.job(config, folder)


if __name__ == "__main__":
    command.run(search)
