"""The sources of data sets by name: each reads training and test images, their labels and the names of the classes."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tipping import planted
from tipping.data.idx import DIGITS, FILES, SOURCES, download, find_file, read_pair
from tipping.data.labelled import Labelled, Read
from tipping.errors import InputError, require


@dataclass(frozen=True)
class Source:
    """The place of the files of a data set, and what a reader is to do with them; each reader takes what it needs.

    Attributes:
        name: the name of the data set, for messages.
        root: the folder of the files of public data sets.
        path: the user's own folder or file.
        size, crop, channels: what is done to files of images.
        test_share, split_seed: the share of test images, and the seed of the choice, where they are not apart.
        target, arguments: the path of the user's own function that returns Datasets, and what it is given.
    """

    name: str
    root: Path = Path("data")
    path: str | None = None
    size: int | Sequence[int] | None = None
    crop: int | Sequence[int] | None = None
    channels: int = 3
    test_share: float | None = None
    split_seed: int = 0
    target: str | None = None
    arguments: Mapping[str, Any] | None = None


def _digits(_: Source) -> Read:
    """Return scikit-learn's 1,797 digits of 8x8 pixels: the first 1,437 to train on, the last 360 to test."""
    from sklearn.datasets import load_digits  # here: other data sets do not need scikit-learn

    digits = load_digits()
    images_NCHW = torch.from_numpy(digits.images / 16).float()[:, None]
    labels_N, cut = torch.from_numpy(digits.target).long(), 1437
    return Labelled(images_NCHW[:cut], labels_N[:cut]), Labelled(images_NCHW[cut:], labels_N[cut:]), DIGITS


def _planted(_: Source) -> Read:
    return Labelled(*planted.images(2000, seed=0)), Labelled(*planted.images(500, seed=1)), DIGITS


def _idx(name: str) -> Callable[[Source], Read]:
    """Return the reader of a public data set in four IDX files."""

    def read(place: Source) -> Read:
        source = SOURCES[name]
        folder = place.root / source.folder / "raw"
        paths = [find_file(folder, file) for file in FILES]
        if None in paths:
            download(name, source, folder)
            paths = [find_file(folder, file) for file in FILES]
        train_images, train_labels, test_images, test_labels = (path for path in paths if path)
        classes = len(source.classes)
        train, test = read_pair(train_images, train_labels, classes), read_pair(test_images, test_labels, classes)
        return train, test, source.classes

    return read


def _folder(source: Source) -> Read:
    from tipping.data.folder import read_image_folder  # here: it imports Pillow

    size, crop = _pair(source.size), _pair(source.crop)
    return read_image_folder(_path(source), source.channels, size, crop, source.test_share, source.split_seed)


def _pair(size: int | Sequence[int] | None) -> int | tuple[int, int] | None:
    """Return a size as readers take it, whose list of two sides may come from YAML."""
    if size is None or isinstance(size, int):
        return size
    require(len(size) == 2, "data.size", list(size), "give a number for both sides, or [height,width]")
    return size[0], size[1]


def _path(source: Source) -> Path:
    if source.path is None:
        raise InputError(f"data.path: give the place of the images of data={source.name}, such as data.path=photos")
    return Path(source.path)


def _arrays(source: Source) -> Read:
    from tipping.data.arrays import read_arrays

    return read_arrays(_path(source))


def _cifar(name: str) -> Callable[[Source], Read]:
    """Return the reader of a CIFAR."""

    def read(source: Source) -> Read:
        from tipping.data.cifar import read_cifar

        return read_cifar(name, source.root)

    return read


def _svhn(source: Source) -> Read:
    from tipping.data.svhn import read_svhn

    return read_svhn(source.root)


def _datasets(source: Source) -> Read:
    """Return what the user's own function makes; the working directory is searched for it too."""
    from tipping.data.datasets import read_datasets  # here: it imports Pillow

    title = f"data._target_={source.target}"
    if source.target is None:
        raise InputError(
            "data._target_: give a function that returns (training, test) Datasets, such as my_module.make"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        made = pkgutil.resolve_name(source.target)(**(source.arguments or {}))
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{title}: {type(error).__name__}: {reason}") from error
    return read_datasets(made, title)


READERS: dict[str, Callable[[Source], Read]] = {
    "digits": _digits,
    "planted": _planted,
    **{name: _idx(name) for name in SOURCES},
    **{name: _cifar(name) for name in ("cifar10", "cifar100", "cifar100_coarse")},
    "svhn": _svhn,
    "folder": _folder,
    "arrays": _arrays,
    "own": _datasets,
}
OWN = ("folder", "arrays", "own")  # sources whose content may change
