"""Portraits of a network's relevant filters, and explanations of why an image got its class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tipping.ablation import accuracies, evaluate_ablations
from tipping.data import Split
from tipping.network import Filters
from tipping.selection import PLAIN, Measure, Selection, response_batches
from tipping.visualize.receptive_field import Site, Span, spans
from tipping.visualize.signals import Backward

HEATS = 3  # filters whose heat maps explain an image, as in the authors' release


@dataclass(frozen=True)
class Portrait:
    """A relevant filter of a class, and the K images to which it responds most.

    Attributes:
        label: the class.
        name: the name of the filter.
        layer, channel, maps: the filter, and the submodule whose maps were measured.
        weight: the weight of the filter's response for the class.
        drop: by how much accuracy falls if this filter alone is ablated.
        images_K: the positions of the images, strongest response first.
        responses_K: the filter's responses to these images.
        crops_KCHW: the part of each image in the receptive field of the largest value of the filter's map.
        signals: by rule, the signals (K, C, H, W) that come back from the filter's map to these parts.
    """

    label: int
    name: str
    layer: str
    channel: int
    maps: str
    weight: float
    drop: float
    images_K: np.ndarray
    responses_K: np.ndarray
    crops_KCHW: np.ndarray
    signals: dict[str, np.ndarray]

    @property
    def average_CHW(self) -> np.ndarray:
        """The mean of the crops [oramas2019]."""
        mean_CHW: np.ndarray = self.crops_KCHW.mean(0)
        return mean_CHW


@dataclass(frozen=True)
class Explanation:
    """The reason why an image got its class [oramas2019].

    Attributes:
        image_CHW: the image.
        label: the class of the image; None where it is not known.
        predicted: the class c that the network predicts.
        names: the names of the filters that contribute most to c, strongest first.
        contributions: the contribution of each of these filters, x_r w_rc / Σ_r |w_rc|, with the image's responses x
            divided by their L2 norm; all are over 0 and speak for c.
        heats_THW: the size of the signal from each of these filters at the image, from 0 to 1.
        combined_HW: the largest of these sizes at each pixel.
    """

    image_CHW: np.ndarray
    label: int | None
    predicted: int
    names: list[str]
    contributions: list[float]
    heats_THW: np.ndarray
    combined_HW: np.ndarray


def strongest(batches: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Find the images where each response is largest; among equal values, the first images.

    Never more than one batch and the largest values so far are held in memory.

    Args:
        batches: pairs of the responses (N, R) of consecutive images and something that is not used.
        count: the number of images for each response.

    Returns:
        the positions of the images, and the values there, both (count, R).
    """
    best_KR, images_KR, start = None, None, 0
    for responses_NR, _ in batches:
        positions_NR = torch.arange(start, start + len(responses_NR), device=responses_NR.device)[:, None].expand_as(
            responses_NR
        )
        start += len(responses_NR)
        values = responses_NR if best_KR is None else torch.cat([best_KR, responses_NR])
        positions = positions_NR if images_KR is None else torch.cat([images_KR, positions_NR])
        order_KR = values.sort(dim=0, descending=True, stable=True).indices[:count]
        best_KR, images_KR = values.gather(0, order_KR), positions.gather(0, order_KR)
    assert best_KR is not None
    assert images_KR is not None
    return images_KR, best_KR


def strongest_images(filters: Filters, images: Split, count: int, measure: Measure = PLAIN) -> tuple[Tensor, Tensor]:
    """Find the images where each response of a network is largest, as `strongest` does; return both on the CPU."""
    with torch.no_grad(), closing(response_batches(filters, images, measure)) as batches:
        images_KR, values_KR = strongest(batches, count)
    return images_KR.cpu(), values_KR.cpu()


def strongest_of_each_class(weights_RC: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return pairs (c, r): for each class c, the responses r with the largest weights in size, none of them 0."""
    pairs = []
    for label, weights_R in enumerate(weights_RC.T):
        order = np.argsort(-np.abs(weights_R), kind="stable")[:count].tolist()
        pairs += [(label, response) for response in order if weights_R[response] != 0]
    return pairs


def portraits(
    filters: Filters,
    selection: Selection,
    train: Split,
    strongest_KR: tuple[Tensor, Tensor],
    evaluated: Split,
    backward: Backward,
    per_class: int = 3,
    **ablation: Any,
) -> list[Portrait]:
    """Portray the strongest relevant filters of each class in the images to which they respond most.

    Filters that respond to none of the images are left out.

    Args:
        filters: the filters of the network.
        selection: the relevant filters, with their weights.
        train: the images that may be shown.
        strongest_KR: the images where each response is largest, and the values there, as `strongest` returns them.
        evaluated: the images on which each filter alone is ablated.
        backward: how signals are sent back.
        per_class: the number of filters of each class, at most.
        ablation: arguments of `evaluate_ablations`.

    Returns:
        the portraits, class after class, the strongest filter of each first.
    """
    filter_R, places = filters.filter_R, filters.places
    images_KR, values_KR = strongest_KR
    responding_R = (values_KR > 0).any(0).cpu().numpy()
    pairs = strongest_of_each_class(selection.weights_RC * responding_R[:, None], per_class)
    responses = sorted({response for _, response in pairs})
    if not responses:
        return []
    drop_F = _drops_alone(filters, [int(filter_R[response]) for response in responses], evaluated, ablation)
    best_K = {response: images_KR[values_KR[:, response] > 0, response] for response in responses}
    items = [(response, int(image)) for response in responses for image in best_K[response]]
    crops, signals = _seen(filters, train, items, backward)
    all_names, drawn = filter_names(filters), []
    for label, response in pairs:
        layer, channel, maps = places[response]
        rows = [row for row, (other, _) in enumerate(items) if other == response]
        drawn.append(
            Portrait(
                label=label,
                name=all_names[response],
                layer=layer,
                channel=channel,
                maps=maps,
                weight=float(selection.weights_RC[response, label]),
                drop=drop_F[int(filter_R[response])],
                images_K=best_K[response].numpy(),
                responses_K=values_KR[: len(rows), response].numpy(),
                crops_KCHW=np.stack([crops[row] for row in rows]),
                signals={rule: np.stack([seen[row] for row in rows]) for rule, seen in signals.items()},
            )
        )
    return drawn


def filter_names(filters: Filters) -> list[str]:
    """Name the filter of each response; where a filter is measured at several maps, its name includes the maps."""
    several = len(filters.maps) > len(filters.sites)
    return [f"{layer}{f' at {maps}' if several else ''}, filter {channel}" for layer, channel, maps in filters.places]


def _seen(
    filters: Filters, train: Split, items: Sequence[tuple[int, int]], backward: Backward
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Cut images and signals to the receptive field of the largest value of a filter's map.

    Args:
        items: pairs of a response and an image.

    Returns:
        for each pair, the part of the image, and by rule the part of the signal.
    """
    model, images_NCHW = filters.model, train.images_NCHW
    images_BCHW = images_NCHW[[image for _, image in items]]
    shown = filters_of(filters, [response for response, _ in items])
    sights = {rule: backward.look(model, images_BCHW, shown, rule) for rule in backward.rules}
    first, sites = next(iter(sights.values())), [site for site, _ in shown]
    shapes = {site: (maps.shape[0], maps.shape[1]) for site, maps in zip(sites, first.maps, strict=True)}
    reach = {site: spans(model, images_NCHW[:1], site, shape) for site, shape in shapes.items()}

    def cropped(pictures_BCHW: Tensor) -> list[np.ndarray]:
        three = zip(pictures_BCHW.cpu().numpy(), sites, first.peaks, strict=True)
        return [_crop(picture_CHW, reach[site], peak) for picture_CHW, site, peak in three]

    return cropped(images_BCHW), {rule: cropped(sight.signals_BCHW) for rule, sight in sights.items()}


def filters_of(filters: Filters, responses: Sequence[int]) -> list[tuple[Site, int]]:
    """Return the sites and channels of the filters of some responses, as `look` takes them."""
    places = filters.places
    return [((layer, maps), channel) for layer, channel, maps in (places[response] for response in responses)]


def _crop(image_CHW: np.ndarray, reach: tuple[Span, Span], peak: tuple[int, int]) -> np.ndarray:
    """Cut an image to a receptive field, with zeros beyond the image."""
    for axis, (span, position) in enumerate(zip(reach, peak, strict=True), 1):
        start = span.start + span.stride * position
        wide = [(0, 0)] * 3
        wide[axis] = (span.size, span.size)
        image_CHW = np.pad(image_CHW, wide).take(range(start + span.size, start + 2 * span.size), axis=axis)
    return image_CHW


def _drops_alone(
    filters: Filters, some: Sequence[int], evaluated: Split, ablation: Mapping[str, Any]
) -> dict[int, float]:
    """Measure by how much accuracy falls if each of some filters alone is ablated."""
    each = list(dict.fromkeys(some))
    ablations = [np.array([], dtype=int), *(np.array([one]) for one in each)]
    predictions_AN = evaluate_ablations(filters, evaluated, ablations, **ablation)
    intact, *without = accuracies(predictions_AN, evaluated.labels_N)
    return {one: intact - accuracy for one, accuracy in zip(each, without, strict=True)}


def explanations(
    filters: Filters, selection: Selection, images: Split, measure: Measure, backward: Backward
) -> list[Explanation]:
    """Explain why images got their classes: which filters contribute most to the predicted class, and where.

    Args:
        filters: the filters of the network.
        selection: the relevant filters, with their weights.
        images: the images, with their labels.
        measure: how responses are measured.
        backward: how signals are sent back; only the first rule is used.

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
    heats_BHW = _heats(filters, images.images_NCHW, items, backward)
    explained = []
    for number in range(len(images)):
        chosen = [response for image, response in items if image == number]
        heats_THW = heats_BHW[[image == number for image, _ in items]]
        explained.append(
            Explanation(
                image_CHW=images.images_NCHW[number].cpu().numpy(),
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
    """Return the size of a signal at each pixel, scaled from 0 to 1; 0 everywhere if the size is constant."""
    size_HW = np.abs(signal_CHW).sum(0)
    low, high = size_HW.min(), size_HW.max()
    heat_HW: np.ndarray = (size_HW - low) / (high - low) if high > low else np.zeros_like(size_HW)
    return heat_HW
