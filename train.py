"""Train a network, or several with -m: python train.py model.filters=32 trainer.max_epochs=2 seed=0"""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import nn

from tipping import command, data, models, tracking
from tipping.callbacks import AccuracyDropCurve
from tipping.classifier import evaluate, find_or_train, pick_device
from tipping.config import parse
from tipping.responses import collect
from tipping.selection import Selection, select
from tipping.store import Store

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def train(composed: DictConfig) -> float:
    """Data → network, in the store → test accuracy; on the way, the accuracy-drop curve every few epochs."""
    config = parse(composed)
    store = Store(config.store.dir)
    dataset = data.load(config.data).to(pick_device(config.device))
    model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)

    def selection(model: nn.Module) -> Selection:
        return select(collect(model, dataset.train), models.filter_index(model).layer_F, config)

    with tracking.track(config, "train", Path(HydraConfig.get().runtime.output_dir)) as run:
        test_images, every = dataset.test.spread(config.curve.images), config.curve.every_n_epochs
        curve = AccuracyDropCurve(selection, test_images, config.curve.points, run.log_curve, every)
        callbacks = [curve] if every else []  # which also asks for the training itself
        network = find_or_train(model, dataset, config, store, callbacks=callbacks, logger=run, anew=bool(every))
        accuracy = evaluate(model, dataset)
        run.log({"test/accuracy": accuracy})
    log.info("test accuracy %.2f %%: %s", 100 * accuracy, network.path)
    return accuracy


if __name__ == "__main__":
    command.run(train)
