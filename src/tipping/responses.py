"""Responses of filters to images, streamed into the Gram matrix of the mu-lasso."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tipping.config import InputError
from tipping.data import CLASSES, Split, evaluation_batches
from tipping.models import Hook, activations, evaluating, hooked
from tipping.mu_lasso import MuLassoProblem
from tipping.store import Item, Store

log = logging.getLogger(__name__)
SQUARED = 2**21  # activations squared at once on a CPU: their 8 MB stay in its cache
TOGETHER = 1000  # images at most whose responses are normalised at once


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, each forward pass fills the dictionary with the Frobenius norm of each map, layer by layer.

    Norms are (N, filters) tensors; the maps themselves are never kept.
    """
    norms: dict[str, Tensor] = {}

    def recording(layer: str) -> Hook:
        def hook(_: nn.Module, __: object, maps_NFHW: Tensor) -> None:
            norms[layer] = frobenius(maps_NFHW)

        return hook

    with hooked(model, {layer: recording(layer) for layer in activations(model)}):
        yield norms


def frobenius(maps_NFHW: Tensor) -> Tensor:
    """The Frobenius norm of each map, (N, filters); of a dense unit's output (N, filters), its absolute value."""
    if maps_NFHW.ndim == 2:
        return maps_NFHW.abs()
    few = len(maps_NFHW) if maps_NFHW.is_cuda else max(1, SQUARED // maps_NFHW[0].numel())
    parts = torch.split(maps_NFHW, few)  # torch.linalg.norm takes twice as long
    return torch.cat([part.square().sum((2, 3)) for part in parts]).sqrt()


def normalize(norms_NF: Tensor) -> Tensor:
    """Divide each image's responses in one layer by their sum; an all-zero layer stays zero. In float64."""
    norms_NF = norms_NF.double()
    totals_N1 = norms_NF.sum(1, keepdim=True)
    return norms_NF / torch.where(totals_N1 > 0, totals_N1, 1)


def find_or_collect(model: nn.Module, weights: str, split: Split, store: Store) -> tuple[MuLassoProblem, Item]:
    """The mu-lasso problem of a network: from the store, or collected now and kept there.

    Args:
        weights: the digest of the network's tensors.

    Raises:
        InputError: a response is not finite, or the stored problem cannot be read.
    """
    recipe = {"weights": weights, "images": split.fingerprint, "norm": "frobenius", "labels": "true"}
    item = store.fetch("responses", recipe, lambda: asdict(collect(model, split)))
    log.info("responses %s: %s", item.key, "found in the store" if item.found else "collected")
    try:
        problem = MuLassoProblem(**item.tensors)
    except ValueError as error:
        raise InputError(f"{item.path}: {error}; delete it, and the next job makes it anew") from error
    return problem.to(split.labels_N.device), item


@torch.inference_mode()
def collect(model: nn.Module, split: Split) -> MuLassoProblem:
    """The mu-lasso problem of a network: responses X of all images against their one-hot labels L.

    X (N, F) is the L1-normalised Frobenius norm of each filter's map [oramas2019]; it is never held whole:
    XᵀX and XᵀL are summed batch by batch, in float64.

    Raises:
        InputError: a response is not finite.
    """
    return MuLassoProblem.stream(response_batches(model, split))


@torch.inference_mode()
def mean_activations(model: nn.Module, split: Split) -> Tensor:
    """The mean of each filter's activations over all images and positions: (F,), in the type of the weights.

    Raises:
        ValueError: the network does not name its filter layers.
    """
    sums: dict[str, Tensor] = {}

    def summing(layer: str) -> Hook:
        def hook(_: nn.Module, __: object, maps_NCHW: Tensor) -> None:
            means_C = maps_NCHW.flatten(2).mean(2) if maps_NCHW.ndim > 2 else maps_NCHW
            sums[layer] = sums.get(layer, 0) + means_C.double().sum(0)

        return hook

    with evaluating(model), hooked(model, {layer: summing(layer) for layer in activations(model)}):
        for images_NCHW, _ in tqdm(evaluation_batches(split), desc="means", leave=False, disable=None):
            model(images_NCHW.clone())
    means_F = torch.cat([sums[layer] for layer in activations(model)]) / len(split)
    return means_F.to(next(model.parameters()))


def response_batches(model: nn.Module, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Responses (N, F) and one-hot labels (N, C) of all images, some at a time.

    Raises:
        InputError: a response is not finite.
    """
    batches = evaluation_batches(split)
    waiting: list[tuple[list[Tensor], Tensor]] = []
    with evaluating(model), recorded(model) as norms:
        for images_NCHW, labels_N in tqdm(batches, desc="responses", leave=False, disable=None):
            model(images_NCHW.clone())  # its first module may work in place
            waiting.append(([norms[layer] for layer in activations(model)], labels_N))
            if (len(waiting) + 1) * batches.size > TOGETHER:
                yield _normalized(waiting)
                waiting.clear()
    if waiting:
        yield _normalized(waiting)


def _normalized(batches: list[tuple[list[Tensor], Tensor]]) -> tuple[Tensor, Tensor]:
    """Responses and one-hot labels of batches of norms, layer by layer, and labels."""
    layers = zip(*(norms for norms, _ in batches), strict=True)
    responses_NF = torch.cat([normalize(torch.cat(layer)) for layer in layers], dim=1)
    if not responses_NF.isfinite().all():
        raise InputError("the network's responses are not finite: train with a smaller trainer.learning_rate")
    return responses_NF, functional.one_hot(torch.cat([labels_N for _, labels_N in batches]), CLASSES)
