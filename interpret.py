"""Which filters does a network rely on, and what is left without them? python interpret.py -m mu=10,100,500,700"""

import logging
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping import command, data, models, results, tracking
from tipping.callbacks import AccuracyDropCurve
from tipping.classifier import find_or_train, pick_device
from tipping.config import parse
from tipping.evaluation import accuracies, evaluate_ablations, find_or_predict
from tipping.responses import find_or_collect
from tipping.selection import select
from tipping.store import Store, digest

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def interpret(composed: DictConfig) -> None:
    """Data → network → responses → selection → ablation → record, for one mu."""
    directory, stage = Path(HydraConfig.get().runtime.output_dir), results.Stopwatch()
    results.clear(directory)
    config = parse(composed)
    store, device = Store(config.store.dir), pick_device(config.device)
    with stage("data"):
        dataset = data.load(config.data).to(device)
        model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)
        index = models.filter_index(model)

    with tracking.track(config, "interpret", directory) as run:
        with stage("network"):
            network = find_or_train(model, dataset, config, store, logger=run)
        weights = digest(network.tensors)
        with stage("responses"):
            problem, responses = find_or_collect(model, weights, dataset.train, store)
        with stage("selection"):
            selection = select(problem, index.layer_F, config)
        with stage("intact"):
            intact_N = find_or_predict(model, weights, dataset.test, store)
        with stage("ablation"):
            predictions_AN = evaluate_ablations(model, dataset.test, [selection.order_K, *selection.controls])
        with stage("curve"):
            curve_images = dataset.test.spread(config.curve.images)
            curve = AccuracyDropCurve(lambda _: selection, curve_images, config.curve.points).measure(model)

        intact, selected, *random = accuracies(np.vstack([intact_N, predictions_AN]), dataset.test.labels_N)
        record = {
            **results.describe(config, device),
            "accuracy": {"intact": intact, "selected": selected, "random": random},
            "filters": results.filters(index, selection, problem.dead_F()),
            "selection": {"solver": config.selection.solver, **results.certificate(selection.solution)},
            "curve": curve.record(),
            "store": {"network": network.key, "weights": weights, "responses": responses.key},
            "made": {"network": not network.found, "responses": not responses.found},
            "seconds": stage.seconds,
        }
        results.write_selection(directory, selection, index)
        results.write_predictions(directory, dataset.test, intact_N, predictions_AN, curve_images, curve)
        results.write(directory, record)
        run.log_result(record, results.relevant_filters(index, selection))
    log.info("%s", results.sentence(record))


if __name__ == "__main__":
    command.run(interpret, gather=results.gather)
