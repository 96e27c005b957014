"""Load data sets by name from their sources, and take of them what is asked for."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tipping.data.choosing import check_images, check_training_images, with_classes, with_logits
from tipping.data.labelled import Labelled
from tipping.data.normalising import Statistic, normalisation_of
from tipping.data.readers import OWN, READERS, Source
from tipping.data.splits import CPU, Dataset, Split
from tipping.data.streams import Rows, Streamed
from tipping.errors import InputError, require_whole

MEGABYTE = 10**6


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
            `fashion_mnist`, `kmnist`, `cifar10`, `cifar100`, `cifar100_coarse`, `svhn`, `folder`, `arrays`, `own`.
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


def load_anew(name: str, root: str | Path | None = None, device: torch.device = CPU, **options: Any) -> Dataset:
    """Load a data set as `load` does, but read its files again, since these may have changed."""
    forget()
    return load(name, root, device, **options)


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
