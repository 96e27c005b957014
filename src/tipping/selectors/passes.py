"""Passes of images that give all statistics of activations, and all of gradients, that selectors score filters by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tipping.data import Split, evaluation_batches
from tipping.errors import InputError
from tipping.network import Filters, Hook, evaluating, hooked, keeping_maps, restored
from tipping.selection import watch_maps

UNREACHED: Any = {
    "allow_unused": True,
    "materialize_grads": True,
}  # maps on which the logits do not depend have gradient 0
Place = tuple[str, str]  # a layer, and the submodule that gives its maps


class Activations(NamedTuple):
    """The activations of filters where they are ablated, averaged over images and positions.

    Attributes:
        mean_F: the mean activation.
        active_F: the share of activations that are not zero.
    """

    mean_F: np.ndarray
    active_F: np.ndarray


class Gradients(NamedTuple):
    """The gradients of filters, in products with what they are gradients of, over N images.

    a is an activation of the filter where it is ablated, at one of P positions; ℓ is the cross-entropy of an image, and
    z_y the logit of its class; w is one of the filter's weights, or its bias.

    Attributes:
        size_F: mean_n |Σ_p a ∂ℓ/∂a| / P.
        square_F: mean_n (Σ_p a ∂ℓ/∂a)².
        weights_F: mean_n Σ_w w ∂ℓ/∂w.
        logit_FC: Σ_p a ∂z_y/∂a, averaged over the images of each class; zero for a class without images.
    """

    size_F: np.ndarray
    square_F: np.ndarray
    weights_F: np.ndarray
    logit_FC: np.ndarray


def activations_of(filters: Filters, images: Split) -> Activations:
    """Return the statistics of the activations, from one pass."""
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()  # images; each counts again where a layer is used more than once

    def add(layer: str, maps_NCHW: Tensor) -> None:
        maps_NCP = maps_NCHW.flatten(2) if maps_NCHW.ndim > 2 else maps_NCHW[..., None]
        means_2NC = torch.stack([maps_NCP.mean(2), maps_NCP.sign().abs().mean(2)])  # counting takes three times as long
        sums[layer] = sums.get(layer, 0) + means_2NC.double().sum(1)
        counts[layer] += len(maps_NCHW)

    watch_maps(filters, images, add)
    return Activations(*torch.cat([sums[layer] / counts[layer] for layer in filters.sites], 1).cpu().numpy())


def gradients_of(filters: Filters, images: Split) -> Gradients:
    """Return the statistics of the gradients, from one pass forward and back for the loss, and back for the logit.

    A layer is linear in its weights and bias: with its output o, Σ_w w ∂ℓ/∂w = Σ_p o ∂ℓ/∂o. So weights need no gradient
    of their own. Where a layer is used more than once, the sums run over all its uses.

    Raises:
        InputError: the logits have no gradient, or a layer is not given each image of a batch once.
    """
    sums: list[Tensor] = []
    with maps_kept(filters) as forward:
        for images_NCHW, labels_N in tqdm(evaluation_batches(images), desc="gradients", leave=False, disable=None):
            parts = _of_batch(filters, *forward(images_NCHW), labels_N)
            sums = [one + other for one, other in zip(sums, parts, strict=True)] if sums else parts
    images_C = images.labels_N.bincount(minlength=filters.classes)
    means = [*(one / len(images) for one in sums[:3]), sums[3] / images_C.clamp(min=1)]
    return Gradients(*(one.cpu().numpy() for one in means))


Uses = dict[Place, list[Tensor]]


@contextmanager
def maps_kept(filters: Filters) -> Iterator[Callable[[Tensor], tuple[Tensor, Uses]]]:
    """Give a function that passes images (N, channels, H, W) within the context, and returns logits (N, C) and the maps
    of each use of each layer, at the layer and where its filters are ablated, for gradients with respect to them.

    The maps stay what they were where the network overwrites them, and have gradients also where weights are frozen.
    The network is unchanged afterwards.
    """
    model, layers = filters.model, list(filters.sites)
    uses: Uses = {place: [] for place in dict.fromkeys([*zip(layers, layers, strict=True), *filters.sites.items()])}

    def keeping(place: Place) -> Hook:
        def hook(_: nn.Module, __: object, maps_NCHW: Tensor) -> Tensor:
            kept = maps_NCHW if maps_NCHW.requires_grad else maps_NCHW.detach().clone().requires_grad_()
            uses[place].append(kept)
            return kept.clone()

        return hook

    def forward(images_NCHW: Tensor) -> tuple[Tensor, Uses]:
        for kept in uses.values():
            kept.clear()
        logits_NC = model(images_NCHW.clone())
        for (layer, _), kept in uses.items():
            if not kept or any(len(maps) != len(images_NCHW) for maps in kept):
                raise InputError(f"{layer}: each image must pass it once, whatever the batch; leave the layer out")
        if not logits_NC.requires_grad:
            raise InputError(f"{type(model).__name__}: no gradients of its logits reach its filters; leave them out")
        return logits_NC, uses

    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.enable_grad(), restored(model), evaluating(model)):
            stack.enter_context(context)
        stack.enter_context(keeping_maps())
        stack.enter_context(hooked(model, [(*place, keeping(place)) for place in uses]))
        yield forward


def _of_batch(filters: Filters, logits_NC: Tensor, uses: Uses, labels_N: Tensor) -> list[Tensor]:
    """Return what a batch adds to each statistic of `Gradients`, before the means over images."""
    losses_N = functional.cross_entropy(logits_NC.double(), labels_N, reduction="none")  # else sure ones lose digits
    at_sites = {place: uses[place] for place in filters.sites.items()}
    of_loss, of_logit = _products(losses_N, uses), _products(logits_NC.gather(1, labels_N[:, None]), at_sites)
    loss_NF, logit_NF = (torch.cat([each[site] for site in at_sites], 1) for each in (of_loss, of_logit))
    weights_NF = torch.cat([of_loss[layer, layer] for layer in filters.sites], 1)
    positions = [sum(maps[0, 0].numel() for maps in kept) for kept in at_sites.values()]
    sizes_NL = [of_loss[site].abs() / count for site, count in zip(at_sites, positions, strict=True)]
    logit_FC = summed_by_class(logit_NF, labels_N, filters.classes)
    return [torch.cat(sizes_NL, 1).sum(0), loss_NF.square().sum(0), weights_NF.sum(0), logit_FC]


def summed_by_class(values_NF: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """Return values (N, F) summed over the images of each class: (F, C), in float64."""
    sums_FC = torch.zeros(values_NF.shape[1], classes, dtype=torch.float64, device=values_NF.device)
    return sums_FC.index_add_(1, labels_N, values_NF.T.double())


def summed_by_filter(maps: Iterable[Tensor]) -> Tensor:
    """Return maps (N, filters, …) summed over positions, and over all uses of a layer: (N, filters), in float64."""
    return torch.stack([one.reshape(*one.shape[:2], -1).sum(2).double() for one in maps]).sum(0)


def _products(values_N: Tensor, uses: Uses) -> dict[Place, Tensor]:
    """Return maps times the gradient of values with respect to them, summed over positions and uses: (N, filters)."""
    maps = [one for kept in uses.values() for one in kept]
    gradients = iter(torch.autograd.grad(values_N.sum(), maps, retain_graph=True, **UNREACHED))

    def product(one: Tensor) -> Tensor:
        return one.detach().to(torch.promote_types(one.dtype, torch.float32)) * next(gradients)

    return {place: summed_by_filter(map(product, kept)) for place, kept in uses.items()}
