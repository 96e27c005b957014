"""Visual feedback: what relevant filters see, and why an image got its class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tipping.data import Split
from tipping.errors import InputError
from tipping.selection import Selection
from tipping.store import Store
from tipping.subject import Subject
from tipping.visualize.beside import Beside, beside
from tipping.visualize.draw import draw_beside, draw_explanation, draw_portraits
from tipping.visualize.gallery import Explanation, Portrait, explain, portraits
from tipping.visualize.rules import backward_rule, grid_energy, has_stride
from tipping.visualize.sight import look, receptive_fields

__all__ = [
    "Beside",
    "Explanation",
    "Picture",
    "Portrait",
    "backward_rule",
    "beside",
    "check_resampling",
    "explain",
    "grid_energy",
    "look",
    "picture_beside",
    "pictures",
    "portraits",
    "receptive_fields",
]


class Picture(NamedTuple):
    """A picture, and its caption."""

    figure: Figure
    caption: str

    def pixels(self) -> np.ndarray:
        """Its pixels, (rows, columns, RGBA), in bytes."""
        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())


def check_resampling(subject: Subject) -> None:
    """Refuse to resample where there is nothing to resample.

    Raises:
        InputError: no convolution, or pooling, of the network has a stride.
    """
    options, model, image_1CHW = subject.options.visualize, subject.probe.model, subject.train.images_NCHW[:1]
    for pooling, asked in ((False, options.resample == "nearest"), (True, options.pooling)):
        if options.enabled and asked and not has_stride(model, image_1CHW, pooling):
            what, option = ("pooling", "pooling=true") if pooling else ("convolution", "resample=nearest")
            raise InputError(f"visualize.{option}: no {what} of the network has a stride; leave it out")


def pictures(
    subject: Subject, selection: Selection, evaluated: Split, explained: Split, store: Store | None = None
) -> dict[str, Picture]:
    """The pictures of a network by their names: of the relevant filters of each class, and of some images explained.

    Args:
        evaluated: the images on which each filter is ablated alone.
        explained: the images explained.
    """
    drawn: dict[str, Picture] = {}
    by_class: dict[int, list[Portrait]] = {}
    for portrait in portraits(subject, selection, evaluated, store):
        by_class.setdefault(portrait.label, []).append(portrait)
    for label, some in by_class.items():
        filters = "; ".join(f"{one.name} ({one.weight:+.2f})" for one in some)
        drawn[f"class_{label}"] = Picture(draw_portraits(some), f"class {label}: {filters}")
    for number, one in enumerate(explain(subject, selection, explained)):
        caption = f"class {one.label}, taken for {one.predicted}: {'; '.join(one.names)}"
        drawn[f"image_{number}"] = Picture(draw_explanation(one), caption)
    return drawn


def picture_beside(both: Beside, names: tuple[str, str]) -> Picture:
    """The picture of two networks' signals."""
    return Picture(draw_beside(both, names), f"{names[0]} and {names[1]}")
