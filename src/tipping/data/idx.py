"""Data sets in IDX files, the format of MNIST: find, download, check and read the files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tipping.data.download import download_file
from tipping.data.labelled import Labelled
from tipping.errors import InputError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LARGEST = 2**30  # bytes read of an IDX file, at most; MNIST has a twentieth


DIGITS = tuple("0123456789")


class Source(NamedTuple):
    """A data set on a public mirror.

    Attributes:
        folder: the name of its folder under `data.root`.
        mirror: the URL of the folder of files.
        sha256: the SHA-256 of each of the four gzip `FILES`.
        classes: the names of the classes, label by label.
    """

    folder: str
    mirror: str
    sha256: tuple[str, str, str, str]
    classes: tuple[str, ...] = DIGITS


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
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
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
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def find_file(folder: Path, name: str) -> Path | None:
    """Return the path of an IDX file in a folder, gzip or raw; None if there is no such file."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_pair(images_path: Path, labels_path: Path, classes: int) -> Labelled:
    """Read the bytes of a file of images, and the labels of a file of labels.

    Args:
        classes: the number of classes.

    Raises:
        InputError: a file is invalid, holds no images or a label of no class, or there are fewer or more labels.
    """
    images_NHW, labels_N = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    if len(images_NHW) != len(labels_N):
        raise InputError(
            f"{images_path} has {len(images_NHW)} images but {labels_path} {len(labels_N)} labels: fetch both anew"
        )
    if images_NHW.size == 0:
        raise InputError(f"{images_path} holds no images: fetch it anew")
    if labels_N.max() >= classes:
        raise InputError(f"{labels_path} holds the label {labels_N.max()}: labels go from 0 to {classes - 1}")
    return Labelled(torch.from_numpy(images_NHW)[:, None], torch.from_numpy(labels_N).long())


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read the array of unsigned bytes in an IDX file, gzip or raw [lecun1998].

    Raises:
        InputError: the file is unreadable, truncated or too long, or does not hold unsigned bytes in `ndim` dimensions.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * ndim)
            shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, 4 + 4 * ndim, 4)]
            announced = math.prod(shape)
            content = file.read(min(announced, LARGEST) + 1)  # a small gzip file may unpack to much more
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


def download(name: str, source: Source, folder: Path) -> None:
    """Download the missing files of a data set; each appears in the folder only when it is complete and checked.

    Raises:
        InputError: the mirror is out of reach, a file has another SHA-256, or the folder is not writable.
    """
    for file, sha256 in zip(FILES, source.sha256, strict=True):
        if find_file(folder, file):
            continue
        remedy = (
            f"put {', '.join(FILES)} (.gz or not) into {folder.absolute()}, or use data=digits, which needs no files"
        )
        download_file(f"{source.mirror}/{file}.gz", folder / f"{file}.gz", sha256, f"for data={name}, {remedy}")
