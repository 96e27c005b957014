"""Visual feedback: what relevant filters see, and why an image got its class. Pictures: `draw`, with matplotlib."""

from __future__ import annotations

from tipping.errors import InputError
from tipping.subject import Subject
from tipping.visualize.beside import Beside, beside
from tipping.visualize.gallery import Explanation, Portrait, explain, portraits
from tipping.visualize.rules import backward_rule, grid_energy, has_stride
from tipping.visualize.sight import look, receptive_fields

__all__ = [
    "Beside",
    "Explanation",
    "Portrait",
    "backward_rule",
    "beside",
    "check_resampling",
    "explain",
    "grid_energy",
    "look",
    "portraits",
    "receptive_fields",
]


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
