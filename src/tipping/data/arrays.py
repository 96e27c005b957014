"""Arrays of images and labels: in an ``.npz`` or ``.pt`` file, or mapped from a folder of ``.npy`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tipping.data.labelled import (
    MOST_CLASSES,
    Labelled,
    Read,
    check_classes,
    check_labels,
    check_trained,
    could_be_labels,
)
from tipping.data.pixels import MappedImages, as_images, check_pixels, kind, mapped
from tipping.errors import InputError
from tipping.files import is_plain, load_arrays, load_saved, opened, parsing

NAMES = {  # other names of arrays
    "x_train": "train_images",
    "y_train": "train_labels",
    "x_test": "test_images",
    "y_test": "test_labels",
    "class_names": "classes",
}
NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
PARTS = ("train", "test")
LARGEST = 2**34  # bytes of a file that is read whole, and of its arrays


class _Array(NamedTuple):
    """Values, and where they are from."""

    place: str
    values: Any


def read_arrays(path: Path) -> Read:
    """Read training and test images and their labels from arrays.

    An ``.npz`` file, a dictionary in a ``.pt`` file, or a folder of ``.npy`` files has ``train_images``,
    ``train_labels``, ``test_images`` and ``test_labels`` (or ``x_train``, ``y_train``, ``x_test`` and ``y_test``), and
    may have the names of the classes as ``classes`` (or ``class_names``), which otherwise are numbers. Nothing is
    unpickled. The images of a folder are read when they are asked for; if they are floats, all are looked through, a
    part at a time.

    Each image is (H, W), (H, W, C) or (C, H, W), C = 1 or 3, of uint8 or of floats from 0 to 1; what could be either of
    the last two is refused. Labels are whole numbers from 0, (N,) or (N, 1).

    Args:
        path: the file, or the folder.

    Raises:
        InputError: the file or an array is missing, unreadable, or of another shape or type; a pixel is not from 0 to
            1; a label is not whole, or of no class; images and labels differ in number; training and test images differ
            in size or type; or a test image has a label that no training image has.
    """
    arrays = _load(path)
    images = {part: _images(arrays[f"{part}_images"]) for part in PARTS}
    labels = {part: _labels(arrays[f"{part}_labels"]) for part in PARTS}
    for part in PARTS:
        if len(images[part]) != len(labels[part]):
            here, there = arrays[f"{part}_images"].place, arrays[f"{part}_labels"].place
            raise InputError(
                f"{here} has {len(images[part])} images, but {there} {len(labels[part])} labels: give one for each"
            )
    kinds = [f"{image.dtype} of shape {tuple(image.shape)}" for image in (images[part][0] for part in PARTS)]
    if kinds[0] != kinds[1]:
        place = arrays["train_images"].place
        raise InputError(f"{place} has images of {kinds[0]}, but test images are of {kinds[1]}: give all alike")
    classes = _classes(arrays, labels["train"])
    for part in PARTS:
        check_labels(arrays[f"{part}_labels"].place, labels[part], len(classes))
    check_trained(arrays["test_labels"].place, *labels.values())
    train, test = (Labelled(images[part], labels[part]) for part in PARTS)
    return train, test, classes


def _load(path: Path) -> dict[str, _Array]:
    """Return the arrays in a file or a folder by the first of their names."""
    read = _read_folder if path.is_dir() else READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path} is neither a folder nor {' nor '.join(READERS)}: give arrays in one of these")
    try:
        return read(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): give another file") from error
    except InputError:
        raise
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}): write it anew, with arrays or tensors alone") from error


def _read_npz(path: Path) -> dict[str, _Array]:
    with opened(path, LARGEST) as file, parsing(), zipfile.ZipFile(file) as parts:
        names = [name.removesuffix(".npy") for name in parts.namelist()]
    chosen = _chosen(path, names)
    arrays = load_arrays(path, list(chosen.values()), LARGEST)
    return {role: _Array(f"{path}: {name}", arrays.pop(name)) for role, name in chosen.items()}


def _read_pt(path: Path) -> dict[str, _Array]:
    content = load_saved(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no dictionary: give one of {', '.join(NEEDED)}")
    chosen = _chosen(path, [name for name in content if isinstance(name, str)])
    return {role: _Array(f"{path}: {name}", content[name]) for role, name in chosen.items()}


def _read_folder(path: Path) -> dict[str, _Array]:
    chosen = _chosen(path, sorted(file.stem for file in path.glob("*.npy")))
    files = {role: path / f"{name}.npy" for role, name in chosen.items()}
    return {role: _Array(str(file), mapped(file)) for role, file in files.items()}


READERS = {".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt}


def _chosen(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return for each array that is used the name that it has."""
    chosen: dict[str, str] = {}
    for name in names:
        role = NAMES.get(name.lower(), name.lower())
        if role in (*NEEDED, "classes"):
            if role in chosen:
                raise InputError(f"{path} has both {chosen[role]} and {name}: remove one")
            chosen[role] = name
    for role in NEEDED:
        if role not in chosen:
            other = next(other for other, first in NAMES.items() if first == role)
            raise InputError(f"{path} has no {role} (or {other}): add it")
    return chosen


def _images(array: _Array) -> Tensor | MappedImages:
    place, values = array
    if isinstance(values, np.ndarray | Tensor) and 0 in values.shape:
        raise InputError(f"{place} holds no images: give some")
    images = MappedImages(Path(place)) if isinstance(values, np.memmap) else as_images(place, values)
    check_pixels(place, images)
    return images


def _labels(array: _Array) -> Tensor:
    """Return labels as a tensor (N,) of int64."""
    place, values = array
    if isinstance(values, Tensor) and is_plain(values):
        values = (values.double() if values.is_floating_point() else values).detach().numpy()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{place} is {kind(values)}: give whole numbers from 0")
    labels = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if labels.ndim != 1:
        remedy = "give (N,), a number for each image; of one-hot rows that is their argmax"
        raise InputError(f"{place} has the shape {labels.shape}: {remedy}")
    whole_N = could_be_labels(labels)
    if not whole_N.all():
        first = int(np.argmin(whole_N))
        raise InputError(f"{place}: label {first} is {labels[first]}: give whole numbers from 0 to {MOST_CLASSES - 1}")
    return torch.from_numpy(labels.astype(np.int64))


def _classes(arrays: dict[str, _Array], labels_N: Tensor) -> tuple[str, ...]:
    """Return the names of the classes: as they are given, or numbers up to the largest label."""
    if "classes" in arrays:
        place, names = arrays["classes"]
        if isinstance(names, np.ndarray) and names.ndim == 1 and names.dtype.kind == "U":
            names = names.tolist()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{place} holds no names: give one text for each class")
    else:
        place, names = arrays["train_labels"].place, [str(label) for label in range(int(labels_N.max()) + 1)]
    check_classes(place, names)
    return tuple(names)
