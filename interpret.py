"""Which filters does a network rely on, and what is left without them? python interpret.py -m mu=10,100,500,700

The job is in tipping.experiment.interpret. It is imported where it begins, as is what gathers a sweep where that ends:
the help, and a mistake in the options, need not wait for torch.
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping import command

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def interpret(composed: DictConfig) -> None:
    """One job, in Hydra's folder for it."""
    from tipping import records
    from tipping.experiment.interpret import job

    directory = Path(HydraConfig.get().runtime.output_dir)
    if config := records.begin(directory, composed, CONF, records.OF_INTERPRETING):
        job(config, directory, CONF)


def gather(sweep: Path) -> list[str]:
    """Write the table, the chart and the page of a sweep; the names of jobs without a readable record."""
    from tipping import report, results

    return report.after(results.gather)(sweep)


if __name__ == "__main__":
    command.run(interpret, gather)
