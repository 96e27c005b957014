"""Toy networks whose filters are scored, and slow ways to score them, without gradients and in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
import toy_chains
import toy_graphs
import toys
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tipping.data import Split
from tipping.network import Filters, evaluating, hooked
from tipping.selectors import Evidence

Scaled = Callable[[Filters, int, float], AbstractContextManager[None]]
IMAGES, STEP = 70, 1e-6  # images: more than one batch of a CPU; the step of differences, over which few ReLUs bend


class Transposed(nn.Sequential):
    """A grouped transposed convolution between two others."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(5 * 16, 10)),
        )


class ReadAgain(nn.Module):
    """Works in place on maps that are read again: by a ReLU, a product and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.dense = nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        first = self.conv1(images)
        second = self.conv2(self.relu1(first))  # first is overwritten
        second *= 2
        second += first
        return self.dense(self.relu2(second).mean((2, 3)))


class Frozen(toy_chains.Grouped):
    """Without gradients of its weights but for the last."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)
        self.dense.requires_grad_(True)


class Checkpointed(nn.Module):
    """Computes maps anew for gradients, keeps some, and has dense units of either sign."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU())
        self.dense1, self.tanh, self.dense2 = nn.Linear(3 * 16, 5), nn.Tanh(), nn.Linear(5, 10)
        self.kept = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        self.kept = checkpoint(self.block, images, use_reentrant=False)
        return self.dense2(self.tanh(self.dense1(self.kept.flatten(1))))


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "chain": toys.keras,
    "functions": toys.Functional,
    "untraceable": toys.Untraceable,
    "one ReLU": toys.OneReLU,
    "pooled": toys.pooled,
    "residual": toys.SmallResNet,
    "grouped": toy_chains.Grouped,
    "skip": toy_chains.Skipping,
    "twice": toy_chains.Twice,
    "weight norm": toy_chains.Parametrized,
    "frozen": Frozen,
    "read again": ReadAgain,
    "checkpointed": Checkpointed,
    "transposed": Transposed,
    "in place": toy_graphs.ZOO["in place"],
    "MobileNet": toy_graphs.ZOO["MobileNet"],
    "U-Net": toy_graphs.ZOO["U-Net"],
}


def evidence_of(name: str, **options: object) -> Evidence:
    """What selectors know of a network, whose dense units are filters too, and of random images of 4 of its classes."""
    model = toy_graphs.made(BUILDS[name])
    draw = torch.Generator().manual_seed(0)
    shape = (toy_graphs.COLOURS, toy_graphs.SIDE, toy_graphs.SIDE) if name in toy_graphs.ZOO else (1, 8, 8)
    images = torch.rand(IMAGES, *shape, generator=draw)
    labels = torch.randint(4, (IMAGES,), generator=draw)
    return Evidence(Filters.of(model, images[:1], dense=True), Split(images, labels), **options)  # type: ignore[arg-type]


def in_float64(evidence: Evidence) -> tuple[Filters, Tensor, Tensor]:
    """The filters of a copy of the network, the images and the labels."""
    model = copy.deepcopy(evidence.filters.given).double().eval()
    images = evidence.images.images_NCHW.double()
    return Filters.of(model, images[:1], dense=True), images, evidence.images.labels_N


@contextmanager
def scaled_map(filters: Filters, f: int, factor: float) -> Iterator[None]:
    layers, layer_F, channel_F = filters.index
    layer, channel = layers[layer_F[f]], channel_F[f]

    def hook(_: nn.Module, __: object, maps: Tensor) -> Tensor:
        maps = maps.clone()
        maps[:, channel] *= factor
        return maps

    with hooked(filters.model, [(layer, filters.sites[layer], hook)]):
        yield


@contextmanager
def scaled_weights(filters: Filters, f: int, factor: float) -> Iterator[None]:
    """Those of a plain layer, in place."""
    layers, layer_F, channel_F = filters.index
    module, channel = filters.model.get_submodule(layers[layer_F[f]]), channel_F[f]
    weight, bias = module.weight.data, module.bias
    if isinstance(module, nn.ConvTranspose2d):
        each, inputs = weight.shape[1], len(weight) // module.groups
        group = channel // each
        part = weight[group * inputs : (group + 1) * inputs, channel % each]
    else:
        part = weight[channel]
    part *= factor
    if bias is not None:
        bias.data[channel] *= factor
    yield
    part /= factor
    if bias is not None:
        bias.data[channel] /= factor


def slopes(evidence: Evidence, scaled: Scaled = scaled_map) -> tuple[np.ndarray, np.ndarray]:
    """How the loss of each image, and the logit of its class, change as something of each filter is scaled: (N, F)
    each, by differences."""
    filters, images, labels = in_float64(evidence)

    def values(f: int, factor: float) -> Tensor:
        with torch.no_grad(), evaluating(filters.model), scaled(filters, f, factor):
            logits = filters.model(images.clone())
        return torch.stack([functional.cross_entropy(logits, labels, reduction="none"), logits[range(IMAGES), labels]])

    columns = [(values(f, 1 + STEP) - values(f, 1 - STEP)) / (2 * STEP) for f in range(len(filters.ablatable_F))]
    losses_NF, logits_NF = torch.stack(columns, 2).numpy()
    return losses_NF, logits_NF


def maps_of(evidence: Evidence) -> dict[str, list[np.ndarray]]:
    """The maps of each layer where its filters are ablated, image by image: (filters, positions, …); those of all uses
    of a layer one after another."""
    kept: dict[str, list[np.ndarray]] = {layer: [] for layer in evidence.filters.sites}

    def keeping(layer: str) -> Callable[..., None]:
        return lambda _, __, maps: kept[layer].append(maps[0].numpy().copy())

    model = evidence.filters.model
    hooks = [(layer, site, keeping(layer)) for layer, site in evidence.filters.sites.items()]
    with torch.no_grad(), evaluating(model), hooked(model, hooks):
        for image in evidence.images.images_NCHW:
            model(image[None].clone())
    return kept


def growing(evidence: Evidence, alphas: np.ndarray, conducting: bool) -> np.ndarray:
    """What conductance or internal influence sums up as an image grows from zero, at some parts of it: for each image,
    how the logit of its class changes, by differences, as the map of each filter is pushed to what it is at the next
    part, or as it is raised: (N, F, parts)."""
    filters, images, labels = in_float64(evidence)
    kept: dict[str, list[Tensor]] = {}

    def passed(alpha: float, hooks: dict[str, Callable[..., Tensor | None]]) -> Tensor:
        places = [(layer, filters.sites[layer], hook) for layer, hook in hooks.items()]
        with torch.no_grad(), evaluating(filters.model), hooked(filters.model, places):
            return filters.model(alpha * images)[range(len(labels)), labels]

    def keeping(layer: str) -> Callable[..., None]:
        return lambda _, __, maps: kept.setdefault(layer, []).append(maps.clone())

    def maps_at(alpha: float) -> dict[str, list[Tensor]]:
        kept.clear()
        passed(alpha, {layer: keeping(layer) for layer in filters.sites})
        return dict(kept)

    def slope(alpha: float, f: int, pushes: list[Tensor]) -> Tensor:
        layers, layer_F, channel_F = filters.index
        logits = []
        for step in (-STEP, STEP):
            todo = iter(pushes)

            def pushing(
                _: nn.Module, __: object, maps: Tensor, todo: Iterator[Tensor] = todo, by: float = step
            ) -> Tensor:
                maps = maps.clone()
                maps[:, channel_F[f]] += by * next(todo)[:, channel_F[f]]
                return maps

            logits.append(passed(alpha, {layers[layer_F[f]]: pushing}))
        return (logits[1] - logits[0]) / (2 * STEP)

    maps, layer_F, parts = [maps_at(alpha) for alpha in alphas], filters.index.layer_F, []
    for alpha, here, there in zip(alphas, maps, [*maps[1:], maps[-1]], strict=True):
        pairs = {layer: zip(here[layer], there[layer], strict=True) for layer in filters.sites}
        pushes = [[b - a if conducting else torch.ones_like(a) for a, b in pairs[layer]] for layer in filters.sites]
        parts.append(torch.stack([slope(alpha, f, pushes[number]) for f, number in enumerate(layer_F)], 1))
    return torch.stack(parts, 2).numpy()
