"""The ablation engine on networks that are more than chains: python benchmarks/graphs.py (make bench-ablation).

Prints a Markdown table of 30 ablations of each network, by masks and by the engine, in turns, in this process. The time
of each is the smallest of some, in seconds of the processor, so that what else the machine does counts little. The
networks are untrained: their statistics, and the means of their logits, are those of some MNIST images, 32 x 32, in
colours. The numbers of filters are the report's shares of all (23, 69, 301, 333, 397 of 640), each with five random
controls of the same layers; they are spread over all layers evenly, or lie the more in a layer, the later it is;
and, where Torch-Pruning removes others with them elsewhere, in the first convolutions of blocks.
Predictions must be the same image by image, or the benchmark stops.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ablation import COUNTS, Ablations, evenly_spread, masked, pruned, with_controls
from measuring import mnist, table
from networks import VGG, densenet, mobilenet, resnet20, settled
from torch import nn
from torch.nn import functional

from tipping.ablation import evaluate_ablations
from tipping.data import Split
from tipping.network import Filters

INNER = ".one.0"  # the first convolution of each block of a ResNet: no shortcut adds to it
SETTLING = 256  # images whose statistics the networks take


@dataclass(frozen=True)
class Case:
    """A network, and the share of the masked loop's time that its ablations are to take at most."""

    name: str
    build: Callable[[], nn.Module]
    bar: float
    prunable: str | None = (
        None  # ends the names of layers of which Torch-Pruning removes filters, and no others with them
    )


CASES = (
    Case("VGG, `torch.flatten`", VGG, 0.45, prunable=""),
    Case("ResNet-20, width 16", lambda: resnet20(16), 0.65, INNER),
    Case("ResNet-20, width 64", lambda: resnet20(64), 0.55, INNER),
    Case("MobileNetV2's blocks", mobilenet, 0.8),
    Case("DenseNet-BC", densenet, 0.8),
)


def coloured(split: Split) -> Split:
    """Images of 32 x 32 in three colours, which differ from image to image."""
    tints = torch.rand(len(split), 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return Split(functional.pad(split.images_NCHW, (2, 2, 2, 2)) * tints, split.labels_N)


def mostly_late(network: Filters, counts: Sequence[int]) -> Ablations:
    """As many filters, the more in a layer, the later it is: as relevant filters lie."""
    layer_F, rng = network.index.layer_F, np.random.default_rng(0)
    weight_F = (layer_F + 1.0) ** 2
    chosen = [rng.choice(len(layer_F), count, replace=False, p=weight_F / weight_F.sum()) for count in counts]
    return with_controls(chosen, layer_F)


def inside(network: Filters, counts: Sequence[int], end: str) -> Ablations:
    """As many filters of the layers whose names end so, at random."""
    layer_F, rng = network.index.layer_F, np.random.default_rng(0)
    layers = [number for number, layer in enumerate(network.index.layers) if layer.endswith(end)]
    candidates = np.flatnonzero(np.isin(layer_F, layers))
    share = len(candidates) / len(layer_F)
    return with_controls([rng.choice(candidates, round(share * count), replace=False) for count in counts], layer_F)


def rows(cases: Sequence[Case], train: Split, test: Split, repeats: int) -> Iterator[Sequence[Any]]:
    """A row of the table for each network and each kind of ablations."""
    for case in cases:
        network = Filters.of(settled(case.build(), train.images_NCHW), test.images_NCHW[:1])
        filters = len(network.index.layer_F)
        counts = [round(count * filters / 640) for count in COUNTS]
        for kind, chosen in (("evenly spread", evenly_spread), ("mostly late", mostly_late)):
            beside = case.prunable == ""
            yield (
                *(case.name, str(filters), kind),
                *compared(case, network, test, chosen(network, counts), repeats, beside),
            )
        if case.prunable:
            ablations = inside(network, counts, case.prunable)
            yield case.name, str(filters), "inside blocks", *compared(case, network, test, ablations, repeats, True)


def compared(
    case: Case, network: Filters, test: Split, ablations: Ablations, repeats: int, beside: bool
) -> Sequence[Any]:
    """The seconds of masks and of the engine, their ratio, the bar, and the ratio of Torch-Pruning."""
    ways: dict[str, Callable[[Filters, Split, Ablations], np.ndarray]] = {"masks": masked, "engine": evaluate_ablations}
    ways |= {"pruned": pruned} if beside else {}
    best = dict.fromkeys(ways, np.inf)
    for _ in range(repeats):
        results = {}
        for name, way in ways.items():
            start = time.process_time()
            results[name] = way(network, test, ablations)
            best[name] = min(best[name], time.process_time() - start)
        classes, counts = np.unique(results["masks"], return_counts=True)
        if len(classes) < 2 or counts.max() > 0.9 * counts.sum():
            raise SystemExit(f"{case.name}: nearly all predictions are one class")
        if (different := int((results["engine"] != results["masks"]).sum())) > 0:
            raise SystemExit(f"{case.name}: {different} predictions differ from those of the masked network")
    peer = f"{best['pruned'] / best['masks']:.2f}" if beside else ""
    return best["masks"], best["engine"], f"{best['engine'] / best['masks']:.2f}", f"{case.bar:.2f}", peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="test images of the 30 ablations")
    parser.add_argument("--repeats", type=int, default=3, help="times that each way runs, in turns")
    parser.add_argument("--only", nargs="+", type=int, help="numbers of the networks, from 0")
    arguments, dataset = mnist(parser)
    test, train = coloured(dataset.test.spread(arguments.images)), coloured(dataset.train.spread(SETTLING))
    cases = CASES if arguments.only is None else [CASES[number] for number in arguments.only]
    columns = (
        "network",
        "filters",
        "ablations",
        "masks s",
        "engine s",
        "of the masked loop's",
        "bar",
        "Torch-Pruning's",
    )
    table(f"30 ablations, {len(test):,} test images", columns, rows(cases, train, test, arguments.repeats))


if __name__ == "__main__":
    main()
