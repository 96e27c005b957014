"""`tipping fewest`, as ``sweeps/fewest_filters.py``: the fewest relevant filters that tip a network, over mu and its
architecture.

Each trial takes the mean over networks of some seeds; each of these is a job of `interpret`, in a folder of its own.
Called again, the search goes on where it was. Its storage is open to `optuna-dashboard`.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping import command
from tipping.config import FewestFilters, parse, presets, split_off
from tipping.errors import InputError, require


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="fewest_filters")
def search(composed: DictConfig) -> None:
    """Run the search, in the folder of its options."""
    plain, options = split_off(composed, FewestFilters)
    config = parse(plain)
    given = {option.lstrip("+").split("=")[0] for option in HydraConfig.get().overrides.task}
    for option in sorted(given & options.over.keys()):
        raise InputError(f"{option}: it is searched; leave it out, or say 'search.over={{{option}:null}}'")
    require(config.seed == 0, "seed", config.seed, "give search.seeds, over which trials take the mean")

    from tipping.experiment.fewest_filters import job  # with torch, which the help and these mistakes do without

    job(plain, config, options, Path(HydraConfig.get().runtime.output_dir), presets())


def main() -> None:
    """Run the command line."""
    command.run(search)
