"""Responses of filters to images, streamed into the Gram matrix of the mu-lasso."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tipping.data import Split, evaluation_batches
from tipping.errors import InputError
from tipping.mu_lasso import MuLassoProblem
from tipping.network import Filters, Hook, Maps, evaluating, hooked, restored, up_to_last

SQUARED = 2**21  # activations squared at once on a CPU: their 8 MB stay in its cache
EIGEN = 4096  # matrices whose eigenvalues are found at once; CUDA's library refuses some 32,000
TOGETHER = 1000  # images whose responses are normalised at once, at most


def frobenius(maps_NFHW: Tensor) -> Tensor:
    """Return the Frobenius norm of each map: (N, filters). For dense units (N, units) it is the absolute value."""
    return squared(maps_NFHW).sqrt()


def squared(maps_NFHW: Tensor) -> Tensor:
    """Return the square of each map's Frobenius norm: (N, filters), in float32 at least."""
    maps_NFHW = _widened(maps_NFHW)
    if maps_NFHW.ndim == 2:
        return maps_NFHW.square()
    few = max(1, SQUARED // maps_NFHW[0].numel()) if maps_NFHW.device.type == "cpu" else len(maps_NFHW)
    parts = torch.split(maps_NFHW, few)  # torch.linalg.norm takes twice as long
    return torch.cat([part.square().sum((2, 3)) for part in parts])


def spectral(maps_NFHW: Tensor) -> Tensor:
    """Return the spectral norm of each map: (N, filters).

    It is the largest singular value, computed as the root of the largest eigenvalue of M Mᵀ.
    """
    if maps_NFHW.ndim == 2 or min(maps_NFHW.shape[2:]) == 1:  # a single row or column
        return frobenius(maps_NFHW)
    maps = _widened(maps_NFHW).contiguous()
    if maps.shape[2] > maps.shape[3]:
        maps = maps.mT
    squares = (maps @ maps.mT).flatten(0, 1)
    largest = torch.cat([torch.linalg.eigvalsh(part)[:, -1] for part in torch.split(squares, EIGEN)])
    return largest.view(maps.shape[:2]).clamp(min=0).sqrt()


def _widened(maps: Tensor) -> Tensor:
    """Return maps in float32 at least: in float16 the square of 256 is infinite, and that of 1e-4 is 0."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


NORMS: dict[str, Callable[[Tensor], Tensor]] = {"frobenius": frobenius, "squared": squared, "spectral": spectral}


def normalize(norms_NF: Tensor) -> Tensor:
    """Divide each image's norms in one layer by their sum, in float64: (N, filters). An all-zero row stays zero."""
    norms_NF = norms_NF.double()
    totals_N1 = norms_NF.sum(1, keepdim=True)
    return norms_NF / torch.where(totals_N1 > 0, totals_N1, 1)


@contextmanager
def recorded(model: nn.Module, maps: Maps, norm: str = "frobenius") -> Iterator[list[Tensor]]:
    """Record the norms of maps within the context: each forward pass fills the list that the context gives.

    The list has a tensor (N, filters) for each place measured. The maps themselves are not kept.

    Args:
        norm: `frobenius`, `squared` or `spectral`.
    """
    norms: list[Tensor] = [torch.empty(0)] * len(maps)

    def recording(place: int) -> Hook:
        def hook(_: nn.Module, __: object, maps_NFHW: Tensor) -> None:
            norms[place] = NORMS[norm](maps_NFHW)

        return hook

    with hooked(model, [(layer, module, recording(place)) for place, (layer, module) in enumerate(maps)]):
        yield norms


@dataclass(frozen=True)
class Measure:
    """The measure of responses, and the labels that the responses are to explain.

    Attributes:
        norm: the norm of each map: `frobenius`, `squared` or `spectral`.
        labels: `true`, `predicted` (by the network) or `permuted` (at random among the images).
        seed: the seed of the permutation.
        gram: the type of the Gram matrix: `float64`, or `float32`, which takes half the memory.
        scale: `layer`, norms are divided by their sum over the layer; or `raw`, they are left as they are.
    """

    norm: str = "frobenius"
    labels: str = "true"
    seed: int = 0
    gram: str = "float64"
    scale: str = "layer"

    def recipe(self, filters: Filters) -> dict[str, Any]:
        """Return the norm, scale, labels and maps: with the network and images, they decide the responses."""
        labels = f"permuted by {self.seed}" if self.labels == "permuted" else self.labels
        halved = {} if self.gram == "float64" else {"gram": self.gram}
        raw = {} if self.scale == "layer" else {"scale": self.scale}
        return {"norm": self.norm, "labels": labels, "maps": filters.maps, **halved, **raw}


PLAIN = Measure()
GRAM_TYPES = {"float64": torch.float64, "float32": torch.float32}
Images = Split | Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()  # not inference mode: a network may keep tensors for a pass with gradients
def collect(
    filters: Filters, images: Images, measure: Measure = PLAIN, watch: Callable[[Tensor], None] | None = None
) -> MuLassoProblem:
    """Collect the mu-lasso problem of a network: responses X of all images against one-hot labels L.

    X (N, R) holds a norm of each map, L1-normalised at each place measured [oramas2019] unless the scale is raw. XᵀX
    and XᵀL are summed batch by batch, so that X is never in memory as a whole; in float64, or rounded to float32 once a
    batch.

    Args:
        watch: called with the responses (N, R) of some images at a time.

    Raises:
        InputError: a response is not finite.
    """

    def watched(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for responses_NR, onehot_NC in batches:
            if watch:
                watch(responses_NR)
            yield responses_NR, onehot_NC

    with closing(response_batches(filters, images, measure)) as batches:
        return MuLassoProblem.stream(watched(batches), GRAM_TYPES[measure.gram])


def response_batches(
    filters: Filters, images: Images, measure: Measure = PLAIN
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the responses (N, R) and one-hot labels (N, C) of all images, some images at a time.

    The network has hooks and is in eval mode until the generator ends. Close the generator if it may not be used up,
    since an exception keeps it alive in its traceback.

    Args:
        images: a split, or batches of images and labels, read as they are needed. Labels of batches cannot be permuted.

    Raises:
        InputError: a response is not finite.
    """
    batches, model, maps = _batches(images, measure), filters.model, filters.maps
    waiting: list[tuple[list[Tensor], Tensor]] = []
    count = 0  # images in `waiting`
    predicted = measure.labels == "predicted"
    part = model if predicted else up_to_last(model, [module for _, module in maps])
    network = None
    with evaluating(model), recorded(model, maps, measure.norm) as norms:
        for images_NCHW, labels_N in tqdm(batches, desc="responses", leave=False, disable=None):
            network = network or _tried(part, model, maps, images_NCHW[:1])
            norms[:] = [torch.empty(0)] * len(norms)
            outputs = network(images_NCHW.clone())  # a copy: its first module may work in place
            _check_rows(maps, norms, len(images_NCHW))
            waiting.append((norms.copy(), outputs.argmax(1) if predicted else labels_N))
            count += len(labels_N)
            if count + len(labels_N) > TOGETHER:
                yield _responses(waiting, filters.classes, measure.scale)
                waiting.clear()
                count = 0
    if waiting:
        yield _responses(waiting, filters.classes, measure.scale)


def _tried(part: nn.Module, model: nn.Module, maps: Maps, image_1CHW: Tensor) -> nn.Module:
    """Return a part of a network, or the network where the part gives other maps of an image than the network does."""
    if part is model:
        return model
    devices = [image_1CHW.device] if image_1CHW.is_cuda else []
    passes = []
    for network in (model, part):
        with restored(model), torch.random.fork_rng(devices), recorded(model, maps) as norms:  # it may keep state
            network(image_1CHW.clone())
        passes.append(norms)
    return part if all(torch.equal(*pair) for pair in zip(*passes, strict=True)) else model


def _check_rows(maps: Maps, norms: Sequence[Tensor], images: int) -> None:
    """Raise `InputError` unless each image has passed each place measured once."""
    for (layer, _), norms_NF in zip(maps, norms, strict=True):
        if len(norms_NF) != images:
            raise InputError(
                f"{layer} gives {len(norms_NF)} maps of each filter for {images} images: each image must pass it once, "
                "whatever the batch; leave the layer out"
            )


def _batches(images: Images, measure: Measure) -> Iterable[tuple[Tensor, Tensor]]:
    """Return batches of images and labels; the labels are permuted if the measure says so."""
    if not isinstance(images, Split):
        assert measure.labels != "permuted", "labels that come batch by batch are not all known"
        return images
    if measure.labels != "permuted":
        return evaluation_batches(images)
    order_N = torch.randperm(len(images), generator=torch.Generator().manual_seed(measure.seed))
    return evaluation_batches(replace(images, labels_N=images.labels_N[order_N.to(images.labels_N.device)]))


def _responses(batches: list[tuple[list[Tensor], Tensor]], classes: int, scale: str) -> tuple[Tensor, Tensor]:
    """Return the responses (N, R) and one-hot labels (N, C) of some batches of norms and labels."""
    places = zip(*(norms for norms, _ in batches), strict=True)
    norms = [torch.cat(place) for place in places]
    scaled = [normalize(one) if scale == "layer" else one.double() for one in norms]
    responses_NR = torch.cat(scaled, dim=1)
    if not responses_NR.isfinite().all():
        raise InputError(
            "the network's responses are not finite: look for NaN in its images and weights, or train with a smaller "
            "trainer.learning_rate"
        )
    return responses_NR, functional.one_hot(torch.cat([labels_N for _, labels_N in batches]), classes)


@torch.no_grad()  # not inference mode: a network may keep tensors for a pass with gradients
def watch_maps(filters: Filters, split: Split, watch: Callable[[str, Tensor], None]) -> None:
    """Pass images, and have the maps watched that filters have where they are ablated.

    Args:
        watch: called for each batch with the name of each layer and its maps (N, C, H, W) or outputs (N, C); again
            where a layer is used more than once.
    """
    model, maps = filters.model, list(filters.sites.items())
    part = up_to_last(model, [module for _, module in maps])

    def watching(layer: str) -> Hook:
        return lambda _, __, maps_NCHW: watch(layer, maps_NCHW)

    with evaluating(model):
        network = _tried(part, model, tuple(maps), split[:1].images_NCHW)
        with hooked(model, [(layer, module, watching(layer)) for layer, module in maps]):
            for images_NCHW, _ in tqdm(evaluation_batches(split), desc="maps", leave=False, disable=None):
                network(images_NCHW.clone())


def mean_activations(filters: Filters, split: Split) -> Tensor:
    """Average each filter's activations over all images and positions: (F,), in the type of the network's weights."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}  # images; each counts again where a layer is used more than once

    def add(layer: str, maps_NCHW: Tensor) -> None:
        means_NC = maps_NCHW.flatten(2).mean(2) if maps_NCHW.ndim > 2 else maps_NCHW
        sums[layer] = sums.get(layer, 0) + means_NC.double().sum(0)
        counts[layer] = counts.get(layer, 0) + len(means_NC)

    watch_maps(filters, split, add)
    means_F = torch.cat([sums[layer] / counts[layer] for layer in filters.sites])
    return means_F.to(next(filters.model.parameters()))
