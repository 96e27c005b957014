"""The ablation engine beside what a user would do instead: python benchmarks/ablation.py (make bench-ablation).

Prints Markdown tables; everything runs in this process, on the same cores and threads. The networks are keras_cnn of
128 and of 32 filters, trained for three epochs on 6,000 MNIST images; the ablations are of the report's numbers of
filters (23, 69, 301, 333, 397 of 640), each with the strongest filters and five random controls of the same layers.
Predictions must be the same image by image, or the benchmark stops.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch_pruning
from captum.attr import LayerFeatureAblation
from measuring import measure, mnist, passes, table, timed
from torch import nn

from tipping.ablation import evaluate_ablations
from tipping.data import Dataset, Split, evaluation_batches
from tipping.mu_lasso import spg
from tipping.network import Filters, build, up_to_last
from tipping.network.training import train
from tipping.selection import Candidates, Draws, collect, draw_controls, strongest_first

COUNTS = (23, 69, 301, 333, 397)  # relevant filters of the report's network of 640
ALONE = 64  # test images of the ablations of each filter alone
TRAINER: dict[str, Any] = {"max_epochs": 3, "batch_size": 128, "learning_rate": 1e-3}
Ablations = list[np.ndarray]
Way = tuple[str, Callable[[Filters, Split, Ablations], np.ndarray]]
OURS: Way = ("`evaluate_ablations`", evaluate_ablations)


def trained(dataset: Dataset, filters: int) -> Filters:
    """The filters of a keras_cnn trained on the images."""
    options = {"_target_": "tipping.models.KerasCNN", "filters": filters, "depth": 5, "dropout": 0.5}
    model = build(options, dataset.image_shape, len(dataset.classes), seed=0)
    train(model, dataset, **TRAINER, seed=0)
    return Filters.of(model, dataset.train[:1].images_NCHW)


def relevant_and_random(network: Filters, split: Split, counts: Sequence[int]) -> Ablations:
    """For each number of filters: the strongest at the first mu that makes as many relevant, and five controls."""
    problem, layer_F = collect(network, split), network.index.layer_F
    weights = [spg(problem, [mu]).weights_MFC[0].cpu().numpy() for mu in np.geomspace(10, 1e5, 40)]
    orders = [strongest_first(np.abs(weights_FC).sum(1), (weights_FC != 0).any(1)) for weights_FC in weights]
    chosen = [next(order[:count] for order in orders if len(order) >= count) for count in counts]
    return with_controls(chosen, layer_F)


def evenly_spread(network: Filters, counts: Sequence[int]) -> Ablations:
    """As many filters, spread over all layers alike: the arithmetic that is hardest to save."""
    layer_F, rng = network.index.layer_F, np.random.default_rng(0)
    chosen = [np.linspace(0, len(layer_F) - 1, count).astype(int) for count in counts]
    return [rng.permutation(order) for order in with_controls(chosen, layer_F)]


def with_controls(chosen: Sequence[np.ndarray], layer_F: np.ndarray) -> Ablations:
    """Sets of filters, each with five random controls of the same layers."""
    return [order for filters in chosen for order in (filters, *_controls(filters, layer_F))]


def _controls(filters: np.ndarray, layer_F: np.ndarray) -> Ablations:
    nothing = np.zeros(len(layer_F))
    return draw_controls(filters, Candidates(layer_F, nothing > 0, nothing, nothing, nothing == 0), 1.0, Draws())


# ---- what a user would do instead


def predictions(model: nn.Module, split: Split) -> np.ndarray:
    """The network as it is, over all images."""
    with torch.inference_mode():
        return np.concatenate([model(images).argmax(1).cpu().numpy() for images, _ in evaluation_batches(split)])


def masked(network: Filters, split: Split, ablations: Ablations) -> np.ndarray:
    """One ablation after another: the whole network, its activations times a mask."""
    return np.array([_masked(network, split, filters) for filters in ablations])


def _masked(network: Filters, split: Split, filters: np.ndarray) -> np.ndarray:
    index, handles = network.index, []
    for position, site in enumerate(network.sites.values()):
        kept = ~np.isin(np.flatnonzero(index.layer_F == position), filters)
        mask = torch.from_numpy(kept).to(split.images_NCHW)[:, None, None]
        hook = lambda _, __, maps, mask=mask: maps * mask  # noqa: E731
        handles.append(network.model.get_submodule(site).register_forward_hook(hook))
    found = predictions(network.model, split)
    for handle in handles:
        handle.remove()
    return found


def pruned(network: Filters, split: Split, ablations: Ablations) -> np.ndarray:
    """One ablation after another: a copy of the network, narrowed by Torch-Pruning."""
    return np.array([_pruned(network, split, filters) for filters in ablations])


def _pruned(network: Filters, split: Split, filters: np.ndarray) -> np.ndarray:
    index, smaller = network.index, copy.deepcopy(network.model)
    graph = torch_pruning.DependencyGraph().build_dependency(smaller, example_inputs=split[:1].images_NCHW)
    for position, layer in enumerate(index.layers):
        channels = index.channel_F[filters[index.layer_F[filters] == position]].tolist()
        if channels:
            convolution = smaller.get_submodule(layer)
            graph.get_pruning_group(convolution, torch_pruning.prune_conv_out_channels, idxs=channels).prune()
    return predictions(smaller, split)


@torch.no_grad()
def by_captum(network: Filters, split: Split, _: Ablations) -> np.ndarray:
    """Each filter alone, one after another, by captum's loop over the channels of a layer."""
    return np.concatenate([_by_captum(network.model, split, *names) for names in network.sites.items()])


def _by_captum(model: nn.Module, split: Split, layer: str, site: str) -> np.ndarray:
    channels = len(model.get_submodule(layer).get_parameter("weight"))
    predictions: list[np.ndarray] = []

    def forward(images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NC = model(images_NCHW)
        predictions.append(logits_NC.argmax(1).cpu().numpy())
        return logits_NC[:, 0]  # what it attributes plays no part

    ablation, each = LayerFeatureAblation(forward, model.get_submodule(site)), torch.arange(channels)[:, None, None]
    batches = []
    for images_NCHW, _ in evaluation_batches(split):
        predictions.clear()
        ablation.attribute(images_NCHW, layer_baselines=0, layer_mask=each[None].to(images_NCHW.device))
        batches.append(np.array(predictions[-channels:]))  # after those of the intact network
    return np.concatenate(batches, axis=1)


# ---- tables


def evaluations(network: Filters, split: Split, kinds: dict[str, Ablations], *others: Way) -> None:
    """All ablations together, and each way of evaluating them."""

    def rows() -> Iterator[Sequence[Any]]:
        for kind, ablations in kinds.items():
            base = measure(partial(masked, network, split, ablations))
            yield kind, "masks, one by one", base.seconds, "1.00", "", f"{base.megabytes:.0f}"
            for way, evaluate in (("Torch-Pruning, one by one", pruned), *others, OURS):
                if evaluate is pruned and not all(layers_keep_some(network, filters) for filters in ablations):
                    yield kind, way, "cannot remove a whole layer", "", "", ""
                    continue
                run = measure(partial(evaluate, network, split, ablations))
                different = int((run.result != base.result).sum())
                if evaluate is evaluate_ablations and different:
                    raise SystemExit(f"{different} predictions differ from those of the masked network")
                ratio = f"{run.seconds / base.seconds:.2f}"
                yield kind, way, run.seconds, ratio, str(different), f"{run.megabytes:.0f}"

    filters = len(network.index.layer_F)
    columns = ("ablations", "way", "seconds", "of the masked loop's", "predictions that differ", "MB")
    table(f"{filters} filters, {len(split):,} test images", columns, rows())


def layers_keep_some(network: Filters, filters: np.ndarray) -> bool:
    """Whether an ablation leaves each layer a filter."""
    layer_F = network.index.layer_F
    return len(np.unique(np.delete(layer_F, filters))) == len(np.unique(layer_F))


def collection(filters: int, network: Filters, split: Split) -> Sequence[Any]:
    """Responses and Gram matrix beside plain forward passes, and beside passes of the same modules without hooks: in
    turns, a tenth of the images at a time, after a first one."""
    tenth = len(split) // 10
    parts = [split[start : start + tenth] for start in range(0, len(split), tenth)]
    measured = up_to_last(network.model, network.sites.values())
    ways = (partial(passes, network.model), partial(passes, measured), partial(collect, network))
    runs = [[timed(partial(way, part))[1] for way in ways] for part in [parts[0], *parts]][1:]
    seconds = [sum(of) for of in zip(*runs, strict=True)]
    ratios = (statistics.median(run[2] / run[other] for run in runs) for other in (0, 1))
    return str(filters), f"{len(split):,}", *seconds, *(f"{ratio:.2f}" for ratio in ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="test images of the 30 ablations")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--filters", type=int, nargs="+", default=[128, 32], help="filters a layer of the networks")
    parser.add_argument("--brief", action="store_true", help="of the ablations, only the 30; no responses")
    arguments, dataset = mnist(parser)
    dataset = dataset.to(torch.device(arguments.device))
    few = replace(dataset, train=dataset.train.spread(6000))
    networks = {filters: trained(few, filters) for filters in arguments.filters}
    for filters, network in networks.items():
        counts = [count * filters // 128 for count in COUNTS]
        kinds = {
            "relevant and random": relevant_and_random(network, few.train, counts),
            "evenly spread": evenly_spread(network, counts),
        }
        evaluations(network, dataset.test.spread(arguments.images), kinds)
        if arguments.brief:
            continue
        alone = {"each filter alone": [np.array([f]) for f in range(5 * filters)]}
        evaluations(network, dataset.test.spread(ALONE), alone, ("captum's `LayerFeatureAblation`", by_captum))
    if arguments.brief:
        return
    columns = ("filters", "images", "plain passes s", "without the head s", "collected s", "of plain", "of those")
    rows = (collection(5 * filters, network, dataset.train) for filters, network in networks.items())
    table("Responses and Gram matrix", columns, rows)


if __name__ == "__main__":
    main()
