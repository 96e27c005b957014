"""What a map costs: python benchmarks/cost.py (make bench-cost).

Prints the Markdown tables of docs/scaling.md. The seconds of a stage are those of each thing it does, at rates fitted
on small sizes; sizes and an architecture that the fit has not seen check them. At these rates, and on cards that do so
many multiply-accumulates a second: a map of networks of ImageNet's size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import mnist, passes, table, timed
from problems import synthetic
from scipy.optimize import nnls
from torch import Tensor, nn

from tipping.ablation import evaluate_ablations
from tipping.data import Dataset
from tipping.mu_lasso import MuLassoProblem, spg
from tipping.network import Filters, build
from tipping.network.training import train
from tipping.selection import collect

ROOT = Path(__file__).parents[1]
TRAINER: dict[str, Any] = {"max_epochs": 1, "batch_size": 128, "learning_rate": 1e-3}
TRAINED, TESTED, ABLATIONS = 2_000, 500, 12  # images of MNIST, and how many ablations of half of the filters
KERAS = {"_target_": "tipping.models.KerasCNN", "depth": 5, "dropout": 0.5}
SMALL = {f"keras_cnn, {filters} filters a layer": {**KERAS, "filters": filters} for filters in (8, 16, 32, 64, 96)}
HELD_OUT: dict[str, dict[str, Any]] = {
    "keras_cnn, 128 filters a layer": {**KERAS, "filters": 128},
    "matconvnet": {"_target_": "tipping.models.MatConvNet"},
}
SMALL_PROBLEMS = [(640, 10), (640, 100), (1280, 10), (1280, 100), (2560, 10), (2560, 40)]  # filters and classes
HELD_OUT_PROBLEMS = [(2560, 100), (4240, 20)]
MUS = np.array([0.15, 1.5])  # for each filter, since a layer's responses sum to 1
COUNTED = {  # what decides the seconds of a stage
    **dict.fromkeys(("training", "responses", "ablation"), ("multiply-accumulate", "value written", "image")),
    "Gram matrix": ("filter² · image", "filter · image"),
    "selection": ("filter · weight", "class · mu"),
}
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # filters; 0 pools
DIGITS = 10  # classes of data=digits
NETWORKS, MUS_OF_MAP, DRAWS, TRAIN, TEST, CLASSES = 100, 20, 20, 1_281_167, 50_000, 1000  # of the map on ImageNet
RELEVANT = 300  # filters with a weight for a class, in the mean over mu: a guess
CARD = 1.3e13  # multiply-accumulates a second in float32: two fifths of what the data sheet of an H100 gives


class Sample(NamedTuple):
    """What was done in a stage, by what decides its cost, and its seconds."""

    stage: str
    size: str
    done: np.ndarray
    seconds: float


def work(model: nn.Module, image_1CHW: Tensor, left: float = 1.0) -> np.ndarray:
    """Multiply-accumulates, values written and images of a pass of an image through a chain, where a share of the
    filters of each layer is left."""
    shares = {name: left for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    done, share = np.array([0.0, 0.0, 1.0]), 1.0

    def count(module: nn.Module, _: Any, out: Tensor, name: str) -> None:
        nonlocal share
        if isinstance(module, nn.Conv2d | nn.Linear):
            before, share = share, shares.get(name, 1.0)
            done[0] += before * share * out.numel() * module.weight[0].numel()
        done[1] += share * out.numel()

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(partial(count, name=name)) for name, module in leaves]
    with torch.no_grad():
        model.eval()(image_1CHW)
    for hook in hooks:
        hook.remove()
    return done


def network_samples(size: str, options: dict[str, Any], dataset: Dataset) -> Iterator[Sample]:
    """Training, responses and ablations of a network."""
    model = build(options, dataset.image_shape, len(dataset.classes), seed=0)
    few, image = replace(dataset, train=dataset.train.spread(TRAINED)), dataset.train[:1].images_NCHW
    whole, half = work(model, image), work(model, image, left=0.5)
    yield Sample("training", size, TRAINED * whole, timed(lambda: train(model, few, **TRAINER, seed=0))[1])
    filters = Filters.of(model.eval(), image)
    passes(model, few.test.spread(TESTED))  # a first one takes longer
    yield Sample("responses", size, TRAINED * whole, timed(lambda: collect(filters, few.train))[1])
    layer_F, rng = filters.index.layer_F, np.random.default_rng(0)
    parts = [np.flatnonzero(layer_F == layer) for layer in np.unique(layer_F)]
    chosen = [np.concatenate([rng.permutation(part)[: len(part) // 2] for part in parts]) for _ in range(ABLATIONS)]
    _, seconds = timed(lambda: evaluate_ablations(filters, dataset.test.spread(TESTED), chosen))
    yield Sample("ablation", size, ABLATIONS * TESTED * half, seconds)


def problem_samples(filters: int, classes: int) -> Iterator[Sample]:
    """The Gram matrix of some responses, and the solutions for some mu."""
    size, batches = f"{filters:,} filters, {classes} classes", list(synthetic(4 * filters, filters, classes))
    problem, seconds = timed(lambda: MuLassoProblem.stream(batches))
    yield Sample("Gram matrix", size, 4 * filters * np.array([filters**2, filters]), seconds)
    solution, seconds = timed(lambda: spg(problem, (filters * MUS).tolist()))
    weights = int((solution.weights_MFC != 0).sum())
    yield Sample("selection", size, np.array([filters * weights, len(MUS) * classes]), seconds)


def rates(samples: Sequence[Sample]) -> np.ndarray:
    """Seconds for one of each thing done, not negative, of the least squares of the relative errors."""
    relative = np.array([sample.done / sample.seconds for sample in samples])
    scale = relative.max(0)
    return nnls(relative / scale, np.ones(len(samples)))[0] / scale


def checks(small: Sequence[Sample], held_out: Sequence[Sample], of: dict[str, np.ndarray]) -> Iterator[Sequence[Any]]:
    """What the rates say of sizes that they were not fitted on, beside what was measured."""
    for stage, rate in of.items():
        errors = [abs(rate @ one.done / one.seconds - 1) for one in small if one.stage == stage]
        for one in (one for one in held_out if one.stage == stage):
            predicted = float(rate @ one.done)
            yield (
                stage,
                f"{100 * max(errors):.0f} %",
                one.size,
                one.seconds,
                predicted,
                f"{predicted / one.seconds:.2f}",
            )


def bytes_of(filters: int, parameters: int, classes: int, tested: int, draws: int) -> dict[str, float]:
    """Of the files of a network, and of each mu."""
    return {
        "network": 4 * parameters,  # float32
        "Gram matrix, XᵀL": 8 * filters * (filters + classes),  # float64
        "W": 8 * filters * classes,  # float64
        "predictions": (1 if classes <= 256 else 2) * tested * (2 + draws),  # before compression
    }


def sizes(filters: int) -> Iterator[Sequence[Any]]:
    """The files of a job on the digits, beside what they should take."""
    given = f"data=digits model.filters={filters} mu=100 curve.points=1 curve.images=1 visualize=off tracking=off"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = [f"store.dir={folder / 'store'}", f"hydra.run.dir={folder / 'job'}"]
        job = [sys.executable, str(ROOT / "interpret.py"), *given.split(), *places]
        subprocess.run(job, check=True, stdout=subprocess.DEVNULL)
        written = [next((folder / "store" / kind).glob("*.pt")) for kind in ("networks", "responses")]
        written += [folder / "job" / f"{kind}.npz" for kind in ("selection", "predictions")]
        model = build({**KERAS, "filters": filters}, (1, 8, 8), DIGITS, seed=0)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        expected = bytes_of(5 * filters, parameters, DIGITS, tested=360, draws=5)
        for (kind, said), path in zip(expected.items(), written, strict=True):
            size = path.stat().st_size
            yield kind, f"{size:,}", f"{said:,}", f"{said / size:.2f}"


def vgg16() -> nn.Module:
    """A network of ImageNet's size, its weights without storage."""
    modules: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):
        for filters in VGG16:
            modules += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()] if filters else [nn.MaxPool2d(2)]
            channels = filters or channels
        dense = [
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, CLASSES),
        ]
        model = nn.Sequential(*modules, nn.Flatten(), *dense)
    return model


def plan(of: dict[str, np.ndarray]) -> Iterator[Sequence[Any]]:
    """The stages of a map of trained networks on ImageNet: on the cores at hand, and on cards."""
    model, image, filters = vgg16(), torch.empty(1, 3, 224, 224, device="meta"), sum(VGG16)
    stages = {
        "responses": TRAIN * work(model, image),
        "Gram matrix": TRAIN * np.array([filters**2, filters]),
        "selection": MUS_OF_MAP * CLASSES * np.array([filters * RELEVANT, 1]),
        "ablation": TEST * MUS_OF_MAP * (1 + DRAWS) * work(model, image, left=0.5),
    }
    hours = np.array([[float(of[stage] @ done), float(done[0]) / CARD] for stage, done in stages.items()])
    hours[list(stages).index("selection"), 1] = hours[list(stages).index("selection"), 0]  # on the cores beside it
    hours *= NETWORKS / 3600
    for stage, (here, card) in zip([*stages, "**all**"], [*hours, hours.sum(0)], strict=True):
        yield stage, f"{here:,.0f}", f"{card:,.1f}", f"{card / 100:,.2f}"


def disk() -> Iterator[Sequence[Any]]:
    """What that map leaves on the disk."""
    parameters = sum(parameter.numel() for parameter in vgg16().parameters())
    each = bytes_of(sum(VGG16), parameters, CLASSES, TEST, DRAWS)
    for (kind, size), times in zip(each.items(), (1, 1, MUS_OF_MAP, MUS_OF_MAP), strict=True):
        yield kind, f"{size / 1e6:,.1f}", f"{NETWORKS * times:,}", f"{size * NETWORKS * times / 1e9:,.1f}"


def main() -> None:
    """Measure, fit, check and extrapolate."""
    _, dataset = mnist(argparse.ArgumentParser(description=__doc__))
    small = [one for size, options in SMALL.items() for one in network_samples(size, options, dataset)]
    small += [one for problem in SMALL_PROBLEMS for one in problem_samples(*problem)]
    held_out = [one for size, options in HELD_OUT.items() for one in network_samples(size, options, dataset)]
    held_out += [one for problem in HELD_OUT_PROBLEMS for one in problem_samples(*problem)]
    of = {stage: rates([one for one in small if one.stage == stage]) for stage in dict.fromkeys(s.stage for s in small)}
    rates_of = {stage: zip(COUNTED[stage], 1e9 * rate, strict=True) for stage, rate in of.items()}
    rows = ((stage, what, seconds) for stage, each in rates_of.items() for what, seconds in each)
    table("Rates", ("stage", "what it does", "seconds for 10⁹"), rows)
    heads = ("stage", "largest error of the fit", "held out", "seconds", "predicted", "ratio")
    table("Sizes that the fit has not seen", heads, checks(small, held_out, of))
    table("Files of a job of 320 filters on the digits", ("file", "bytes", "predicted", "ratio"), sizes(64))
    columns = ("stage", "hours on these cores", "on one card", "on a hundred")
    table(f"{NETWORKS} networks of {sum(VGG16):,} filters, {MUS_OF_MAP} mu, {DRAWS} draws", columns, plan(of))
    table("Its files", ("file", "MB each", "files", "GB"), disk())


if __name__ == "__main__":
    main()
