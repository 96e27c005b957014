"""`tipping interpret`, as ``interpret.py``: which filters a network relies on, and what is left without them.

The job is in `tipping.experiment.interpret`. It is imported where it begins, as is what gathers a sweep where that
ends: the help, and a mistake in the options, need not wait for torch.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping.command import line
from tipping.experiment.config import presets


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="config")
def interpret(composed: DictConfig) -> None:
    """Run one job, in Hydra's folder for it."""
    from tipping.experiment import records
    from tipping.experiment.interpret import job
    from tipping.experiment.record import InterpretRecord

    directory, conf = Path(HydraConfig.get().runtime.output_dir), presets()
    if config := records.begin(directory, composed, conf, InterpretRecord):
        job(config, directory, conf)


def gather(sweep: Path) -> list[str]:
    """Write the table, the chart and the page of a sweep; the names of jobs without a readable record."""
    from tipping.report import page
    from tipping.results import tables

    return page.then_conclude(tables.write_table)(sweep)


def main() -> None:
    """Run the command line."""
    line.run(interpret, gather)
