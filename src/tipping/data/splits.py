"""Labelled images on one device, and batches as slices of the images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tipping.files import digest

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Split:
    """A set of N labelled images on one device; a batch is a slice."""

    images_NCHW: Tensor  # float32 in [0, 1]
    labels_N: Tensor  # int64

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, chosen: slice | Tensor) -> Split:
        """Return the split of some images, by a slice or by their positions."""
        return Split(self.images_NCHW[chosen], self.labels_N[chosen])

    def to(self, device: torch.device) -> Split:
        """Return the split on a device: itself if its images are there already, otherwise a copy."""
        if self.labels_N.device == device:
            return self
        return Split(self.images_NCHW.to(device), self.labels_N.to(device))

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the images and labels, by which caches know what a network was trained on."""
        return digest({"images": self.images_NCHW, "labels": self.labels_N})

    def spread(self, count: int) -> Split:
        """Return `count` images, evenly spaced through the split; all images for 0."""
        if count == 0 or count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count).long()  # on the CPU: other devices may round differently
        return self[chosen.to(self.labels_N.device)]


@dataclass(frozen=True)
class Dataset:
    """A data set: its training and test images, and the names of their classes, label by label."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image: (channels, height, width)."""
        channels, height, width = self.train.images_NCHW.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """Return the `train` or the `test` images."""
        return {"train": self.train, "test": self.test}[name]

    def to(self, device: torch.device) -> Dataset:
        """Return the data set on a device; splits are copied only if they are on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


class Batches:
    """Batches of `size` images of a split, as tuples of images and labels.

    Without a seed, batches are slices in the order of the split. With a seed, each epoch has a new random order.
    """

    def __init__(self, split: Split, size: int, seed: int | None = None) -> None:
        self.split, self.size = split, size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images_NCHW, labels_N = self.split.images_NCHW, self.split.labels_N
        if self.generator is None:
            yield from zip(torch.split(images_NCHW, self.size), torch.split(labels_N, self.size), strict=True)
        else:
            order_N = torch.randperm(len(self.split), generator=self.generator).to(labels_N.device)
            for chosen in torch.split(order_N, self.size):
                yield images_NCHW[chosen], labels_N[chosen]


def evaluation_batches(split: Split) -> Batches:
    """Return the batches of a split in order, of a size that suits its device: 64 images on a CPU, 1000 elsewhere.

    On a CPU, the maps of 128 filters then stay under 32 MB; above, glibc returns pages to the system after each batch.
    """
    return Batches(split, 64 if split.labels_N.device.type == "cpu" else 1000)
