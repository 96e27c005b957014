"""The fewest relevant filters that tip a network, over mu and its architecture: python sweeps/fewest_filters.py

Each trial takes the mean over networks of some seeds; each of these is a job of interpret.py, in a folder of its own.
Called again, the search goes on where it was. Its storage is open to `optuna-dashboard`.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import interpret  # noqa: E402

from tipping import command, records, report  # noqa: E402
from tipping.config import FewestFilters, InputError, parse, require, split_off  # noqa: E402
from tipping.search import EXCESS, SAMPLERS, key_of, open_study, work  # noqa: E402

log = logging.getLogger(__name__)


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
    directory = Path(HydraConfig.get().runtime.output_dir) / f"{config.model['name']},{key}"
    directory.mkdir(parents=True, exist_ok=True)
    study = open_study(options.storage, directory)

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        found = [job(plain, {**chosen, "seed": seed}, directory) for seed in options.seeds]
        kinds = ("intact", "selected", "chance")
        accuracy = {kind: float(np.mean([one["accuracy"][kind] for one in found])) for kind in kinds}
        excess = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        return float(np.mean([one["filters"]["ablated"] for one in found])), {EXCESS: excess, **accuracy}

    work(
        study,
        options.over,
        evaluate,
        lambda number: SAMPLERS[options.sampler](config.seed + number),
        directory,
        options.trials,
    )
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    tipped = [trial for trial in done if trial.user_attrs[EXCESS] <= 0]
    if tipped:
        best = min(tipped, key=lambda trial: trial.value or 0.0)
        where = ", ".join(f"{name}={value:.4g}" for name, value in best.params.items())
        log.info("fewest filters that tip the network: %g, with %s (%d trials)", best.value, where, len(done))
    else:
        log.info("no network tipped in %d trials", len(done))
    print(report.write([directory]))
    report.summarise(directory)


def job(plain: DictConfig, chosen: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The record of a job, made now or before."""
    own = OmegaConf.create(OmegaConf.to_container(plain))
    for option, value in chosen.items():
        OmegaConf.update(own, option, value, force_add=False)
    config = parse(own)
    folder = directory / "trials" / ",".join(f"{option}={value!r}" for option, value in chosen.items())
    folder.mkdir(parents=True, exist_ok=True)
    return records.read_own(folder, config) or interpret.job(config, folder)


if __name__ == "__main__":
    command.run(search)
