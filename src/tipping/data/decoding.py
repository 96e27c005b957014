"""Files of images to tensors of bytes, with Pillow: turned upright, grey or in colour, resized and cropped."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tipping.errors import InputError, require, require_whole
from tipping.files import opened, parsing, read_bytes

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # no more: some formats of Pillow run other programs
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LARGEST = 2**30  # bytes of a file of an image, at most
TURNED = (5, 6, 7, 8)  # EXIF orientations in which width and height change places
ORIENTATION, BITS = 0x0112, 0x0102  # tags of EXIF and of TIFF

Size = int | tuple[int, int]  # (height, width), or both


@dataclass(frozen=True)
class Preparation:
    """What is done to each upright image between its file and its tensor.

    The image is made grey or coloured, resized and cropped. Transparency is dropped: a pixel counts by its colour
    alone. Of 16 bits the upper 8 count. Resizing is bilinear, over all pixels that go into one (antialiased), to the
    smallest image of the same proportions that covers `size`, the longer side rounded down; the crop is from the centre
    of that image.

    Attributes:
        channels: 1 for grey, by the luma of ITU-R 601, or 3 for red, green and blue.
        size: what the resized image covers: a number for both sides, or (height, width); None leaves images as they
            are.
        crop: the size that is cut out; by default `size`, and all where images are left as they are.

    Raises:
        InputError: the channels are neither 1 nor 3, a size is not positive, or the crop is larger than the size.
    """

    channels: int = 3
    size: Size | None = None
    crop: Size | None = None

    def __post_init__(self) -> None:
        require(self.channels in (1, 3), "channels", self.channels, "give 1 (grey) or 3 (colour)")
        for name, value in (("size", self.size), ("crop", self.crop)):
            for side in () if value is None else _pair(value):
                require_whole(name, side, 1)
        if self.size is not None and self.crop is not None:
            fits = all(small <= large for small, large in zip(_pair(self.crop), _pair(self.size), strict=True))
            require(fits, "crop", self.crop, f"give no more than size={self.size}")

    @property
    def shape(self) -> tuple[int, int] | None:
        """The height and width of all images; None where they are left as they are."""
        cut = self.size if self.crop is None else self.crop
        return None if cut is None else _pair(cut)

    @property
    def recipe(self) -> str:
        """What is done, as a text by which caches know it."""
        covered = None if self.size is None else _pair(self.size)
        return f"upright, {self.channels} channels, covering {covered}, cut to {self.shape}"

    def tensor(self, image: Image.Image) -> Tensor:
        """Return an image as a tensor (C, H, W) of uint8.

        Raises:
            ValueError: its pixels are of a kind that is not converted, or it is smaller than the crop.
        """
        image = _in_bytes(image).convert("L" if self.channels == 1 else "RGB")
        if self.size is not None:
            image = image.resize(_covering(image.size, _pair(self.size)), Image.Resampling.BILINEAR)
        if self.shape is not None:
            image = _centre(image, *self.shape)
        pixels_HWC = np.array(image).reshape(image.height, image.width, self.channels)
        return torch.from_numpy(pixels_HWC).permute(2, 0, 1).contiguous()


class _UnfitError(ValueError):
    """An image that is whole, and cannot be used."""


def decode(path: Path, prepare: Preparation) -> Tensor:
    """Read a file of an image, turned as its EXIF data say, of several frames the first: (C, H, W) of uint8.

    Raises:
        InputError: the file is gone, unreadable, no image, truncated, or of more pixels than Pillow's limit.
    """
    with _naming(path), opened(path) as file, _image(file) as image:
        return prepare.tensor(ImageOps.exif_transpose(image))


def size_of(path: Path) -> tuple[int, int]:
    """Return the height and width of the upright image in a file, from its header where its format tells; raise as
    `decode` does."""
    with _naming(path), opened(path) as file, _image(file) as image:
        width, height = image.size
        turned = image.format != "TIFF" and image.getexif().get(ORIENTATION) in TURNED  # Pillow turns TIFF files itself
        return (width, height) if turned else (height, width)


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of the content of a file, which must start like an image; raise as `decode` does."""
    with _naming(path):
        content = read_bytes(path, LARGEST)
        with _image(io.BytesIO(content)):
            return hashlib.sha256(content).digest()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise errors as `InputError` that names the file and the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} is gone: leave the images where they are while they are in use") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): allow reading it, or remove it"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} {error}: replace it, or remove it") from error


@contextmanager
def _image(file: IO[bytes]) -> Iterator[Image.Image]:
    """Open an image with Pillow; raise `ValueError` for whatever goes wrong with it, with a line fit for its name."""
    try:
        with parsing(), Image.open(file, formats=FORMATS) as image:
            _check_depth(image)
            yield image
    except ValueError as error:
        cause = error.__cause__ or error
        if isinstance(cause, _UnfitError):
            raise
        if isinstance(cause, UnidentifiedImageError):
            raise ValueError("is no image that Pillow reads") from error
        if isinstance(cause, Image.DecompressionBombWarning | Image.DecompressionBombError):
            raise ValueError(f"has too many pixels ({cause})") from error
        raise ValueError(f"is no whole image ({error})") from error


def _check_depth(image: Image.Image) -> None:
    """Raise `_UnfitError` for more than 16 bits a pixel, and for fewer in as many, whose upper 8 would be dark."""
    bits = getattr(image, "tag_v2", {}).get(BITS, (16,))
    if image.mode.startswith(("I", "F")) and not (image.mode.startswith("I;16") and tuple(bits) == (16,)):
        raise _UnfitError("has pixels neither of 8 nor of 16 bits")


def _in_bytes(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits a pixel with their upper 8; Pillow's own conversion makes all over 255 white."""
    image.info.pop("transparency", None)
    _check_depth(image)
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _covering(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of the smallest image of the proportions of `size` that covers (height, width)."""
    width, height = size
    least_height, least_width = least
    if width * least_height >= height * least_width:
        return least_height * width // height, least_height
    return least_width, least_width * height // width


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.height < height or image.width < width:
        raise _UnfitError(f"has {image.height} x {image.width} pixels, fewer than the crop of {height} x {width}")
    top, first = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((first, top, first + width, top + height))


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
