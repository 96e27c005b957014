"""`tipping search`, as ``sweeps/tipping_point.py``: the mu at which a network tips, by a search for each network.

Each evaluation is a job of `interpret`, in a folder under the network's folder. The same command resumes the search.
`optuna-dashboard` can read the search's storage.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping.command import line
from tipping.errors import require
from tipping.experiment.config import parse, presets
from tipping.experiment.search_options import SearchOptions, split_off


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="tipping_point")
def run_search(composed: DictConfig) -> None:
    """Run the search of one network."""
    plain, options = split_off(composed, SearchOptions)
    config = parse(plain)
    given = [option for option in HydraConfig.get().overrides.task if option.lstrip("+").startswith("mu=")]
    require(not given, "mu", config.mu, "the search chooses it; give search.low and search.high")

    from tipping.experiment.tipping_point import job  # imports torch, which the help and the checks above do not need

    job(config, options, Path(HydraConfig.get().sweep.dir), presets())


def finish_sweep(sweep: Path) -> list[str]:
    """Write the table, the chart and the page of searches; return a line for each network that is left out."""
    from tipping.report import page
    from tipping.results import tipping_map

    return page.then_conclude(tipping_map.write_map)(sweep)


def main() -> None:
    """Run the command line."""
    line.run(run_search, finish_sweep)
