"""Pictures of what relevant filters see and of why an image got its class, as objects that show themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tipping.data import Split
from tipping.errors import InputError, require_whole
from tipping.notebook.loader import Batches, class_names, gathered
from tipping.notebook.results import RelevantFilters, require_kind
from tipping.notebook.showing import Row, Tabular, picture_html, table_html
from tipping.selection import Measure
from tipping.visualize import (
    Backward,
    Explanation,
    Portrait,
    class_name,
    explanations,
    portraits,
    strongest_images,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tipping.visualize.draw import Picture

Statistic = float | Sequence[float]  # one number, or one for each channel


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
        classes: the names of the classes; None where they are not known.
    """

    portraits: Sequence[Portrait]
    classes: Sequence[str] | None = None

    def rows(self) -> list[Row]:
        """List the portraits: class, filter, weight, and by how much accuracy falls if this filter alone is ablated."""
        names = self.classes
        return [
            {
                "class": names[one.label] if names else one.label,
                "layer": one.layer,
                "channel": one.channel,
                "weight": one.weight,
                "drop": one.drop,
            }
            for one in self.portraits
        ]

    def pictures(self) -> dict[str, Picture]:
        """Draw a picture for each class: the average of each filter's crops, the crops, and the signals there."""
        from tipping.visualize.draw import draw_pictures  # with matplotlib

        return draw_pictures(self.portraits, [], self.classes)

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
        classes: the names of the classes; None where they are not known.
    """

    images: Sequence[Explanation]
    classes: Sequence[str] | None = None

    def rows(self) -> list[Row]:
        """List the filters that contribute most to the class of each image, strongest first."""
        called = self._called
        return [
            {
                "image": number,
                "label": called(one.label),
                "predicted": called(one.predicted),
                "filter": name,
                "contribution": share,
            }
            for number, one in enumerate(self.images)
            for name, share in zip(one.names, one.contributions, strict=True)
        ]

    def pictures(self) -> dict[str, Picture]:
        """Draw a picture for each image: the heat maps of the filters that contribute, one by one and together."""
        from tipping.visualize.draw import draw_pictures  # with matplotlib

        return draw_pictures([], self.images, self.classes)

    def _called(self, label: int | None) -> str | int | None:
        """Return the name of a class, or its number."""
        return label if label is None or self.classes is None else self.classes[label]

    def __repr__(self) -> str:
        words = (f"image {number}: {self._because(one)}" for number, one in enumerate(self.images))
        return "\n".join(words)

    def _because(self, one: Explanation) -> str:
        return f"{class_name(one.predicted, self.classes)}, by {'; '.join(one.names) or 'no relevant filter'}"


def gallery(
    relevant: RelevantFilters,
    batches: Batches,
    *,
    per_class: int = 3,
    images: int = 6,
    classes: Sequence[str] | None = None,
    mean: Statistic | None = None,
    std: Statistic | None = None,
    backward: Backward | None = None,
) -> Gallery:
    """Portray the strongest relevant filters of each class in the images to which they respond most.

    Filters that respond to none of the images are left out. Of more than 20 classes, the 20 with the most relevant
    filters are portrayed.

    Args:
        relevant: the relevant filters.
        batches: images with labels, as in `relevant_filters`. They are gone through once and put together in memory,
            since accuracy without each filter alone is measured on all of them.
        per_class: the number of filters of each class, at most.
        images: the number of images shown for each filter.
        classes: the names of the classes; by default, those that the loader's data set has as `classes`, or that the
            relevant filters were given.
        mean, std: how the loader has normalised the images, which pictures undo: one number, or one for each channel.
        backward: how signals are sent back; by default, by guided backpropagation and deconvnet.

    Raises:
        InputError: the batches hold something else, a number is not over 0, or there is not one name for each class.
    """
    require_kind(relevant, RelevantFilters, "what relevant_filters returns for one mu")
    for name, count in {"per_class": per_class, "images": images}.items():
        require_whole(name, count, at_least=1)
    filters = relevant.filters
    names = class_names(filters.classes, classes, batches) or relevant.classes
    split = gathered(batches, filters.given, filters.classes)
    most_KR, how, undo = strongest_images(filters, split, images), backward or Backward(), _undo(mean, std)
    each = portraits(filters, relevant.selection, split, most_KR, split, how, per_class, undo)
    return Gallery(each, names)


def explain(
    relevant: RelevantFilters,
    images: Tensor | Split,
    labels: Tensor | Sequence[int] | int | None = None,
    *,
    classes: Sequence[str] | None = None,
    mean: Statistic | None = None,
    std: Statistic | None = None,
    backward: Backward | None = None,
) -> Explained:
    """Explain why images got their classes, by the filters that contribute most and by where they look [oramas2019].

    Args:
        relevant: the relevant filters.
        images: one image (C, H, W), or several (N, C, H, W), or some of `tipping.images`, with their labels.
        labels: the class of each image, if known; only the table and the titles of the pictures show the labels.
        classes: the names of the classes; by default, those of the relevant filters.
        mean, std: how the images were normalised, which pictures undo: one number, or one for each channel.
        backward: how signals are sent back; only the first rule is used, by default guided backpropagation.

    Raises:
        InputError: there is no image, or the network cannot take the images; or there is not one label for each image,
            or one name for each class.
    """
    require_kind(relevant, RelevantFilters, "what relevant_filters returns for one mu")
    filters = relevant.filters
    known = labels is not None or isinstance(images, Split)
    split = gathered(images if isinstance(images, Split) else _pairs(images, labels), filters.given, filters.classes)
    names, how = class_names(filters.classes, classes) or relevant.classes, backward or Backward()
    each = explanations(filters, relevant.selection, split, Measure(), how, _undo(mean, std))
    return Explained(each if known else [replace(one, label=None) for one in each], names)


def _pairs(images: Tensor, labels: Tensor | Sequence[int] | int | None) -> list[tuple[Tensor, Tensor]]:
    """Return images and their labels as one batch, with 0 for labels that are not known.

    Raises:
        InputError: there is no image, or not one label for each image.
    """
    require_kind(images, Tensor, "images as a tensor, one (C, H, W), or several (N, C, H, W)")
    images_NCHW = images[None] if images.ndim == 3 else images
    if images_NCHW.ndim != 4 or not len(images_NCHW):
        raise InputError(f"images of shape {tuple(images.shape)}: give one (C, H, W), or several (N, C, H, W)")
    count = len(images_NCHW)
    given = torch.as_tensor([0] * count if labels is None else labels)
    labels_N = given[None] if given.ndim == 0 else given
    if labels_N.shape != (count,):
        raise InputError(f"labels of shape {tuple(labels_N.shape)}: give one for each of {count} images")
    return [(images_NCHW, labels_N)]


def _undo(mean: Statistic | None, std: Statistic | None) -> Callable[[Tensor], Tensor] | None:
    """Return a function that undoes a normalisation of images; None where none is given."""
    if mean is None and std is None:
        return None

    def undo(images_NCHW: Tensor) -> Tensor:
        given = (0.0 if mean is None else mean, 1.0 if std is None else std)
        mean_C, std_C = (torch.as_tensor(one).to(images_NCHW).reshape(-1, 1, 1) for one in given)
        try:
            return images_NCHW * std_C + mean_C
        except RuntimeError as error:
            channels = images_NCHW.shape[1]
            raise InputError(f"mean, std: the images have {channels} channels; give 1 or {channels} numbers") from error

    return undo
