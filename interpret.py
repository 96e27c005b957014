"""Which filters does a network rely on, and what is left without them? python interpret.py -m mu=10,100,500,700"""

import logging
from dataclasses import asdict
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tipping import command, data, models, results, tracking
from tipping.ablation import DropCurve, ablated_accuracies
from tipping.callbacks import AccuracyDropCurve
from tipping.classifier import evaluate, find_or_train, pick_device
from tipping.config import parse
from tipping.responses import find_or_collect
from tipping.selection import select
from tipping.store import Store

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def interpret(composed: DictConfig) -> None:
    """Data → network → responses → selection → ablation → record, for one mu."""
    config, stage = parse(composed), results.Stopwatch()
    directory = Path(HydraConfig.get().runtime.output_dir)
    store = Store(config.store.dir)
    with stage("data"):
        dataset = data.load(config.data).to(pick_device(config.device))
        model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)
        index = models.filter_index(model)

    with tracking.track(config, "interpret", directory) as run:
        with stage("network"):
            network = find_or_train(model, dataset, config, store, logger=run)
        with stage("responses"):
            problem, collected = find_or_collect(model, dataset.train, store)
        with stage("selection"):
            selection = select(problem, index.layer_F, config)

        curves: list[DropCurve] = []
        drop = AccuracyDropCurve(
            lambda _: selection,
            dataset.test.spread(config.curve.images),
            config.curve.points,
            on_curve=lambda curve, _: curves.append(curve),
        )
        with stage("curve"):
            intact = evaluate(model, dataset, callbacks=[drop])
        with stage("ablation"):
            ablations = [selection.order_K, *selection.controls]
            selected, *random = ablated_accuracies(model, dataset.test, ablations)

        record = {
            "config": asdict(config),
            "mu": config.mu,
            "seed": config.seed,
            "model": config.model,
            "data": config.data.name,
            "protocol": asdict(config.protocol),
            "accuracy": {"intact": intact, "selected": selected, "random": random},
            "filters": results.filters(index, selection.order_K, problem.dead_F()),
            "selection": {"solver": config.selection.solver, **results.certificate(selection.solution)},
            "curve": asdict(curves[0]),
            "store": {"network": network.key, "responses": collected.key},
            "made": {"network": not network.found, "responses": not collected.found},
            "seconds": stage.seconds,
            "versions": results.versions(),
        }
        results.write(directory, record, selection.weights_FC, index)
        run.log_result(record, results.relevant_filters(index, selection))
    log.info("%s", results.sentence(record))


if __name__ == "__main__":
    command.run(interpret, gather=results.gather)
