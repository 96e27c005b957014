"""Load data sets by their names; official splits only."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from tipping import planted
from tipping.data.idx import DIGITS, FILES, SOURCES, download, find_file, read_pair
from tipping.data.splits import CPU, Dataset, Split
from tipping.errors import InputError


def load(name: str, root: str | Path | None = None, device: torch.device = CPU) -> Dataset:
    """Load a data set onto a device, and download its files first if they are missing.

    The data set loaded last is cached.

    Args:
        name: `digits`, `planted` or a name in `SOURCES`.
        root: the folder of the files of data sets; ``data`` by default.

    Raises:
        InputError: the name is unknown, files are missing and out of reach, or files are no valid IDX pair.
    """
    return _load(name, Path(root or "data").absolute(), device)


@functools.lru_cache(maxsize=1)  # the jobs of a sweep share the images and their fingerprints
def _load(name: str, root: Path, device: torch.device) -> Dataset:
    return _read(name, root).to(device)


def _read(name: str, root: Path) -> Dataset:
    if name == "digits":
        return _digits()
    if name == "planted":
        train, test = Split(*planted.images(2000, seed=0)), Split(*planted.images(500, seed=1))
        return Dataset(name, train, test, DIGITS)
    if name not in SOURCES:
        raise InputError(f"data.name={name}: give digits, planted, {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = root / source.folder / "raw"
    paths = [find_file(folder, name) for name in FILES]
    if None in paths:
        download(name, source, folder)
        paths = [find_file(folder, name) for name in FILES]
    train_images, train_labels, test_images, test_labels = (path for path in paths if path)
    classes = len(source.classes)
    train, test = read_pair(train_images, train_labels, classes), read_pair(test_images, test_labels, classes)
    if train.images_NCHW.shape[1:] != test.images_NCHW.shape[1:]:
        raise InputError(f"{train_images} and {test_images} hold images of different sizes: fetch both anew")
    return Dataset(name, train, test, source.classes)


def _digits() -> Dataset:
    """Return scikit-learn's 1,797 digits of 8x8 pixels: the first 1,437 to train on, the last 360 to test."""
    from sklearn.datasets import load_digits  # here: other data sets do not need scikit-learn

    digits = load_digits()
    images_NCHW = torch.from_numpy(digits.images / 16).float()[:, None]
    labels_N = torch.from_numpy(digits.target).long()
    split, cut = Split(images_NCHW, labels_N), 1437
    return Dataset("digits", split[:cut], split[cut:], DIGITS)
