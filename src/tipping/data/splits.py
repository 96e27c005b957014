"""Labelled images, in memory or read when they are asked for, and data sets of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tipping.data.normalising import PLAIN, Normalisation
from tipping.data.streams import Streamed
from tipping.files import digest, digest_in_parts

CPU = torch.device("cpu")
AT_ONCE = 2**25  # bytes of images in float32 that are handled at once, at most, where all are gone through


@dataclass(frozen=True)
class Split:
    """A set of N labelled images; a batch is a slice.

    Attributes:
        images: the images as they came, on the device of the labels, or read when they are asked for.
        labels_N: int64.
        normalisation: what is done to a batch of images on their way to a network; None leaves them as they came.
        origin: where images in memory were read, which has a digest of them.
    """

    images: Tensor | Streamed
    labels_N: Tensor
    normalisation: Normalisation | None = PLAIN
    origin: Streamed | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, chosen: slice | Tensor) -> Split:
        """Return the split of some images, by a slice or by their positions."""
        if not isinstance(chosen, slice):
            chosen = torch.as_tensor(chosen, device=self.device)
        origin = self.origin and self.origin[chosen]
        return replace(self, images=self.images[chosen], labels_N=self.labels_N[chosen], origin=origin)

    @property
    def device(self) -> torch.device:
        """The device on which images reach a network."""
        return self.labels_N.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image: (channels, height, width)."""
        channels, height, width = self.images.shape[-3:]
        return channels, height, width

    @property
    def images_NCHW(self) -> Tensor:
        """All images as a network takes them: float32, normalised; read now where they are not in memory."""
        if isinstance(self.images, Tensor):
            return self.prepared(self.images)
        return torch.cat(list(self.parts(self._few)))

    def parts(self, size: int) -> Iterator[Tensor]:
        """Yield all images as a network takes them, `size` at a time."""
        images = self.images
        for part in images.batches(size) if isinstance(images, Streamed) else torch.split(images, size):
            yield self.prepared(part.to(self.device))

    def prepared(self, images_NCHW: Tensor) -> Tensor:
        """Return images, as they came, as a network takes them."""
        return images_NCHW if self.normalisation is None else self.normalisation.apply(images_NCHW)

    def unnormalised(self, images_NCHW: Tensor) -> Tensor:
        """Return images that a network takes as they were before they were normalised: in [0, 1], for pictures."""
        return images_NCHW if self.normalisation is None else self.normalisation.undo(images_NCHW)

    def to(self, device: torch.device) -> Split:
        """Return the split on a device: itself if it is there already, otherwise a copy of what is in memory."""
        if self.device == device:
            return self
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        return replace(self, images=images, labels_N=self.labels_N.to(device))

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of images, labels and normalisation, by which caches know what a network was trained on.

        It is the same in memory and streamed. That of images which are not normalised is the `digest` of their float32
        values, or of the digest of their origin.
        """
        normalisation = self.normalisation
        if normalisation in (None, PLAIN):
            return self._plain_fingerprint()
        assert normalisation is not None
        text = f"{self._plain_fingerprint()} {normalisation.mean} {normalisation.std}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _plain_fingerprint(self) -> str:
        origin = self.images if isinstance(self.images, Streamed) else self.origin
        if origin and (content := origin.digest()):
            return hashlib.sha256(f"{content} {digest({'labels': self.labels_N})}".encode()).hexdigest()
        plain = self if self.normalisation is None else replace(self, normalisation=PLAIN)
        dtype = torch.float32 if self.images.dtype == torch.uint8 and self.normalisation else self.images.dtype
        images = f"{dtype} {(len(self), *self.image_shape)}", plain.parts(self._few)
        labels = f"{self.labels_N.dtype} {tuple(self.labels_N.shape)}", [self.labels_N]
        return digest_in_parts({"images": images, "labels": labels})

    @property
    def _few(self) -> int:
        """The number of images that are handled at once where all are gone through."""
        return max(1, AT_ONCE // (4 * torch.Size(self.image_shape).numel()))

    def spread(self, count: int) -> Split:
        """Return `count` images, evenly spaced through the split; all images for 0."""
        if count == 0 or count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count).long()  # on the CPU: other devices may round differently
        return self[chosen]

    def in_memory(self) -> Split:
        """Return the split with its images as a tensor in memory."""
        if isinstance(self.images, Tensor):
            return self
        images_NCHW = torch.empty(len(self), *self.image_shape, dtype=self.images.dtype, device=self.device)
        start = 0
        for part in self.images.batches(self._few):
            images_NCHW[start : start + len(part)] = part
            start += len(part)
        return replace(self, images=images_NCHW, origin=self.images)


@dataclass(frozen=True)
class Dataset:
    """A data set: its training and test images, and the names of their classes.

    Attributes:
        name: its name.
        train, test: the images.
        classes: the name of each class, label by label.
        logits: the labels of the classes that the images may have, where a network that was trained elsewhere has more
            classes than the data; the others are called `logit 0` and so on. Empty where all classes are the data's.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    logits: tuple[int, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image: (channels, height, width)."""
        return self.train.image_shape

    @property
    def width(self) -> int | None:
        """The number of logits of a network for these images; None where the network decides it (`logits`)."""
        return None if self.logits else len(self.classes)

    def split(self, name: str) -> Split:
        """Return the `train` or the `test` images."""
        return {"train": self.train, "test": self.test}[name]

    def to(self, device: torch.device) -> Dataset:
        """Return the data set on a device; splits are copied only if they are on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))
