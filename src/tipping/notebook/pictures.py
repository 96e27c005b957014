"""Pictures of what relevant filters see and of why an image got its class, as objects that show themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tipping.errors import InputError, require_whole
from tipping.notebook.loader import Batches, gathered
from tipping.notebook.results import RelevantFilters, require_kind
from tipping.notebook.showing import Row, Tabular, picture_html, table_html
from tipping.selection import Measure
from tipping.visualize import Backward, Explanation, Portrait, explanations, portraits, strongest_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tipping.visualize.draw import Picture


class Pictured(Tabular):
    """A result that can be drawn as pictures, besides being a table."""

    @abstractmethod
    def pictures(self) -> dict[str, Picture]:
        """Draw the result as pictures with captions, by name."""

    def plot(self) -> dict[str, Figure]:
        """Draw the result, and return the matplotlib figures of `pictures` by name."""
        return {name: picture.figure for name, picture in self.pictures().items()}

    def _repr_html_(self) -> str:
        return "".join(picture_html(picture.figure, picture.caption) for picture in self.pictures().values())


@dataclass(frozen=True)
class Gallery(Pictured):
    """Portraits of the strongest relevant filters of each class.

    Attributes:
        portraits: the portraits, class after class, the strongest filter of each first.
    """

    portraits: Sequence[Portrait]

    def rows(self) -> list[Row]:
        """List the portraits: class, filter, weight, and by how much accuracy falls if this filter alone is ablated."""
        return [
            {"class": one.label, "layer": one.layer, "channel": one.channel, "weight": one.weight, "drop": one.drop}
            for one in self.portraits
        ]

    def pictures(self) -> dict[str, Picture]:
        """Draw a picture for each class: the average of each filter's crops, the crops, and the signals there."""
        from tipping.visualize.draw import draw_pictures  # with matplotlib

        return draw_pictures(self.portraits, [])

    def __repr__(self) -> str:
        classes = len({one.label for one in self.portraits})
        return f"{len(self.portraits)} portraits of relevant filters of {classes} classes"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{super()._repr_html_()}{table_html(self.rows())}"


@dataclass(frozen=True)
class Explained(Pictured):
    """The reasons why images got their classes [oramas2019].

    Attributes:
        images: an explanation of each image.
    """

    images: Sequence[Explanation]

    def rows(self) -> list[Row]:
        """List the filters that contribute most to the class of each image, strongest first."""
        return [
            {"image": number, "label": one.label, "predicted": one.predicted, "filter": name, "contribution": share}
            for number, one in enumerate(self.images)
            for name, share in zip(one.names, one.contributions, strict=True)
        ]

    def pictures(self) -> dict[str, Picture]:
        """Draw a picture for each image: the heat maps of the filters that contribute, one by one and together."""
        from tipping.visualize.draw import draw_pictures  # with matplotlib

        return draw_pictures([], self.images)

    def __repr__(self) -> str:
        words = (f"image {number}: {_because(one)}" for number, one in enumerate(self.images))
        return "\n".join(words)


def _because(one: Explanation) -> str:
    return f"class {one.predicted}, by {'; '.join(one.names) or 'no relevant filter'}"


def gallery(
    relevant: RelevantFilters,
    batches: Batches,
    *,
    per_class: int = 3,
    images: int = 6,
    backward: Backward | None = None,
) -> Gallery:
    """Portray the strongest relevant filters of each class in the images to which they respond most.

    Filters that respond to none of the images are left out.

    Args:
        relevant: the relevant filters.
        batches: images with labels, as in `relevant_filters`. They are gone through once and put together in memory,
            since accuracy without each filter alone is measured on all of them.
        per_class: the number of filters of each class, at most.
        images: the number of images shown for each filter.
        backward: how signals are sent back; by default, by guided backpropagation and deconvnet.

    Raises:
        InputError: the batches hold something else, or a number is not over 0.
    """
    require_kind(relevant, RelevantFilters, "what relevant_filters returns for one mu")
    for name, count in {"per_class": per_class, "images": images}.items():
        require_whole(name, count, at_least=1)
    filters = relevant.filters
    split = gathered(batches, filters.given, filters.classes)
    most_KR = strongest_images(filters, split, images)
    return Gallery(portraits(filters, relevant.selection, split, most_KR, split, backward or Backward(), per_class))


def explain(
    relevant: RelevantFilters,
    images: Tensor,
    labels: Tensor | Sequence[int] | int | None = None,
    *,
    backward: Backward | None = None,
) -> Explained:
    """Explain why images got their classes, by the filters that contribute most and by where they look [oramas2019].

    Args:
        relevant: the relevant filters.
        images: one image (C, H, W), or several (N, C, H, W).
        labels: the class of each image, if known; only the table and the titles of the pictures show the labels.
        backward: how signals are sent back; only the first rule is used, by default guided backpropagation.

    Raises:
        InputError: there is no image, or the network cannot take the images; or there is not one label for each image.
    """
    require_kind(relevant, RelevantFilters, "what relevant_filters returns for one mu")
    require_kind(images, Tensor, "images as a tensor, one (C, H, W), or several (N, C, H, W)")
    filters, images_NCHW = relevant.filters, images[None] if images.ndim == 3 else images
    if images_NCHW.ndim != 4 or not len(images_NCHW):
        raise InputError(f"images of shape {tuple(images.shape)}: give one (C, H, W), or several (N, C, H, W)")
    count = len(images_NCHW)
    given = torch.as_tensor([0] * count if labels is None else labels)
    labels_N = given[None] if given.ndim == 0 else given
    if labels_N.shape != (count,):
        raise InputError(f"labels of shape {tuple(labels_N.shape)}: give one for each of {count} images")
    split = gathered([(images_NCHW, labels_N)], filters.given, filters.classes)
    each = explanations(filters, relevant.selection, split, Measure(), backward or Backward())
    return Explained([replace(one, label=None) for one in each] if labels is None else each)
