"""`tipping train`, as ``train.py``: train a network, or several with -m.

The job is in `tipping.experiment.train`. The imports of torch stand in the functions, so that the help, and a mistake
in the options, do not wait for torch.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping.command import line
from tipping.experiment.config import presets
from tipping.experiment.overrides import given_to_job


@hydra.main(version_base="1.3", config_path=str(presets()), config_name="config")
def run_train(composed: DictConfig) -> None:
    """Run one job, in the folder that Hydra gives to the job."""
    from tipping.experiment.record import TrainRecord
    from tipping.experiment.standing import begin
    from tipping.experiment.train import job

    directory, conf = Path(HydraConfig.get().runtime.output_dir), presets()
    if config := begin(directory, composed, conf, TrainRecord):
        job(config, directory, conf, given_to_job(HydraConfig.get()))


def finish_sweep(sweep: Path) -> list[str]:
    """Write the table and the page of a sweep; return the names of jobs without a readable record."""
    from tipping.report import page
    from tipping.results import tables

    return page.then_conclude(tables.write_training_table)(sweep)


def main() -> None:
    """Run the command line."""
    line.run(run_train, finish_sweep, ("trainings.csv", "report.html"))
