"""Load data sets by name from their sources, and take of them what is asked for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tipping import planted
from tipping.data.choosing import check_images, check_training_images, with_classes, with_logits
from tipping.data.idx import DIGITS, FILES, SOURCES, download, find_file, read_pair
from tipping.data.labelled import Labelled, Read
from tipping.data.normalising import Statistic, normalisation_of
from tipping.data.splits import CPU, Dataset, Split
from tipping.data.streams import Rows, Streamed
from tipping.errors import InputError, require, require_whole

MEGABYTE = 10**6


@dataclass(frozen=True)
class Source:
    """The place of the files of a data set, and what a reader is to do with them; each reader takes what it needs.

    Attributes:
        name: the name of the data set, for messages.
        root: the folder of the files of public data sets.
        path: the user's own folder or file.
        size, crop, channels: what is done to files of images.
        test_share, split_seed: the share of test images, and the seed of the choice, where they are not apart.
        target, arguments: the user's own function that returns Datasets.
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


PLACE = tuple(field.name for field in fields(Source))


def load(
    name: str,
    root: str | Path | None = None,
    device: torch.device = CPU,
    *,
    source: str | None = None,
    classes: Sequence[str | int] | None = None,
    labels: Sequence[int] | None = None,
    images: int = 0,
    mean: Statistic = 0.0,
    std: Statistic = 1.0,
    memory: int = 2000,
    workers: int = 2,
    **place: Any,
) -> Dataset:
    """Load a data set, and download its files first if they are missing and public.

    The data set loaded last is cached.

    Args:
        name: the name of the data set, and of its source if `source` does not name that: `digits`, `planted`, `mnist`,
            `fashion_mnist`, `kmnist`, `folder`.
        root: the folder of the files of public data sets; ``data`` by default.
        device: the device of the images, or of their batches where the images are not in memory.
        source: the source, where the data set has a name of its own.
        classes: some of the classes, by name or number, in the order of their new labels; by default all.
        labels: the logit of each class in a network that was trained elsewhere, for one that has more classes.
        images: the number of training images, evenly spaced; 0 takes all.
        mean, std: by which images in [0, 1] are normalised: a number, one for each channel, or `imagenet`.
        memory: the megabytes that the images may take in memory; where they need more, they are read when asked for.
        workers: the processes that read images ahead; 0 for none.
        place: further attributes of `Source`, such as `path` and `size` for a folder of images.

    Raises:
        InputError: the source is unknown, a file is missing or is not what it should be, an option does not suit the
            images, or the images are not as `check_images` wants them.
    """
    for option, value in {"images": images, "memory": memory, "workers": workers}.items():
        require_whole(f"data.{option}", value, 0)
    key = _key(name, root, source, memory, workers, place)
    more = json.dumps([classes, labels, images, mean, std])
    return _load(key, more, device)


def content_digests(
    name: str,
    root: str | Path | None = None,
    *,
    source: str | None = None,
    memory: int = 2000,
    workers: int = 2,
    **place: Any,
) -> dict[str, str]:
    """Return the SHA-256 of all training and all test images of a user's own; none for public data sets.

    Args:
        name, root, source, memory, workers, place: as in `load`; its other options do not count.

    Raises:
        InputError: as `load`.
    """
    if (source or name) not in OWN:
        return {}
    place = {option: value for option, value in place.items() if option in PLACE}
    opened = _opened(_key(name, root, source, memory, workers, place))
    return {"train": opened.train.fingerprint, "test": opened.test.fingerprint}


def forget() -> None:
    """Forget the data set that was loaded last, so that its files are read again."""
    _load.cache_clear()
    _opened.cache_clear()


def _key(name: str, root: str | Path | None, source: str | None, memory: int, workers: int, place: Any) -> str:
    """Return what decides where images are read and how, as a text."""
    place = {option: str(value) if isinstance(value, Path) else value for option, value in place.items()}
    folder = str(Path(root or "data").absolute())
    return json.dumps([source or name, {"name": name, "root": folder, **place}, memory, workers], sort_keys=True)


@functools.lru_cache(maxsize=1)  # the jobs of a sweep share the images and their fingerprints
def _load(key: str, more: str, device: torch.device) -> Dataset:
    classes, labels, images, mean, std = json.loads(more)
    memory = json.loads(key)[2]
    dataset = _opened(key)
    normalisation = normalisation_of(mean, std, dataset.image_shape[0])
    if classes is not None:
        dataset = with_classes(dataset, classes)
    dataset = replace(dataset, train=dataset.train.spread(images))
    check_training_images(dataset)
    if labels is not None:
        dataset = with_logits(dataset, labels)
    fits = _nbytes(dataset.train, dataset.test) <= memory * MEGABYTE
    train, test = (
        replace(split.in_memory() if fits else split, normalisation=normalisation)
        for split in (dataset.train, dataset.test)
    )
    return replace(dataset, train=train, test=test).to(device)


@functools.lru_cache(maxsize=1)  # also for the digest of the content
def _opened(key: str) -> Dataset:
    """Return a whole data set on the CPU, its images as they came; of what need not be read, little is."""
    name, place, memory, workers = json.loads(key)
    source = Source(**{**place, "root": Path(place["root"])})
    if name not in READERS:
        raise InputError(f"data.name={name}: give {', '.join(READERS)}")
    train, test, classes = READERS[name](source)
    fits = _nbytes(train, test) <= memory * MEGABYTE

    def split(part: Labelled | Split, title: str) -> Split:
        images = part.images
        if isinstance(images, Tensor) and fits:
            return Split(images.contiguous(), part.labels_N)
        dataset = Rows(images) if isinstance(images, Tensor) else images
        streamed = Streamed.from_dataset(dataset, f"data={source.name}, {title} images", workers)
        return Split(streamed, part.labels_N)

    dataset = Dataset(source.name, split(train, "training"), split(test, "test"), tuple(classes))
    check_images(dataset)
    return dataset


def _nbytes(*splits: Labelled | Split) -> int:
    """Return the bytes that images take in memory, as far as that is known."""
    return sum(getattr(split.images, "nbytes", 0) for split in splits)


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
    from tipping.data.folder import read_folder  # here: it imports Pillow

    if source.path is None:
        raise InputError("data.path: give the folder of the images, such as data.path=photos")
    size, crop = _pair(source.size), _pair(source.crop)
    return read_folder(Path(source.path), source.channels, size, crop, source.test_share, source.split_seed)


def _pair(size: int | Sequence[int] | None) -> int | tuple[int, int] | None:
    """Return a size as readers take it, whose list of two sides may come from YAML."""
    if size is None or isinstance(size, int):
        return size
    require(len(size) == 2, "data.size", list(size), "give a number for both sides, or [height,width]")
    return size[0], size[1]


READERS: dict[str, Callable[[Source], Read]] = {
    "digits": _digits,
    "planted": _planted,
    **{name: _idx(name) for name in SOURCES},
    "folder": _folder,
}
OWN = ("folder",)  # sources whose content may change
