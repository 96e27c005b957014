"""Batches of labelled images, in order or in a new random order each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tipping.data.splits import Split
from tipping.data.streams import Streamed

MOST = {"cpu": 64}  # images in an evaluation batch, at most; 1000 on other devices
LEAST, PIXELS = 8, 32 * 32  # images at least; pixels of an image above which there are fewer


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
        if self.generator is None:
            yield from self._in_order(self.split)
            return
        order_N = torch.randperm(len(self.split), generator=self.generator)
        if isinstance(self.split.images, Streamed):
            yield from self._in_order(self.split[order_N])
            return
        for chosen in torch.split(order_N, self.size):  # all at once would be a copy of the images
            batch = self.split[chosen]
            yield batch.images_NCHW, batch.labels_N

    def _in_order(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(split.parts(self.size), torch.split(split.labels_N, self.size), strict=True)


def evaluation_batches(split: Split) -> Batches:
    """Return the batches of a split in order, of a size that suits its device: 64 images on a CPU, 1000 elsewhere.

    On a CPU, the maps of 128 filters then stay under 32 MB; above, glibc returns pages to the system after each batch.
    Of images over 32x32, a batch has as many pixels as 64 or 1000 of these, and 8 images at least.
    """
    most, (_, height, width) = MOST.get(split.device.type, 1000), split.image_shape
    return Batches(split, min(most, max(LEAST, most * PIXELS // (height * width))))
