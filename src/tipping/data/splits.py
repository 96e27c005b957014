"""Labelled images on one device, and batches of them as slices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tipping.files import digest

CLASSES = 10


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Split:
    """Labelled images on one device; a batch is a slice."""

    images_NCHW: Tensor  # float32 in [0, 1]
    labels_N: Tensor  # int64

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, chosen: slice | Tensor) -> Split:
        """Pick some of the images."""
        return Split(self.images_NCHW[chosen], self.labels_N[chosen])

    def to(self, device: torch.device) -> Split:
        """Return a copy on another device, or of another type, unless it is there already."""
        if self.labels_N.device == device:
            return self
        return Split(self.images_NCHW.to(device), self.labels_N.to(device))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the images and labels: what a network trained on them depends on."""
        return digest({"images": self.images_NCHW, "labels": self.labels_N})

    def spread(self, count: int) -> Split:
        """`count` images evenly spaced through the split; all of them for 0."""
        if count == 0 or count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count).long()  # on the CPU: another device may round otherwise
        return self[chosen.to(self.labels_N.device)]


@dataclass(frozen=True)
class Dataset:
    """The official training and test images of one data set."""

    name: str
    train: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.images_NCHW.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """Return the `train` or the `test` images."""
        return {"train": self.train, "test": self.test}[name]

    def to(self, device: torch.device) -> Dataset:
        """Return a copy on another device, or of another type, unless it is there already."""
        return Dataset(self.name, self.train.to(device), self.test.to(device))


class Batches:
    """A split in slices of `size` images: in its own order, or in one drawn anew each epoch from `seed`."""

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
    """Return a split in order, in batches that suit its device.

    On a CPU the maps of 128 filters stay under 32 MB, above which glibc gives pages back after each batch.
    """
    return Batches(split, 64 if split.labels_N.device.type == "cpu" else 1000)
