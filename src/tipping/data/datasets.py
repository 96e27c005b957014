"""Datasets of PyTorch, torchvision, Hugging Face or one's own, as labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from tipping.data.decoding import Preparation
from tipping.data.labelled import (
    MOST_CLASSES,
    Labelled,
    LazyImages,
    Read,
    check_classes,
    check_labels,
    check_trained,
    could_be_labels,
)
from tipping.data.pixels import as_images, first_wrong, kind
from tipping.errors import InputError

TESTS = ("test", "val", "validation", "valid")
IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")  # what Hugging Face's data sets call them
COLUMNS = ("targets", "labels")  # where torchvision's keep all labels
GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow
ASKED = 100  # classes of which an image is read, to see whether its label is the one that is kept


class DatasetImages(LazyImages):
    """The images of somebody's Dataset, as tensors (C, H, W) of uint8, or of float32 in [0, 1].

    An image may be one of Pillow's, which is grey or of three colours by its mode, or an array or tensor (H, W),
    (H, W, C) or (C, H, W) of uint8 or floats. If the Dataset has a method `digest`, it is taken for a digest of all of
    its images.

    Attributes:
        dataset: the Dataset, whose items are (image, label), or dictionaries of these.
        place: what it is called in messages.
    """

    def __init__(self, dataset: Any, place: str) -> None:
        self.dataset, self.place = dataset, place
        if callable(getattr(dataset, "digest", None)):
            self.digest: Callable[[], str] = dataset.digest

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        """Read an image.

        Raises:
            InputError: the Dataset fails, or its item has no image, or one with other pixels.
        """
        image, _ = _item(self.dataset, index, self.place)
        place = f"{self.place}: image {index}"
        if isinstance(image, Image.Image):
            return _from_pillow(image, place)
        if not isinstance(image, np.ndarray | Tensor):
            raise InputError(f"{place} is {kind(image)}: give an image of Pillow, an array or a tensor")
        image_CHW = as_images(place, image[None])[0]
        if image_CHW.is_floating_point() and (wrong := first_wrong(image_CHW[None])):
            remedy = "leave out Normalize, or give uint8" if math.isfinite(wrong[1]) else "mend or remove it"
            raise InputError(f"{place} has the pixel {wrong[1]:g}, and not floats from 0 to 1: {remedy}")
        return image_CHW


def read_datasets(made: Any, place: str) -> Read:
    """Read training and test images and their labels from two map-style Datasets.

    Labels are read without images where a Dataset keeps them apart (`targets` or `labels`, a column of Hugging Face's,
    also within `Subset` and `ConcatDataset`) and an image of each class, of up to 100, has the label that is kept;
    otherwise all items are read once.

    Args:
        made: (training, test), or a dictionary with `train` and one of `test`, `val`, `validation` and `valid`.
        place: where they are from, for messages.

    Raises:
        InputError: there are no two map-style Datasets; an item is no image with a label; a label is no whole number,
            of no class, or of a class that training images lack; or both have other classes.
    """
    datasets = dict(zip(("training", "test"), _pair(made, place), strict=True))
    titles = {part: f"{place} ({part})" for part in datasets}
    for part, dataset in datasets.items():
        _check(dataset, titles[part])
    labels = {part: _labels(dataset, titles[part]) for part, dataset in datasets.items()}
    names = {part: _names(dataset) for part, dataset in datasets.items()}
    _check_names(place, names["training"], names["test"])
    classes = names["training"] or names["test"] or [str(label) for label in range(int(labels["training"].max()) + 1)]
    check_classes(place, classes)
    for part in datasets:
        check_labels(titles[part], labels[part], len(classes))
    check_trained(titles["test"], *labels.values())
    train, test = (Labelled(DatasetImages(datasets[part], titles[part]), labels[part]) for part in datasets)
    return train, test, tuple(classes)


def _pair(made: Any, place: str) -> tuple[Any, Any]:
    """Return the Dataset of training and that of test images."""
    if isinstance(made, Mapping):
        test = next((made[name] for name in TESTS if name in made), None)
        if "train" not in made or test is None:
            had = ", ".join(map(str, made)) or "nothing"
            raise InputError(f"{place} gives a dictionary with {had}: give train and one of {', '.join(TESTS)}")
        return made["train"], test
    if isinstance(made, tuple | list) and len(made) == 2:
        return made[0], made[1]
    raise InputError(f"{place} gives {kind(made)}: give (training, test) Datasets, or a dictionary with train and test")


def _check(dataset: Any, title: str) -> None:
    if isinstance(dataset, torch.utils.data.DataLoader):
        raise InputError(f"{title} is a DataLoader: give its Dataset")
    indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if isinstance(dataset, IterableDataset) or not indexed:
        remedy = "give a map-style Dataset, such as the list of its items"
        raise InputError(f"{title} is {kind(dataset)}, whose images cannot be read by their positions: {remedy}")
    if len(dataset) == 0:
        raise InputError(f"{title} has no images: give some")


def _item(dataset: Any, index: int, title: str) -> tuple[Any, Any]:
    """Return an image of a Dataset and its label."""
    try:
        item = dataset[index]
    except InputError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{title}: image {index} cannot be read ({reason}): mend the Dataset") from error
    if isinstance(item, Mapping):
        keys = [next((key for key in names if key in item), None) for names in (IMAGES, LABELS)]
        if None not in keys:
            return item[keys[0]], item[keys[1]]
        had = f"a dictionary with {', '.join(map(str, item))}"
    elif isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    else:
        had = kind(item)
    raise InputError(f"{title}: item {index} is {had}: give (image, label), or a dictionary with image and label")


def _from_pillow(image: Image.Image, place: str) -> Tensor:
    try:
        return Preparation(channels=1 if image.mode in GREY else 3).tensor(image)
    except (OSError, ValueError) as error:
        raise InputError(f"{place} {error}: replace or remove it") from error


def _labels(dataset: Any, title: str) -> Tensor:
    """Return the labels of a Dataset as int64."""
    kept_N = _kept(dataset)
    if kept_N is not None and len(kept_N) == len(dataset):
        _, first_C = np.unique(kept_N, return_index=True)
        asked = first_C[np.linspace(0, len(first_C) - 1, min(ASKED, len(first_C))).astype(int)].tolist()
        if all(_label(dataset, index, title) == kept_N[index] for index in asked):
            return torch.from_numpy(kept_N)
    return torch.tensor([_label(dataset, index, title) for index in range(len(dataset))])


def _label(dataset: Any, index: int, title: str) -> int:
    """Return the label of an item."""
    _, label = _item(dataset, index, title)
    number = label.item() if isinstance(label, np.ndarray | np.generic | Tensor) and label.ndim == 0 else label
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or not 0 <= number < MOST_CLASSES:
        shown = number if isinstance(number, int | float | str) else kind(label)
        raise InputError(f"{title}: label {index} is {shown}: give whole numbers from 0 to {MOST_CLASSES - 1}")
    return int(number)


def _kept(dataset: Any) -> np.ndarray | None:
    """Return all labels of a Dataset where it keeps them apart from its images; None where it has none that serve."""
    if isinstance(dataset, Subset):
        kept = _kept(dataset.dataset)
        return None if kept is None else kept[np.asarray(dataset.indices, dtype=int)]
    if isinstance(dataset, ConcatDataset):
        parts = [_kept(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset):
        column: Any = dataset.tensors[1] if len(dataset.tensors) > 1 else None
    elif (key := _label_column(dataset)) is not None:
        column = dataset.with_format(None)[key][:]  # without the user's transforms, which may need the images
    else:
        column = next((getattr(dataset, name) for name in COLUMNS if hasattr(dataset, name)), None)
    try:
        labels_N = np.asarray(column)
    except (TypeError, ValueError):  # such as lists of several lengths
        return None
    if labels_N.ndim != 1 or labels_N.dtype.kind not in "biuf":
        return None
    return labels_N.astype(np.int64) if could_be_labels(labels_N).all() else None


def _label_column(dataset: Any) -> str | None:
    """Return the column of labels of a data set of Hugging Face."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping) or not hasattr(dataset, "with_format"):
        return None
    return next((key for key in LABELS if key in features), None)


def _names(dataset: Any) -> list[str] | None:
    """Return the names of the classes of a Dataset, where it has some; of several synonyms one after the other."""
    if isinstance(dataset, Subset):
        return _names(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return _names(dataset.datasets[0])
    key = _label_column(dataset)
    names = getattr(dataset, "classes", None) if key is None else getattr(dataset.features[key], "names", None)
    if not isinstance(names, tuple | list):
        return None
    return [", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name) for name in names]


def _check_names(place: str, training: list[str] | None, test: list[str] | None) -> None:
    """Raise `InputError` where both Datasets name their classes, and otherwise; then labels mean something else."""
    if training is None or test is None or training == test:
        return
    for label, (one, other) in enumerate(zip(training, test, strict=False)):
        if one != other:
            raise InputError(f"{place}: class {label} is {one} in training and {other} in test: give both in one order")
    raise InputError(f"{place} has {len(training)} classes in training and {len(test)} in test: give the same in both")
