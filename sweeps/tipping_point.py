"""At which mu does a network tip? A search for each network: python sweeps/tipping_point.py seed=0,1,2

Each evaluation is a job of interpret.py, in its own folder under that of the network; called again, it goes on where it
was. Its storage is open to `optuna-dashboard`.
"""

import hashlib
import json
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import interpret  # noqa: E402

from tipping import command, data, models, records, tipping_map  # noqa: E402
from tipping.classifier import find_or_train, pick_device  # noqa: E402
from tipping.config import Config, Search, parse_search  # noqa: E402
from tipping.evaluation import accuracies, chance_of, find_or_predict  # noqa: E402
from tipping.mu_lasso import homotopy  # noqa: E402
from tipping.search import Bracketing, breakpoints, open_study, work  # noqa: E402
from tipping.store import Store  # noqa: E402
from tipping.subject import Subject  # noqa: E402


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="tipping_point")
def search(composed: DictConfig) -> None:
    """Network → its breakpoints and level → evaluations, until accuracy crosses between two neighbouring supports."""
    config, options = parse_search(composed)
    directory = Path(HydraConfig.get().sweep.dir) / name_of(config, options)
    directory.mkdir(parents=True, exist_ok=True)
    study = open_study(options.storage, directory)
    bracketing, level, saturation = prepared(config, options)

    def evaluate(mu: float) -> float:
        folder, own = directory / tipping_map.EVALUATIONS / f"{mu!r}", replace(config, mu=mu)
        folder.mkdir(parents=True, exist_ok=True)
        record = records.read_own(folder, own) or interpret.job(own, folder)
        return record["accuracy"]["selected"] - level

    for room in ("classifier", "responses"):  # each evaluation would say that it found them in the store
        logging.getLogger(f"tipping.{room}").setLevel(logging.WARNING)
    known = work(study, bracketing, evaluate, directory, options.trials)
    tipping_map.write_search(directory, bracketing, known, level, saturation)


def name_of(config: Config, options: Search) -> str:
    """A network's folder and study: the same for the same options, but for those that do not decide the answer."""
    deciding = {key: value for key, value in asdict(config).items() if key not in ("mu", "store", "tracking", "device")}
    text = json.dumps([deciding, options.low, options.high, options.grid], sort_keys=True)
    return f"{config.model['name']},seed={config.seed},{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def prepared(config: Config, options: Search) -> tuple[Bracketing, float, float]:
    """Of a network, trained now or before: where its relevant filters change, the accuracy midway between intact and
    chance, and the mu from which the bound no longer binds."""
    store, dataset = Store(config.store.dir), data.load(config.data).to(pick_device(config.device))
    model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)
    find_or_train(model, dataset, config, store)
    subject, images = Subject.of(model, dataset, config), dataset.split(config.protocol.evaluated_on)
    problem, _ = subject.responses(store)
    (intact,) = accuracies(find_or_predict(model, subject.weights, images, store)[None], images.labels_N)
    edges = breakpoints(homotopy(problem, options.high), subject.probe.filter_R, options.low)
    bracketing = Bracketing(options.low, options.high, options.grid, breakpoints=edges)
    level = (intact + chance_of(images)) / 2
    return bracketing, level, float(problem.saturation().max())


if __name__ == "__main__":
    command.run(search, gather=tipping_map.gather)
