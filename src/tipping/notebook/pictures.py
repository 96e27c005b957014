"""What relevant filters see, and why an image got its class, as objects that show themselves."""

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
    """A result that can be had as pictures too."""

    @abstractmethod
    def pictures(self) -> dict[str, Picture]:
        """Draw the result: pictures with captions, by their names."""

    def plot(self) -> dict[str, Figure]:
        """Draw the result: the figures of `pictures`."""
        return {name: picture.figure for name, picture in self.pictures().items()}

    def _repr_html_(self) -> str:
        return "".join(picture_html(picture.figure, picture.caption) for picture in self.pictures().values())


@dataclass(frozen=True)
class Gallery(Pictured):
    """Portraits of the strongest relevant filters of each class.

    Attributes:
        portraits: class after class, the strongest filter of each first.
    """

    portraits: Sequence[Portrait]

    def rows(self) -> list[Row]:
        """List the portraits: class, filter, weight, and by how much accuracy falls without the filter alone."""
        return [
            {"class": one.label, "layer": one.layer, "channel": one.channel, "weight": one.weight, "drop": one.drop}
            for one in self.portraits
        ]

    def pictures(self) -> dict[str, Picture]:
        """Draw each class: of each filter the average of its crops, the crops, and what it sees there."""
        from tipping.visualize.draw import draw_pictures  # with matplotlib

        return draw_pictures(self.portraits, [])

    def __repr__(self) -> str:
        classes = len({one.label for one in self.portraits})
        return f"{len(self.portraits)} portraits of relevant filters of {classes} classes"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{super()._repr_html_()}{table_html(self.rows())}"


@dataclass(frozen=True)
class Explained(Pictured):
    """Why each of some images got its class [oramas2019].

    Attributes:
        images: an explanation of each.
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
        """Draw each image: the heat map of each filter that contributes, and of all together."""
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
    """Portray the strongest relevant filters of each class in the images they respond to most.

    Args:
        batches: of images, as in `relevant_filters`; they are gone through once and put together in memory, as each
            is needed for many ablations: accuracy without each filter alone is measured on them. Filters that respond
            to none of them are left out.
        per_class: filters of each class at most.
        images: shown of each filter.
        backward: how signals are sent back; by guided backpropagation and deconvnet by default.

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
    """Explain why images got their classes: by the filters that contribute most, and where in the image [oramas2019].

    As everywhere here, the relevant filters come first, then what they are looked at on.

    Args:
        images: one (C, H, W), or several (N, C, H, W).
        labels: the class of each, if known; for the table and the titles of the pictures only.
        backward: how signals are sent back, by its first rule; by guided backpropagation by default.

    Raises:
        InputError: the images are none, or not such as the network takes; there is not a label for each.
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
