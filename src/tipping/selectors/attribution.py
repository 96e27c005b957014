"""Selectors by attribution: how much of a class's logit comes by way of a filter, by captum and zennit [kokhlikyan2020,
anders2021]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tipping.data import Batches, evaluation_batches
from tipping.errors import InputError
from tipping.network import copy_of
from tipping.selectors.evidence import Evidence
from tipping.selectors.passes import UNREACHED, Uses, maps_kept, summed_by_class, summed_by_filter
from tipping.selectors.rules import rules_of

STEPS = 20  # of the way from no image to an image
Attribute = Callable[[Tensor, Tensor], Uses]  # of images and labels, to the maps where filters are ablated


def conductance(evidence: Evidence) -> np.ndarray:
    """Return what comes of the logit z_c of the images of each class c by way of a filter: the mean over these of
    Σ_p ∫ ∂z_c/∂a da, as the image grows from zero: (F, C), positive for what speaks for the class [dhamdhere2019].

    The integral is a sum over 20 steps, as captum takes it, over the images on which filters are ablated alone.
    """
    with _on_the_way("conductance", "LayerConductance", evidence) as attribute:
        return _by_class(evidence, attribute, STEPS + 1)


def internal_influence(evidence: Evidence) -> np.ndarray:
    """Return how the logit z_c of the images of each class c depends on a filter: the mean over these of
    Σ_p ∫ ∂z_c/∂a dt, as the image grows from zero by parts dt: (F, C), positive for what speaks for the class
    [leino2018].

    The integral is one by Gauss and Legendre at 20 points, over the images on which filters are ablated alone.
    """
    with _on_the_way("internal_influence", "InternalInfluence", evidence) as attribute:
        return _by_class(evidence, attribute, STEPS)


def lrp(evidence: Evidence) -> np.ndarray:
    """Return the relevance of a filter for the logit of each class, Σ_p R, averaged over its images: (F, C) [bach2015],
    which is that of concept relevance propagation [achtibat2023].

    R starts as the logit and goes back by the z⁺ rule through convolutions and the ε rule through dense layers; batch
    normalisation is merged into the layer before.

    Raises:
        InputError: zennit is missing, or the relevance would pass an operation without a rule.
    """
    with _back(evidence) as attribute:
        return _by_class(evidence, attribute, 1)


def _imported(selector: str, package: str) -> Any:
    """Return a package, or the part of one, that is installed on request.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        return import_module(package)
    except (ImportError, RuntimeError) as error:  # zennit imports torchvision, which may be one of another torch
        name, reason = package.partition(".")[0], str(error).partition("\n")[0]
        remedy = f"pip install 'tipping[attribution]' ({reason})"
        raise InputError(f"selector={selector} needs {name}: {remedy}") from error


class _AtOnce(nn.Module):
    """A module whose output is the maps of all layers, so that captum attributes to all in one pass."""

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return maps


@contextmanager
def _on_the_way(selector: str, method: str, evidence: Evidence) -> Iterator[Attribute]:
    """Give a function within the context by which a method of captum attributes to all maps."""
    captum, filters, at_once = _imported(selector, "captum.attr"), evidence.filters, _AtOnce()
    with maps_kept(filters) as forward:
        at_sites: Uses = {}

        def logits_of(images_NCHW: Tensor) -> Tensor:
            logits_NC, uses = forward(images_NCHW)
            at_sites.update({site: uses[site] for site in filters.sites.items()})
            at_once(*(maps for kept in at_sites.values() for maps in kept))
            return logits_NC

        def attribute(images_NCHW: Tensor, labels_N: Tensor) -> Uses:
            given = getattr(captum, method)(logits_of, at_once).attribute(
                images_NCHW, target=labels_N, n_steps=STEPS, grad_kwargs=UNREACHED
            )
            parts = iter(given if isinstance(given, tuple) else (given,))
            return {site: [next(parts) for _ in kept] for site, kept in at_sites.items()}

        yield attribute


@contextmanager
def _back(evidence: Evidence) -> Iterator[Attribute]:
    """Give a function within the context by which zennit sends relevance back to all maps."""
    zennit = _imported("lrp", "zennit")
    with torch.inference_mode(False):
        filters = replace(evidence.filters, model=copy_of(evidence.filters.model).eval())  # whose weights rules change
        rules = rules_of(zennit, filters, evidence.images[:1].images_NCHW)
        with rules.context(filters.model), maps_kept(filters) as forward:

            def attribute(images_NCHW: Tensor, labels_N: Tensor) -> Uses:
                logits_NC, uses = forward(images_NCHW)
                logits_N = logits_NC.gather(1, labels_N[:, None])
                at_sites = {site: uses[site] for site in filters.sites.items()}
                maps = [one for kept in at_sites.values() for one in kept]
                parts = iter(torch.autograd.grad(logits_N, maps, logits_N.detach(), **UNREACHED))
                return {site: [next(parts) for _ in kept] for site, kept in at_sites.items()}

            yield attribute


def _by_class(evidence: Evidence, attribute: Attribute, steps: int) -> np.ndarray:
    """Return what is attributed to each filter, averaged over the images of each class: (F, C).

    Args:
        steps: the images that a network is given for each image.
    """
    images, classes = evidence.several, evidence.filters.classes
    batches = Batches(images, max(1, evaluation_batches(images).size // steps))
    sums_FC = images.labels_N.new_zeros(len(evidence.filters.ablatable_F), classes, dtype=torch.float64)
    for images_NCHW, labels_N in tqdm(batches, desc="attribution", leave=False, disable=None):
        parts = attribute(images_NCHW, labels_N)
        values_NF = torch.cat([summed_by_filter(kept) for kept in parts.values()], 1).detach()
        sums_FC += summed_by_class(values_NF, labels_N, classes)
    images_C = images.labels_N.bincount(minlength=classes).clamp(min=1)
    return (sums_FC / images_C).cpu().numpy()
