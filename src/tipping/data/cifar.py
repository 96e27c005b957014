"""CIFAR-10 and CIFAR-100 [krizhevsky2009]: their official archives, in which pickles lie."""

from __future__ import annotations

import gzip
import math
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tipping.data.download import download_file
from tipping.data.labelled import Labelled, Read, check_classes
from tipping.data.pickles import read_pickle
from tipping.errors import InputError
from tipping.files import opened, parsing, read_bytes

SHAPE = (3, 32, 32)
CHUNK = 2**20
LARGEST = 2**29  # bytes of a file in an archive, at most; the largest is of 155 MB


class CifarArchive(NamedTuple):
    """An official archive.

    Attributes:
        url: where it is.
        sha256: its SHA-256, as torchvision and Keras publish it.
        folder: the folder in it.
        train, test: the files of training and of test images in that folder.
        meta: the file of the names.
        labels: what the labels are called in the files of images.
        names: what the names of the classes are called in the file of names.
    """

    url: str
    sha256: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str


CIFAR10 = CifarArchive(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-10-batches-py",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("test_batch",),
    "batches.meta",
    "labels",
    "label_names",
)
CIFAR100 = CifarArchive(
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    "cifar-100-python",
    ("train",),
    ("test",),
    "meta",
    "fine_labels",
    "fine_label_names",
)
CIFARS = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cifar100_coarse": CIFAR100._replace(labels="coarse_labels", names="coarse_label_names"),
}


def read_cifar(name: str, folder: Path) -> Read:
    """Read CIFAR-10 or CIFAR-100, and download its archive first if it is missing.

    The archive is read where it lies, or the folder that was unpacked from it; of the pickles in it nothing is run.

    Args:
        name: a name in `CIFARS`; `cifar100_coarse` has 20 classes of five.
        folder: the folder that holds the archive, or the folder unpacked from it.

    Raises:
        InputError: the archive is missing and out of reach, lacks a file, or holds one that is not as CIFAR's.
    """
    archive = CIFARS[name]
    place, contents = _contents(archive, folder)
    (names,) = _read(place / archive.meta, contents[archive.meta], archive.names)
    if not isinstance(names, list) or not all(isinstance(one, bytes | str) for one in names):
        raise InputError(f"{place / archive.meta} has no names of classes ({archive.names}): fetch the archive anew")
    classes = tuple(one.decode(errors="replace") if isinstance(one, bytes) else one for one in names)
    check_classes(place / archive.meta, classes)
    train, test = (
        _labelled(place, {file: contents[file] for file in files}, archive.labels, len(classes))
        for files in (archive.train, archive.test)
    )
    return train, test, classes


def _contents(archive: CifarArchive, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Return where the files of an archive lie, and their bytes."""
    names = (archive.meta, *archive.train, *archive.test)
    unpacked, packed = folder / archive.folder, folder / archive.url.rpartition("/")[2]
    try:
        if unpacked.is_dir():
            return unpacked, {name: read_bytes(unpacked / name, LARGEST) for name in names}
        if not packed.exists():
            download_file(archive.url, packed, archive.sha256, f"put it into {folder.absolute()}")
        return packed / archive.folder, _unpacked(packed, archive.folder, names)
    except InputError:
        raise
    except OSError as error:
        where = error.filename or packed
        raise InputError(f"{where} cannot be read ({error.strerror or error}): fetch the archive anew") from error
    except ValueError as error:
        raise InputError(f"{packed} cannot be read ({error}): fetch it anew") from error


def _unpacked(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the bytes of files in a folder in an archive, of which nothing is written anywhere.

    Raises:
        OSError: the archive cannot be opened.
        ValueError: it is none, not whole, or lacks one of the files.
    """
    contents: dict[str, bytes] = {}
    wanted = {f"{folder}/{name}": name for name in names}
    with opened(path) as packed, parsing(), gzip.open(packed) as file:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if (name := wanted.get(member.name)) and member.isreg() and member.size <= LARGEST:
                    content = archive.extractfile(member)
                    contents[name] = content.read() if content else b""
        while file.read(CHUNK):  # its checksum stands at the end, where tarfile does not read
            pass
    if missing := [name for name in names if name not in contents]:
        raise ValueError(f"it has no {folder}/{missing[0]}")
    return contents


def _read(path: Path, content: bytes, *keys: str) -> list[Any]:
    """Return values in the dictionary in a pickle, whose keys are texts of Python 2 or 3."""
    try:
        values = read_pickle(content)
    except ValueError as error:
        raise InputError(f"{path} is not read: {error}; fetch the archive anew") from error
    values = values if isinstance(values, dict) else {}
    return [values.get(key.encode(), values.get(key)) for key in keys]


def _labelled(place: Path, contents: dict[str, bytes], key: str, classes: int) -> Labelled:
    """Return the images and labels in files, one after the other."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    for name, content in contents.items():
        path = place / name
        pixels, given = _read(path, content, "data", key)
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != math.prod(SHAPE):
            raise InputError(f"{path} has no images (data) of 3 x 32 x 32 bytes: fetch the archive anew")
        whole = isinstance(given, list) and all(isinstance(label, int) and label in range(classes) for label in given)
        if not whole:
            raise InputError(f"{path} has no labels ({key}) from 0 to {classes - 1}: fetch the archive anew")
        if len(pixels) != len(given) or not given:
            raise InputError(f"{path} has {len(pixels)} images and {len(given)} labels: fetch the archive anew")
        images.append(pixels.reshape(-1, *SHAPE))
        labels += given
    return Labelled(torch.from_numpy(np.concatenate(images)), torch.tensor(labels))
