"""`tipping fewest`, as ``sweeps/fewest_filters.py``: the fewest relevant filters that tip a network, over mu and its
architecture.

Each trial is the mean over networks of some seeds. Each network is a job of `interpret`, in a separate folder. The same
command resumes the search. `optuna-dashboard` can read the search's storage.
"""

import logging
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping.command import line
from tipping.errors import InputError, require
from tipping.experiment.config import parse, presets
from tipping.experiment.search_options import FewestFiltersOptions, split_off

log = logging.getLogger(__name__)
BEST = 5  # the number of best trials to print


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="fewest_filters")
def run_search(composed: DictConfig) -> None:
    """Run the search, in the folder of its options."""
    plain, options = split_off(composed, FewestFiltersOptions)
    config = parse(plain)
    given = {option.lstrip("+").split("=")[0] for option in HydraConfig.get().overrides.task}
    for option in sorted(given & options.over.keys()):
        raise InputError(f"{option}: it is searched; leave it out, or say 'search.over={{{option}:null}}'")
    require(config.seed == 0, "seed", config.seed, "give search.seeds, over which trials take the mean")

    from tipping.experiment.fewest_filters import job  # imports torch, which the help and the checks above do not need

    job(plain, config, options, Path(HydraConfig.get().runtime.output_dir), presets(), present_trials)


def present_trials(trials: list[dict[str, Any]], directory: Path) -> None:
    """Print the best trials of a search, and write the search's page.

    Args:
        trials: the trials, the best first.
        directory: the folder of the search.
    """
    from tipping.experiment.fewest_filters import VALUES
    from tipping.report import page

    if trials[0]["tips"]:
        where = ", ".join(f"{name}={trials[0][name]:.4g}" for name in trials[0] if name not in VALUES)
        log.info(
            "fewest filters that tip the network: %g, with %s (%d trials)", trials[0]["filters"], where, len(trials)
        )
    else:
        log.info("no network tipped in %d trials", len(trials))
    _print_best(trials[:BEST])
    page.conclude_sweep(directory)


def _print_best(trials: list[dict[str, Any]]) -> None:
    """Print the best trials as a table."""
    from tipping.results.rows import print_lines

    heads = [key for key in trials[0] if key != "excess"]
    print("\nThe best trials: accuracies intact and without the relevant filters; tips: midway to chance or below\n")
    print_lines([heads, *[[_short(trial[key]) for key in heads] for trial in trials]])
    print()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run the command line."""
    line.run(run_search)
