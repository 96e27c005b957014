"""Portraits of a network's relevant filters, in the images to which they respond most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tipping.ablation import accuracies, evaluate_ablations
from tipping.data import Split
from tipping.errors import printable
from tipping.network import Filters
from tipping.selection import PLAIN, Measure, Selection, response_batches
from tipping.visualize.receptive_field import Site, Span, spans
from tipping.visualize.signals import Backward, together

MOST_CLASSES = 20  # classes that are drawn, at most
MOST_SIDE = 128  # pixels of a side of a crop, at most; pictures are smaller
Undo = Callable[[Tensor], Tensor]  # what makes images that a network takes images from 0 to 1


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
        crops_KCHW: the part of each image in the receptive field of the largest value of the filter's map, before the
            image was normalised; 0 beyond the image, and all of a side that is no longer than the field. Parts with a
            side over 128 pixels are made smaller, by means.
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


class Strongest:
    """The images where each response is largest; among equal values, the first images.

    Never more than the responses added last and the largest values so far are held in memory.

    Args:
        count: the number of images for each response.
    """

    def __init__(self, count: int) -> None:
        self._count, self._seen = count, 0
        self._best: tuple[Tensor, Tensor] | None = None

    def add(self, responses_NR: Tensor) -> None:
        """Add the responses of the next images."""
        seen = torch.arange(self._seen, self._seen + len(responses_NR), device=responses_NR.device)
        self._seen += len(responses_NR)
        positions, values = seen[:, None].expand_as(responses_NR), responses_NR
        if self._best:
            positions, values = (torch.cat(pair) for pair in zip(self._best, (positions, values), strict=True))
        order_KR = values.sort(dim=0, descending=True, stable=True).indices[: self._count]
        self._best = positions.gather(0, order_KR), values.gather(0, order_KR)

    def on_cpu(self) -> tuple[Tensor, Tensor]:
        """Return the positions of the images, and the responses to them, both (count, R), on the CPU."""
        assert self._best is not None, "no responses were added"
        images_KR, values_KR = self._best
        return images_KR.cpu(), values_KR.cpu()


def strongest_images(filters: Filters, images: Split, count: int, measure: Measure = PLAIN) -> tuple[Tensor, Tensor]:
    """Find the images where each response of a network is largest, as `Strongest` does.

    Returns:
        the positions of the images, and the responses to them, both (count, R), on the CPU.
    """
    strongest = Strongest(count)
    with torch.no_grad(), closing(response_batches(filters, images, measure)) as batches:
        for responses_NR, _ in batches:
            strongest.add(responses_NR)
    return strongest.on_cpu()


def drawn_classes(weights_RC: np.ndarray, most: int = MOST_CLASSES) -> list[int]:
    """Return the classes of which portraits are drawn: those with a weight that is not 0.

    Of more than `most`, these are the classes with the most such weights; among equals, the first.
    """
    count_C = (weights_RC != 0).sum(0)
    order = np.argsort(-count_C, kind="stable")[:most].tolist()
    return sorted(label for label in order if count_C[label])


def strongest_of_each_class(weights_RC: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return pairs (c, r): for each class c that is drawn, the responses r with the largest weights in size, none 0."""
    pairs = []
    for label in drawn_classes(weights_RC):
        weights_R = weights_RC[:, label]
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
    undo: Undo | None = None,
    **ablation: Any,
) -> list[Portrait]:
    """Portray the strongest relevant filters of each class in the images to which they respond most.

    Filters that respond to none of the images are left out, and so are classes beyond `MOST_CLASSES`
    (`drawn_classes`). A few images at a time are read and sent through the network.

    Args:
        filters: the filters of the network.
        selection: the relevant filters, with their weights.
        train: the images that may be shown.
        strongest_KR: the images where each response is largest, and the values there, as `strongest` returns them.
        evaluated: the images on which each filter alone is ablated.
        backward: how signals are sent back.
        per_class: the number of filters of each class, at most.
        undo: what undoes the normalisation of images; by default, what the images say.
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
    crops, signals = _seen(filters, train, items, backward, undo or train.unnormalised)
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


def class_name(label: int, classes: Sequence[str] | None = None) -> str:
    """Name a class in words: `class cat`; `class 3` where classes have no names."""
    return f"class {label if classes is None else printable(classes[label])}"


def filter_names(filters: Filters) -> list[str]:
    """Name the filter of each response; where a filter is measured at several maps, its name includes the maps."""
    several = len(filters.maps) > len(filters.sites)
    return [f"{layer}{f' at {maps}' if several else ''}, filter {channel}" for layer, channel, maps in filters.places]


def _seen(
    filters: Filters, train: Split, items: Sequence[tuple[int, int]], backward: Backward, undo: Undo
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Cut images and signals to the receptive field of the largest value of a filter's map.

    Args:
        items: pairs of a response and an image.

    Returns:
        for each pair, the part of the image, and by rule the part of the signal.
    """
    reach: dict[Site, tuple[Span, Span]] = {}
    crops: list[np.ndarray] = []
    signals: dict[str, list[np.ndarray]] = {rule: [] for rule in backward.rules}
    image_1CHW = train[:1].images_NCHW
    few = together(image_1CHW)
    for start in range(0, len(items), few):
        some = items[start : start + few]
        images_BCHW = train[torch.tensor([image for _, image in some])].images_NCHW
        shown = filters_of(filters, [response for response, _ in some])
        sights = {rule: backward.look(filters.model, images_BCHW, shown, rule) for rule in backward.rules}
        first = next(iter(sights.values()))
        for (site, _), maps_HW in zip(shown, first.maps, strict=True):
            if site not in reach:
                reach[site] = spans(filters.model, image_1CHW, site, (maps_HW.shape[0], maps_HW.shape[1]))
        around = [(reach[site], peak) for (site, _), peak in zip(shown, first.peaks, strict=True)]
        crops += _crops(undo(images_BCHW), around)
        for rule, sight in sights.items():
            signals[rule] += _crops(sight.signals_BCHW, around)
    return crops, signals


def filters_of(filters: Filters, responses: Sequence[int]) -> list[tuple[Site, int]]:
    """Return the sites and channels of the filters of some responses, as `look` takes them."""
    places = filters.places
    return [((layer, maps), channel) for layer, channel, maps in (places[response] for response in responses)]


def _crops(pictures_BCHW: Tensor, around: Sequence[tuple[tuple[Span, Span], tuple[int, int]]]) -> Iterator[np.ndarray]:
    """Cut each picture to a receptive field, with zeros beyond the picture, and make large parts smaller."""
    for picture_CHW, (reach, peak) in zip(pictures_BCHW.cpu(), around, strict=True):
        part_CHW = torch.from_numpy(_crop(picture_CHW.numpy(), reach, peak))
        height, width = (min(side, MOST_SIDE) for side in part_CHW.shape[1:])
        yield functional.adaptive_avg_pool2d(part_CHW, (height, width)).numpy()  # itself where it is small


def _crop(image_CHW: np.ndarray, reach: tuple[Span, Span], peak: tuple[int, int]) -> np.ndarray:
    """Cut an image to a receptive field, with zeros beyond the image; a side over that of the image is not cut."""
    for axis, (span, position) in enumerate(zip(reach, peak, strict=True), 1):
        if span.size >= image_CHW.shape[axis]:
            continue
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
