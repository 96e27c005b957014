"""Explanations of why an image got its class, by the filters that contribute most and by where they look."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tipping.data import Split
from tipping.network import Filters
from tipping.selection import Measure, Selection, response_batches
from tipping.visualize.gallery import Undo, filter_names, filters_of
from tipping.visualize.signals import PERCENTILE, Backward

HEATS = 3  # filters whose heat maps explain an image, as in the authors' release


@dataclass(frozen=True)
class Explanation:
    """The reason why an image got its class [oramas2019].

    Attributes:
        image_CHW: the image, before it was normalised.
        label: the class of the image; None where it is not known.
        predicted: the class c that the network predicts.
        names: the names of the filters that contribute most to c, strongest first.
        contributions: the contribution of each of these filters, x_r w_rc / Σ_r |w_rc|, with the image's responses x
            divided by their L2 norm; all are over 0 and speak for c.
        heats_THW: the size of the signal from each of these filters at the image, from 0 to 1, where 1 is the 99.5th
            percentile of the sizes or more.
        combined_HW: the largest of these sizes at each pixel.
    """

    image_CHW: np.ndarray
    label: int | None
    predicted: int
    names: list[str]
    contributions: list[float]
    heats_THW: np.ndarray
    combined_HW: np.ndarray


def explanations(
    filters: Filters,
    selection: Selection,
    images: Split,
    measure: Measure,
    backward: Backward,
    undo: Undo | None = None,
) -> list[Explanation]:
    """Explain why images got their classes: which filters contribute most to the predicted class, and where.

    Args:
        filters: the filters of the network.
        selection: the relevant filters, with their weights.
        images: the images, with their labels.
        measure: how responses are measured.
        backward: how signals are sent back; only the first rule is used.
        undo: what undoes the normalisation of images; by default, what the images say.

    Returns:
        an explanation of each image.
    """
    measure, all_names = replace(measure, labels="predicted"), filter_names(filters)
    with torch.no_grad(), closing(response_batches(filters, images, measure)) as batches:
        parts = [(responses, onehot.argmax(1)) for responses, onehot in batches]
    responses_NR, predicted_N = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    weights_NR = selection.weights_RC.T[predicted_N]
    shares_NR = np.stack([contributions(*pair) for pair in zip(responses_NR, weights_NR, strict=True)])
    order_NT = np.argsort(-shares_NR, axis=1, kind="stable")[:, :HEATS]
    items = [(number, response) for number, order in enumerate(order_NT.tolist()) for response in order]
    items = [item for item in items if shares_NR[item] > 0]
    images_NCHW = images.images_NCHW
    heats_BHW, shown_NCHW = _heats(filters, images_NCHW, items, backward), (undo or images.unnormalised)(images_NCHW)
    explained = []
    for number in range(len(images)):
        chosen = [response for image, response in items if image == number]
        heats_THW = heats_BHW[[image == number for image, _ in items]]
        explained.append(
            Explanation(
                image_CHW=shown_NCHW[number].cpu().numpy(),
                label=int(images.labels_N[number]),
                predicted=int(predicted_N[number]),
                names=[all_names[response] for response in chosen],
                contributions=shares_NR[number, chosen].tolist(),
                heats_THW=heats_THW,
                combined_HW=heats_THW.max(0, initial=0),
            )
        )
    return explained


def contributions(responses_R: np.ndarray, weights_R: np.ndarray) -> np.ndarray:
    """Compute the contributions x ⊙ w / Σ |w| of filters to a class, with x divided by its L2 norm.

    The authors divide by Σ w [oramas2019]. That is the same where no weight is negative, but turns all signs where the
    negative weights prevail.

    Args:
        responses_R: the responses x to one image.
        weights_R: the weights w for the class.

    Returns:
        the contributions (R,); all 0 where x or w is 0.
    """
    scale = np.linalg.norm(responses_R) * np.abs(weights_R).sum()
    shares_R: np.ndarray = responses_R * weights_R / scale if scale > 0 else np.zeros_like(weights_R)
    return shares_R


def _heats(filters: Filters, images_NCHW: Tensor, items: Sequence[tuple[int, int]], backward: Backward) -> np.ndarray:
    """Return the heat maps (B, H, W) of signals by the first rule, for pairs of an image and a response."""
    if not items:
        return np.zeros((0, *images_NCHW.shape[2:]))
    shown = filters_of(filters, [response for _, response in items])
    images_BCHW = images_NCHW[[image for image, _ in items]]
    signals_BCHW = backward.look(filters.model, images_BCHW, shown, backward.rules[0]).signals_BCHW
    return np.stack([_heat(signal_CHW) for signal_CHW in signals_BCHW.cpu().numpy()])


def _heat(signal_CHW: np.ndarray) -> np.ndarray:
    """Return the size of a signal at each pixel, scaled so that 0 is its smallest and 1 its 99.5th percentile.

    The percentile is that of the pixels above the smallest size; the heat is 0 everywhere if there are none.
    """
    size_HW = np.abs(signal_CHW).sum(0)
    size_HW = size_HW - size_HW.min()
    above = size_HW[size_HW > 0]
    heat_HW: np.ndarray = (size_HW / np.percentile(above, PERCENTILE)).clip(max=1) if above.size else size_HW
    return heat_HW
