"""What the arena costs beside a pass over the training images: python benchmarks/contest.py (make bench-arena).

Prints a Markdown table; everything runs in this process, on the same cores and threads. The network is keras_cnn of 32
filters a layer (`--filters`), trained for one epoch on MNIST; selectors score it by 10,000 training images, and curves
are measured on 1,000 test images, as `tipping arena` does it by default.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from measuring import mnist, passes, table, timed

from tipping.arena import RANDOM, Arena
from tipping.data import Dataset
from tipping.errors import InputError
from tipping.network import Filters, build
from tipping.network.training import train
from tipping.selectors import SELECTORS, Evidence, score

TRAINER: dict[str, Any] = {"max_epochs": 1, "batch_size": 128, "learning_rate": 1e-3}
SCORED, EVALUATED = 10_000, 1000  # images


def costs(dataset: Dataset, filters: int) -> Iterator[Sequence[Any]]:
    """The seconds of each selector by itself, of the cheap ones together, of the curves, and of all."""
    options = {"_target_": "tipping.models.KerasCNN", "filters": filters, "depth": 5, "dropout": 0.5}
    model = build(options, dataset.image_shape, len(dataset.classes), seed=0)
    train(model, dataset, **TRAINER, seed=0)
    model.eval()
    _, one = timed(partial(passes, model, dataset.train))
    yield "one plain pass over the training images", one, 1.0
    evidence = Evidence(Filters.of(model, dataset.train[:1].images_NCHW), dataset.train.spread(SCORED))
    arena = Arena(evidence, dataset.test.spread(EVALUATED))
    drawn = sum(timed(partial(arena.play, name))[1] for name in RANDOM)
    shared, dear = evidence.clock.seconds["responses"], 0.0  # what random orders have taken is used by selectors too
    drawn -= shared
    for name, selector in SELECTORS.items():
        scored = partial(evidence.clock.alone, partial(score, name, evidence))
        try:
            (scores, alone), seconds = timed(scored)
        except InputError as error:
            yield f"`{name}`: {error}", "", ""
            continue
        drawn += sum(timed(partial(arena.measure, some))[1] for some in arena.orders(scores).values())
        yield f"`{name}`, by itself", alone, alone / one
        if selector.cost in ("attribution", "ablations"):
            dear += seconds
        else:
            shared += seconds
    together = {
        "all selectors but attribution and ablation, together": shared,
        "attribution and ablation": dear,
        "the curves of all": drawn,
        "the whole arena": shared + dear + drawn,
    }
    for name, seconds in together.items():
        yield f"**{name}**", seconds, seconds / one


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=32, help="filters in each layer; default: 32")
    given, dataset = mnist(parser)
    columns = ("", "seconds", "of the pass")
    table(f"The arena at {given.filters} filters a layer", columns, costs(dataset, given.filters))


if __name__ == "__main__":
    main()
