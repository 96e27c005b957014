"""The pictures of a job: relevant filters of a subject, and explanations of images, by the subject's options."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tipping.data import Split
from tipping.errors import InputError, printable
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.selection import Selection
from tipping.visualize import Beside, beside, check_rules, drawn_classes, explanations, has_stride, portraits

if TYPE_CHECKING:
    from tipping.visualize.draw import Picture

log = logging.getLogger(__name__)


def draw_subject(
    subject: Subject,
    selection: Selection,
    evaluated: Split,
    explained: Split,
    classes: Sequence[str],
    store: Store | None = None,
) -> dict[str, Picture]:
    """Draw the relevant filters of each class, and explanations of the class that some images got.

    Args:
        evaluated: the images on which each filter is ablated alone.
        explained: the images to explain.
        classes: the names of the classes.
        store: keeps the strongest images and mean activations; None to compute them anew.

    Returns:
        the pictures by their names.
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
    explained_images = explanations(filters, selection, explained, subject.measure, subject.backward)
    _name_left_out(selection, classes)
    return draw_pictures(shown, explained_images, classes)


def _name_left_out(selection: Selection, classes: Sequence[str]) -> None:
    """Log the names of classes with relevant filters of which no portraits are drawn, as they are too many."""
    relevant = np.flatnonzero(selection.weights_RC.any(0)).tolist()
    drawn = drawn_classes(selection.weights_RC)
    if out := [classes[label] for label in relevant if label not in drawn]:
        names = printable(", ".join(out))
        log.info("pictures: of the %d classes with most relevant filters; left out: %s", len(drawn), names)


def compare_signals(first: Subject, selection: Selection, second: Subject, store: Store) -> Beside:
    """Compare the signals of relevant filters in one network with the signals of the same filters in another.

    Args:
        first: the network whose relevant filters are compared.
        selection: the selection of `first`.
        second: the other network.
    """
    images_KR, _ = first.strongest(first.options.visualize.images, store)
    return beside(first.filters, selection, second.filters, first.train, images_KR[0], first.backward)


def check_pictures(subject: Subject) -> None:
    """Check that the network has what the options of pictures ask for.

    Raises:
        InputError: resampling of convolutions, or of pooling, is asked for, and none of them has a stride; or a rule
            does not fit the network's activations.
    """
    options, model, image_1CHW = subject.options.visualize, subject.filters.model, subject.train[:1].images_NCHW
    try:
        check_rules(model, image_1CHW, options.rules if options.enabled else ())
    except InputError as error:
        raise InputError(f"visualize.rules: {error}, or visualize=off") from error
    for pooling, asked in ((False, options.resample == "nearest"), (True, options.pooling)):
        if options.enabled and asked and not has_stride(model, image_1CHW, pooling):
            what, option = ("pooling", "pooling=true") if pooling else ("convolution", "resample=nearest")
            raise InputError(f"visualize.{option}: no {what} of the network has a stride; leave it out")
