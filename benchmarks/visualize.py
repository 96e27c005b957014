"""What pictures cost beside a pass over the training images: python benchmarks/visualize.py (make bench-visualize).

Prints a Markdown table; everything runs in this process, on the same cores and threads. The network is keras_cnn of
128 filters, trained for three epochs on 6,000 MNIST images; drawn are all filters relevant at mu = 10, by guided
backpropagation and deconvnet, and five test images explained.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hydra import compose, initialize_config_dir
from measuring import mnist, passes, table, timed

from tipping.data import Dataset
from tipping.experiment import config
from tipping.experiment.pictures import draw_subject
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.network import build
from tipping.network.training import train

CONF = config.presets()
TRAINER: dict[str, Any] = {"max_epochs": 3, "batch_size": 128, "learning_rate": 1e-3}


def options(filters: int) -> config.Config:
    """Of a job that draws all relevant filters."""
    given = [f"model.filters={filters}", "mu=10", f"visualize.filters_per_class={5 * filters}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return config.parse(compose("config", given))


def stages(dataset: Dataset, filters: int) -> Iterator[Sequence[Any]]:
    """Each part of the pictures, and all of it, beside a plain pass over the training images."""
    chosen = options(filters)
    model = build(chosen.model, dataset.image_shape, len(dataset.classes), seed=0)
    train(model, replace(dataset, train=dataset.train.spread(6000)), **TRAINER, seed=0)
    _, one = timed(partial(passes, model, dataset.train))
    subject = Subject.from_options(model, dataset, chosen)
    problem, alone = timed(subject.fresh_responses)
    selection = subject.select(problem)
    few = dataset.test.spread(chosen.curve.images)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        _, both = timed(partial(subject.responses, store))
        drawn, seen = timed(
            lambda: draw_subject(
                subject, selection, few, dataset.test.spread(chosen.visualize.images), dataset.classes, store
            )
        )
    _, written = timed(lambda: [picture.pixels for picture in drawn.values()])
    relevant = len(selection.order_K)
    parts = {
        "one plain pass over the training images": one,
        "responses measured, as without pictures": alone,
        "more for the images each filter responds to most": both - alone,
        f"signals of {relevant} relevant filters, and each ablated alone": seen,
        f"{len(drawn)} pictures drawn": written,
        "all pictures": both - alone + seen + written,
    }
    yield from ((part, seconds, f"{seconds / one:.2f}") for part, seconds in parts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, nargs="+", default=[128, 32], help="filters a layer of the networks")
    arguments, dataset = mnist(parser)
    for filters in arguments.filters:
        title = f"keras_cnn of {filters} filters a layer, {len(dataset.train):,} training images"
        table(title, ("part", "seconds", "of a pass"), stages(dataset, filters))


if __name__ == "__main__":
    main()
