"""Labelled images as readers give them: as a tensor, or read when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from tipping.errors import InputError


class LazyImages(TorchDataset[Tensor], ABC):
    """Images that are read when they are asked for.

    Image i is a tensor (C, H, W); all have one shape and one type, uint8 or float32 in [0, 1]. Where the content has a
    SHA-256 that costs less than making each image, a method `digest` returns it.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """Read an image."""


@dataclass(frozen=True)
class Labelled:
    """N images and their labels, as a reader gives them.

    Attributes:
        images: a tensor (N, C, H, W) of uint8 or of float32 in [0, 1], which may be mapped from a file; or images that
            are read when they are asked for.
        labels_N: int64, positions in the names of the classes.
    """

    images: Tensor | LazyImages
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


MOST_CLASSES = 10**6  # a larger label is a mistake
Read = tuple[Labelled, Labelled, tuple[str, ...]]  # training images, test images, names of the classes


def could_be_labels(values_N: np.ndarray) -> np.ndarray:
    """Return whether each number is whole, from 0 to `MOST_CLASSES` - 1: boolean (N,)."""
    could_N: np.ndarray = (values_N >= 0) & (values_N < MOST_CLASSES) & (np.floor(values_N) == values_N)
    return could_N


def check_classes(place: object, classes: Sequence[str]) -> None:
    """Raise `InputError`, naming the place, unless there are two classes or more, each with a name of its own."""
    if len(classes) < 2:
        given = f"only the class {classes[0]}" if classes else "no class"
        raise InputError(f"{place} has {given}: give images of two or more classes")
    name, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise InputError(f"{place} has {count} classes with the name {name}: give each a name of its own")


def check_labels(place: object, labels_N: Tensor, classes: int) -> None:
    """Raise `InputError`, naming the place and the first position, for a label that is of none of the classes."""
    outside_K = ((labels_N < 0) | (labels_N >= classes)).nonzero().flatten()
    if len(outside_K):
        first = int(outside_K[0])
        raise InputError(
            f"{place}: label {first} is {int(labels_N[first])}: labels of {classes} classes go from 0 to {classes - 1}"
        )


def check_trained(place: object, train_N: Tensor, test_N: Tensor) -> None:
    """Raise `InputError`, naming the place and the first position, for a test label that no training image has."""
    unknown_K = (~torch.isin(test_N, train_N)).nonzero().flatten()
    if len(unknown_K):
        first = int(unknown_K[0])
        raise InputError(
            f"{place}: label {first} is {int(test_N[first])}, which no training image has: add such, or remove this one"
        )
