"""The pictures of a job: what of a subject is shown, as its options say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipping.data import Split
from tipping.errors import InputError
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.selection import Selection
from tipping.visualize import Beside, beside, explanations, has_stride, portraits

if TYPE_CHECKING:
    from tipping.visualize.draw import Picture


def pictures(
    subject: Subject, selection: Selection, evaluated: Split, explained: Split, store: Store | None = None
) -> dict[str, Picture]:
    """Draw the relevant filters of each class, and why some images got theirs: pictures by their names.

    Args:
        evaluated: the images on which each filter is ablated alone.
        explained: the images explained.
    """
    from tipping.visualize.draw import draw_pictures  # with matplotlib

    options, filters = subject.options.visualize, subject.filters
    shown = portraits(
        filters,
        selection,
        subject.train,
        subject.strongest(options.images, store),
        evaluated,
        subject.backward,
        options.filters_per_class,
        **subject.manner(store),
    )
    return draw_pictures(shown, explanations(filters, selection, explained, subject.measure, subject.backward))


def compare(first: Subject, selection: Selection, second: Subject, store: Store) -> Beside:
    """Compare the signals of a network's relevant filters with those of the same filters of another."""
    images_KR, _ = first.strongest(first.options.visualize.images, store)
    images_NCHW = first.train.images_NCHW
    return beside(first.filters, selection, second.filters, images_NCHW, images_KR[0], first.backward)


def check_resampling(subject: Subject) -> None:
    """Refuse to resample where there is nothing to resample.

    Raises:
        InputError: no convolution, or pooling, of the network has a stride.
    """
    options, model, image_1CHW = subject.options.visualize, subject.filters.model, subject.train.images_NCHW[:1]
    for pooling, asked in ((False, options.resample == "nearest"), (True, options.pooling)):
        if options.enabled and asked and not has_stride(model, image_1CHW, pooling):
            what, option = ("pooling", "pooling=true") if pooling else ("convolution", "resample=nearest")
            raise InputError(f"visualize.{option}: no {what} of the network has a stride; leave it out")
