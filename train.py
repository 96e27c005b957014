"""Train a network, or several with -m: python train.py model.filters=32 trainer.max_epochs=2 seed=0"""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import nn

from tipping import command, data, models, records, tracking
from tipping.callbacks import AccuracyDropCurve
from tipping.classifier import evaluate, find_or_train, pick_device
from tipping.config import parse, require
from tipping.evaluation import DropCurve, drop_curve
from tipping.selection import select
from tipping.store import Store, digest
from tipping.subject import Subject

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def train(composed: DictConfig) -> None:
    """Data → network, in the store → test accuracy; on the way, the accuracy-drop curve every few epochs."""
    job, stage = HydraConfig.get(), records.Stopwatch()
    directory = Path(job.runtime.output_dir)
    records.clear(directory)
    config = parse(composed)
    require(config.randomize == "none", "randomize", config.randomize, "train.py trains all layers; use interpret.py")
    store, device = Store(config.store.dir), pick_device(config.device)
    dataset = data.load(config.data).to(device)
    model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)

    images = dataset.split(config.protocol.evaluated_on).spread(config.curve.images)

    def measure(model: nn.Module) -> DropCurve:
        subject = Subject.of(model, dataset, config)
        selection = select(subject.fresh_responses(), subject.probe, config)
        order_K, controls, points = selection.order_K, selection.controls, config.curve.points
        return drop_curve(subject.probe.model, images, order_K, controls, points, **subject.manner())

    with tracking.track(config, "train", directory) as run:
        every = config.curve.every_n_epochs
        drop = AccuracyDropCurve(measure, every, run.log_curve)
        with stage("network"):  # curves of a training can only be had by training
            network = find_or_train(model, dataset, config, store, callbacks=[drop], logger=run, anew=every > 0)
        with stage("test"):
            accuracy = evaluate(model, dataset)
        record = {
            **records.describe(config, device, Path(__file__).parent / "conf"),
            "accuracy": {"intact": accuracy},
            "curves": {epoch: curve.record() for epoch, curve in drop.curves.items()},
            "store": {"network": network.key, "weights": digest(network.tensors)},
            "made": {"network": not network.found},
            "seconds": stage.seconds,
        }
        records.write(directory, record)
        run.log({"test/accuracy": accuracy})
    log.info("test accuracy %.2f %%: %s", 100 * accuracy, network.path)


if __name__ == "__main__":
    command.run(train)
