"""Data sets: MNIST-format IDX files and the embedded digits, official splits only; images with planted patterns."""

from __future__ import annotations

import functools
import gzip
import hashlib
import math
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tipping import config, planted
from tipping.atomic import replacing
from tipping.errors import InputError
from tipping.store import digest

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = 10
CPU = torch.device("cpu")
LARGEST = 2**30  # bytes of an IDX file; MNIST has a twentieth of that


class Source(NamedTuple):
    """A public mirror: the folder's name under `data.root`, and the SHA-256 of the four gzip `FILES`."""

    folder: str
    mirror: str
    sha256: tuple[str, str, str, str]


SOURCES = {
    "mnist": Source(
        "MNIST",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "fashion_mnist": Source(
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    "kmnist": Source(
        "KMNIST",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
}


@dataclass(frozen=True)
class Split:
    """Labelled images on one device; a batch is a slice."""

    images_NCHW: Tensor  # float32 in [0, 1]
    labels_N: Tensor  # int64

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, chosen: slice | Tensor) -> Split:
        """Some of the images."""
        return Split(self.images_NCHW[chosen], self.labels_N[chosen])

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        if self.labels_N.device == device:
            return self
        return Split(self.images_NCHW.to(device), self.labels_N.to(device))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the images and labels: what a network trained on them depends on."""
        return digest({"images": self.images_NCHW, "labels": self.labels_N})

    def spread(self, count: int) -> Split:
        """`count` images evenly spaced through the split; all of them for 0."""
        if count == 0 or count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count).long()  # on the CPU: another device may round otherwise
        return self[chosen.to(self.labels_N.device)]


@dataclass(frozen=True)
class Dataset:
    """The official training and test images of one data set."""

    name: str
    train: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.images_NCHW.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """The `train` or the `test` images."""
        return {"train": self.train, "test": self.test}[name]

    def to(self, device: torch.device) -> Dataset:
        """The same data set on another device."""
        return Dataset(self.name, self.train.to(device), self.test.to(device))


class Batches:
    """A split in slices of `size` images: in its own order, or in one drawn anew each epoch from `seed`."""

    def __init__(self, split: Split, size: int, seed: int | None = None) -> None:
        self.split, self.size = split, size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images_NCHW, labels_N = self.split.images_NCHW, self.split.labels_N
        if self.generator is None:
            yield from zip(torch.split(images_NCHW, self.size), torch.split(labels_N, self.size), strict=True)
        else:
            order_N = torch.randperm(len(self.split), generator=self.generator).to(labels_N.device)
            for chosen in torch.split(order_N, self.size):
                yield images_NCHW[chosen], labels_N[chosen]


def evaluation_batches(split: Split) -> Batches:
    """A split in order, in batches that suit its device.

    On a CPU the maps of 128 filters stay under 32 MB, above which glibc gives pages back after each batch.
    """
    return Batches(split, 64 if split.labels_N.device.type == "cpu" else 1000)


def load(options: config.Data, device: torch.device = CPU) -> Dataset:
    """The configured data set on a device, downloaded first when its files are missing; the last one is kept there.

    Raises:
        InputError: unknown name; files missing and out of reach; files that are no valid IDX pair.
    """
    return _load(options.name, Path(options.root or "data").absolute(), device)


@functools.lru_cache(maxsize=1)  # the jobs of a sweep share it, and the fingerprints of its images
def _load(name: str, root: Path, device: torch.device) -> Dataset:
    return _read(name, root).to(device)


def _read(name: str, root: Path) -> Dataset:
    if name == "digits":
        return _digits()
    if name == "planted":
        return Dataset(name, Split(*planted.images(2000, seed=0)), Split(*planted.images(500, seed=1)))
    if name not in SOURCES:
        raise InputError(f"data.name={name}: give digits, planted, {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = root / source.folder / "raw"
    paths = [_find(folder, name) for name in FILES]
    if None in paths:
        _download(name, source, folder)
        paths = [_find(folder, name) for name in FILES]
    train_images, train_labels, test_images, test_labels = (path for path in paths if path)
    train, test = _split(train_images, train_labels), _split(test_images, test_labels)
    if train.images_NCHW.shape[1:] != test.images_NCHW.shape[1:]:
        raise InputError(f"{train_images} and {test_images} hold images of different sizes: fetch both anew")
    return Dataset(name, train, test)


def _digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8x8 pixels: the first 1,437 to train on, the last 360 to test."""
    from sklearn.datasets import load_digits  # here, as other data does without

    digits = load_digits()
    images_NCHW = torch.from_numpy(digits.images / 16).float()[:, None]
    labels_N = torch.from_numpy(digits.target).long()
    cut = 1437
    return Dataset("digits", Split(images_NCHW[:cut], labels_N[:cut]), Split(images_NCHW[cut:], labels_N[cut:]))


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _split(images_path: Path, labels_path: Path) -> Split:
    images_NHW, labels_N = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if len(images_NHW) != len(labels_N):
        raise InputError(
            f"{images_path} has {len(images_NHW)} images but {labels_path} {len(labels_N)} labels: fetch both anew"
        )
    if images_NHW.size == 0:
        raise InputError(f"{images_path} holds no images: fetch it anew")
    if labels_N.max() >= CLASSES:
        raise InputError(f"{labels_path} holds the label {labels_N.max()}: labels go from 0 to {CLASSES - 1}")
    images_NCHW = torch.from_numpy(images_NHW).float().div_(255)[:, None]
    return Split(images_NCHW, torch.from_numpy(labels_N).long())


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, gzip or raw [lecun1998].

    Raises:
        InputError: unreadable, truncated, too long, or not `ndim`-dimensional unsigned bytes.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * ndim)
            shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, 4 + 4 * ndim, 4)]
            announced = math.prod(shape)
            content = file.read(min(announced, LARGEST) + 1)  # not all that a small file may unpack to
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): fetch it anew") from error
    magic = bytes([0, 0, 8, ndim])
    if header[:4] != magic:
        kind = {1: "labels", 3: "images"}[ndim]
        raise InputError(
            f"{path} is no IDX file of {kind} (starts with {header[:4].hex()}, not {magic.hex()}): fetch it anew"
        )
    if len(header) < 4 + 4 * ndim or len(content) != announced:
        raise InputError(f"{path} does not hold the {announced:,} bytes that its header announces: fetch it anew")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _download(name: str, source: Source, folder: Path) -> None:
    """Fetch the missing files of a data set, each complete and checked before it appears.

    Raises:
        InputError: no network, a file with another SHA-256, or an unwritable folder.
    """
    for file, sha256 in zip(FILES, source.sha256, strict=True):
        if _find(folder, file):
            continue
        url = f"{source.mirror}/{file}.gz"
        try:
            content = _fetch(url)
        except (OSError, HTTPException) as error:
            raise InputError(
                f"data={name}: {url} is out of reach ({error}); put {', '.join(FILES)} (.gz or not) "
                f"into {folder.absolute()}, or use data=digits, which needs no files"
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(f"{url} sent a file with another SHA-256 than {sha256}: try again, or another network")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / f"{file}.gz") as part:
                part.write_bytes(content)
        except OSError as error:
            raise InputError(f"data.root: cannot write to {folder.absolute()} ({error}); give another") from error


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        length = response.headers.get("Content-Length", "")
        chunks: list[bytes] = []
        total = int(length) if length.isdecimal() else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=url, leave=False, disable=None) as bar:
            while (chunk := response.read(1 << 16)) and len(chunks) << 16 < LARGEST:
                chunks.append(chunk)
                bar.update(len(chunk))
        return b"".join(chunks)
