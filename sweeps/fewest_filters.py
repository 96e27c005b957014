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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import interpret  # noqa: E402

from tipping import command, records  # noqa: E402
from tipping.config import FewestFilters, parse, split_off  # noqa: E402
from tipping.search import SAMPLERS, open_study, work  # noqa: E402

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="fewest_filters")
def search(composed: DictConfig) -> None:
    """Parameters → jobs of some seeds → how many filters tip these networks."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    plain, options = split_off(composed, FewestFilters)
    study = open_study(options.storage, directory)
    study.sampler = SAMPLERS[options.sampler](parse(plain).seed + len(study.trials))  # goes on, and does not repeat

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        found = [job(plain, {**chosen, "seed": seed}, directory) for seed in options.seeds]
        accuracy = {
            key: float(np.mean([one["accuracy"][key] for one in found]))
            for key in found[0]["accuracy"]
            if key != "random"
        }
        removed = float(np.mean([one["filters"]["ablated"] for one in found]))
        excess = accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2
        value = removed if excess <= 0 else found[0]["filters"]["total"] * (1 + excess)  # over all its filters
        return value, {"removed": removed, "tipped": excess <= 0, **accuracy}

    work(study, options.over, evaluate, lambda: False, directory, options.trials)
    best = study.best_trial
    where = ", ".join(f"{name}={value:.4g}" for name, value in best.params.items())
    if best.user_attrs["tipped"]:
        log.info("fewest: %g filters tip the network with %s (%d trials)", best.value, where, len(study.trials))
    else:
        log.info("no network tipped in %d trials; nearest with %s", len(study.trials), where)


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
