"""Folders of image files, one sub-folder a class."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tipping.data.decoding import SUFFIXES, Preparation, Size, decode, file_digest, size_of
from tipping.data.labelled import Labelled, LazyImages, Read, check_classes
from tipping.errors import InputError, require

TRAIN, TESTS = "train", ("test", "val", "validation")
AT_ONCE = 1024  # files given to threads: a task for each of a million files would take much memory

Listing = dict[str, list[str]]  # the files of each class, as paths in the folder


class FolderImages(LazyImages):
    """Images of files, decoded when they are asked for: image i is a tensor (C, H, W) of uint8.

    Attributes:
        folder: the folder that holds the files.
        files: their paths in it, as one array of bytes: a million texts would take more memory, and each process that
            reads images would copy them.
        prepare: what is done to each image.
        shape: the height and width of all images.
    """

    def __init__(self, folder: Path, files: Sequence[str], prepare: Preparation, shape: tuple[int, int]) -> None:
        self.folder, self.prepare, self.shape = folder, prepare, shape
        self.files = np.array([os.fsencode(file) for file in files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Decode an image.

        Raises:
            InputError: its file is gone, unreadable, no whole image, or of another size than when the folder was read.
        """
        image_CHW = decode(self.path(index), self.prepare)
        if image_CHW.shape[1:] != self.shape:
            raise InputError(f"{self.path(index)} has changed its size: leave images as they are while they are in use")
        return image_CHW

    def path(self, index: int) -> Path:
        """Return the path of the file of an image."""
        return self.folder / os.fsdecode(self.files[index].item())

    def digest(self) -> str:
        """Return the SHA-256 of the content of all files in order, and of what is done to the images.

        All files are read whole, and each must start like an image. Times of files are not trusted.

        Raises:
            InputError: a file is gone, unreadable or no image.
        """
        state = hashlib.sha256(self.prepare.recipe.encode())
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for start in range(0, len(self), AT_ONCE):
                paths = [self.path(index) for index in range(start, min(start + AT_ONCE, len(self)))]
                for part in pool.map(file_digest, paths):
                    state.update(part)
        return state.hexdigest()


def read_image_folder(
    folder: Path,
    channels: int = 3,
    size: Size | None = None,
    crop: Size | None = None,
    test_share: float | None = None,
    seed: int = 0,
) -> Read:
    """Read a folder of image files, one sub-folder a class; images are decoded when they are asked for.

    The folder has ``train`` and, for the test images, ``test``, ``val`` or ``validation`` (of several the first in this
    order; the others are not read), each with a folder for each class. Or it has the folders of classes itself: then
    `test_share` of the images of each class, rounded, at least one and at most all but one, are test images: those
    with the smallest SHA-256 of the seed and their path, the same ones on each machine.

    Folders in the folder of a class belong to the class. Links are followed; names that begin with a dot are left out.
    Classes and files are in the order of the code points of their names, the files of a folder before those of the
    folders in it. `Preparation` says what is done to each image.

    Args:
        folder: the folder.
        channels: 1 for grey, 3 for colour.
        size: what the resized images cover, a number for both sides or (height, width); by default images are left as
            they are, and all must have one size.
        crop: the size that is cut from their centre; by default `size`.
        test_share: the share of test images, between 0 and 1, of a folder without ``train``.
        seed: the seed of this choice.

    Raises:
        InputError: a folder is missing, empty or unreadable; a file is no image; a test class has no training images;
            there is one class only; or images have several sizes and no `size` is given.
    """
    prepare = Preparation(channels, size, crop)
    splits = _splits(folder, test_share, seed)
    classes = tuple(splits[0])
    check_classes(folder, classes)
    if strange := [name for name in splits[1] if name not in classes]:
        place = folder / Path(splits[1][strange[0]][0]).parent
        raise InputError(f"{place} is of the class {strange[0]}, which training images lack: add some, or remove it")
    files = [[file for of_class in listing.values() for file in of_class] for listing in splits]
    shape = prepare.shape or _one_size(folder, files[0] + files[1])
    train, test = (
        Labelled(FolderImages(folder, paths, prepare, shape), _labels(listing, classes))
        for paths, listing in zip(files, splits, strict=True)
    )
    return train, test, classes


def _labels(listing: Listing, classes: Sequence[str]) -> Tensor:
    position = {name: label for label, name in enumerate(classes)}
    return torch.tensor([position[name] for name, files in listing.items() for _ in files])


def _splits(folder: Path, test_share: float | None, seed: int) -> tuple[Listing, Listing]:
    """Return the files of training and of test images, as they lie or as a hash chooses them."""
    inside, _ = _entries(folder)
    tests = [name for name in TESTS if name in inside]
    if TRAIN in inside:
        if not tests:
            remedy = f"add one, or give {folder / TRAIN} and a test_share"
            raise InputError(f"{folder} has {TRAIN} but none of {', '.join(TESTS)}: {remedy}")
        if test_share is not None:
            raise InputError(f"test_share={test_share}: {folder} has {tests[0]} images; leave test_share out")
        return _listing(folder, TRAIN), _listing(folder, tests[0])
    if tests:
        raise InputError(
            f"{folder} has {tests[0]} but no {TRAIN}: add it, or give {folder / tests[0]} and a test_share"
        )
    if test_share is None:
        raise InputError(f"{folder} has no {TRAIN} and {TESTS[0]}: add them, or give a test_share such as 0.2")
    require(0 < test_share < 1, "test_share", test_share, "give a number between 0 and 1, such as 0.2")
    return _split(folder, _listing(folder), test_share, seed)


def _split(folder: Path, listing: Listing, share: float, seed: int) -> tuple[Listing, Listing]:
    """Return the files of training images and those of test images, which the hashes of their paths choose."""
    train, test = {}, {}
    for name, files in listing.items():
        if len(files) < 2:
            raise InputError(f"{folder / name} holds one image: a class needs one to train on and one to test")
        count = min(max(math.floor(share * len(files) + 0.5), 1), len(files) - 1)
        by_hash = sorted(
            files, key=lambda file: hashlib.sha256(f"{seed} {file}".encode(errors="surrogateescape")).digest()
        )
        chosen = set(by_hash[:count])
        train[name] = [file for file in files if file not in chosen]
        test[name] = [file for file in files if file in chosen]
    return train, test


def _listing(folder: Path, part: str = "") -> Listing:
    """Return the files of each class in a part of a folder, as paths in the folder."""
    classes, others = _entries(folder / part)
    if loose := [name for name in others if _is_image(name)]:
        raise InputError(f"{folder / part / loose[0]} lies beside the folders of classes: move it into one of them")
    if not classes:
        raise InputError(f"{folder / part} has no folders of classes: add one for each class, with its images")
    return {name: _files(folder, f"{part}/{name}".removeprefix("/")) for name in classes}


def _files(folder: Path, of_class: str) -> list[str]:
    """Return the image files in the folder of a class and in the folders in it, as paths in `folder`."""
    files: list[str] = []
    waiting = [(of_class, (folder / of_class).resolve(), frozenset[Path]())]
    while waiting:
        place, target, above = waiting.pop()
        if target in above:
            raise InputError(f"{folder / place} leads back to a folder that it is in: remove it")
        folders, images = _entries(folder / place)
        if strange := [name for name in images if not _is_image(name)]:
            raise InputError(
                f"{folder / place / strange[0]} is no image by its name: remove it, or put a dot before it"
            )
        files += [f"{place}/{name}" for name in images]
        waiting += [(f"{place}/{name}", (folder / place / name).resolve(), above | {target}) for name in folders]
    if not files:
        raise InputError(f"{folder / of_class} holds no images: add some, or remove it")
    return sorted(files, key=lambda file: file.rpartition("/"))


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files in a folder, sorted, without those that begin with a dot."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not (inside := entry.is_dir()) and not entry.is_file():
                    raise InputError(f"{entry.path} is neither file nor folder, or a broken link: remove it")
                (folders if inside else files).append(entry.name)
    except OSError as error:
        remedy = "give a folder of images that can be read"
        raise InputError(f"{folder} cannot be read ({error.strerror or error}): {remedy}") from error
    return sorted(folders), sorted(files)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _one_size(folder: Path, files: Sequence[str]) -> tuple[int, int]:
    """Return the height and width of all images, which must have one size."""
    first = size_of(folder / files[0])
    for file in files[1:]:
        if (size := size_of(folder / file)) != first:
            raise InputError(
                f"{folder / file} has {size[0]} x {size[1]} pixels, but {folder / files[0]} {first[0]} x {first[1]}: "
                "give a size, to which all are resized"
            )
    return first
