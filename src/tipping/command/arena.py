"""`tipping arena`: a contest of selectors on each network; with the folder of a sweep, its table and chart again."""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping.command import line
from tipping.experiment.config import ArenaConfig, presets
from tipping.experiment.overrides import given_to_job


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="arena")
def run_arena(composed: DictConfig) -> None:
    """Run the contest on one network, in the folder that Hydra gives to the job."""
    from tipping.experiment.arena import job
    from tipping.experiment.record import ArenaRecord
    from tipping.experiment.standing import begin

    directory, conf = Path(HydraConfig.get().runtime.output_dir), presets()
    if config := begin(directory, composed, conf, ArenaRecord):
        assert isinstance(config, ArenaConfig)
        job(config, directory, conf, given_to_job(HydraConfig.get()))


def finish_sweep(sweep: Path) -> list[str]:
    """Write the table, the chart and the page of a sweep; return the names of jobs without a readable record."""
    from tipping.report import page
    from tipping.results import arena

    return page.then_conclude(arena.write_arena)(sweep)


def main() -> None:
    """Run the command line."""
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        parser = line.arguments("arena", "Write the table, the chart and the page of a sweep again.")
        parser.add_argument("sweep", type=Path, metavar="SWEEP_DIR", help="the folder of a sweep")
        sys.exit(line.answer(parser, sys.argv[1:], lambda given: int(bool(finish_sweep(given.sweep)))))
    line.run(run_arena, finish_sweep, ("arena.csv", "arena.png", "report.html"))
