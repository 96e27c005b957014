"""Arrays of pixels: what they may be, as tensors (N, C, H, W), in memory or in a file that is mapped."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tipping.data.labelled import LazyImages
from tipping.errors import InputError
from tipping.files import is_plain, opened, parsing

CHANNELS = (1, 3)
BYTES, FLOATS = np.dtype("uint8"), tuple(map(np.dtype, ("float16", "float32", "float64")))
CHECKED = 2**24  # pixels that are looked through at a time


class MappedImages(LazyImages):
    """Images in an ``.npy`` file, of which only those are read that are asked for.

    Attributes:
        path: the file.
        values: its array, mapped and not written to.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            OSError: it cannot be opened.
            InputError: it is no ``.npy`` file, or its array is of another shape or type than `as_images` takes.
        """
        self.path, self.values = path, mapped(path)
        channel_axis(path, self.values.shape[1:])
        as_images(path, self.values[:1])

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Tensor:
        """Read an image."""
        return self.part(slice(index, index + 1))[0]

    def __reduce__(self) -> tuple[type[MappedImages], tuple[Path]]:
        return MappedImages, (self.path,)  # the array would be pickled with all of its values

    def part(self, chosen: slice) -> Tensor:
        """Read some images."""
        return as_images(self.path, self.values[chosen])

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        with opened(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def mapped(path: Path) -> np.ndarray:
    """Map the array in an ``.npy`` file into memory, so that only what is used of it is read.

    Raises:
        OSError: the file cannot be opened.
        InputError: it is no such file, not whole, or holds objects, which would have to be unpickled.
    """
    try:
        with opened(path):  # a regular file: others might block
            pass
        with parsing():
            return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InputError(f"{path} cannot be mapped ({error}): write it anew with numpy.save") from error


def as_images(place: object, values: Any) -> Tensor:
    """Return an array of N images as a tensor (N, C, H, W) of uint8 or float32.

    Each image is (H, W), (H, W, C) or (C, H, W), C = 1 or 3; what could be either of the last two is refused. The
    pixels are of uint8 or floating point.

    Raises:
        InputError: the shape or the type is another one; the place is named.
    """
    if isinstance(values, Tensor) and is_plain(values) and (values.dtype == torch.uint8 or values.is_floating_point()):
        images = values.detach().float() if values.is_floating_point() else values
    elif isinstance(values, np.ndarray) and values.dtype.newbyteorder("=") in (BYTES, *FLOATS):
        images = torch.from_numpy(values.astype(BYTES if values.dtype == BYTES else np.float32))
    else:
        raise InputError(f"{place} is {kind(values)}: give uint8, or floats from 0 to 1")
    axis = channel_axis(place, tuple(images.shape[1:]))
    return images[:, None] if axis is None else images.movedim(axis + 1, 1)


def channel_axis(place: object, shape: tuple[int, ...]) -> int | None:
    """Return which axis of an image is that of channels, by its shape; None for a grey image without one.

    Raises:
        InputError: there is none, or it could be either of two; the place is named.
    """
    if len(shape) == 2:
        return None
    axes = [axis for axis in (0, 2) if len(shape) == 3 and shape[axis] in CHANNELS]
    if not axes:
        raise InputError(f"{place} has pixels of shape {shape}: give (H, W), (H, W, C) or (C, H, W) with C = 1 or 3")
    if len(axes) > 1:
        remedy = "give images of other sides than 1 and 3"
        raise InputError(
            f"{place} has pixels of shape {shape}, of which the first or the last may be channels: {remedy}"
        )
    return axes[0]


def kind(values: Any) -> str:
    """Return what values are, for a message."""
    return f"of type {values.dtype}" if isinstance(values, np.ndarray | Tensor) else f"a {type(values).__name__}"


def check_pixels(place: object, images: Tensor | MappedImages) -> None:
    """Raise `InputError`, naming the place and the first image, for a float outside [0, 1] or one that is no number."""
    first = images[0]
    if not first.is_floating_point():
        return
    step = max(1, CHECKED // first.numel())
    for start in range(0, len(images), step):
        chosen = slice(start, start + step)
        part_NCHW = images[chosen] if isinstance(images, Tensor) else images.part(chosen)
        if wrong := first_wrong(part_NCHW):
            row, value = wrong
            remedy = "give floats from 0 to 1, or uint8" if math.isfinite(value) else "mend or remove the image"
            raise InputError(f"{place}: image {start + row} has the pixel {value:g}: {remedy}")


def first_wrong(images_NCHW: Tensor) -> tuple[int, float] | None:
    """Return the position of the first image with a pixel that is no number from 0 to 1, and the pixel."""
    wrong_NP = ~((images_NCHW >= 0) & (images_NCHW <= 1)).flatten(1)  # NaN compares with nothing
    if not wrong_NP.any():
        return None
    row = int(wrong_NP.any(1).nonzero()[0])
    return row, float(images_NCHW[row].flatten()[wrong_NP[row]][0])
