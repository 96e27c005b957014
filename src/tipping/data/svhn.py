"""SVHN, digits of house numbers cut out of photographs [netzer2011]: its official files of MATLAB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tipping.data.download import download_file
from tipping.data.labelled import Labelled, Read
from tipping.errors import InputError
from tipping.files import opened, parsing

SITE = "http://ufldl.stanford.edu/housenumbers"
FILES = {  # and their SHA-256, as torchvision's prototype of its data sets publishes them
    "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
}
DIGITS = tuple("0123456789")
SHAPE = (32, 32, 3)


def read_svhn(folder: Path) -> Read:
    """Read the cropped digits of SVHN, and download their files first if they are missing.

    The files give a zero the label 10; here it has the label 0.

    Args:
        folder: the folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.

    Raises:
        InputError: a file is missing and out of reach, or is not as SVHN's.
    """
    for name, sha256 in FILES.items():
        if not (folder / name).exists():
            download_file(
                f"{SITE}/{name}", folder / name, sha256, f"put {' and '.join(FILES)} into {folder.absolute()}"
            )
    train, test = (_read(folder / name) for name in FILES)
    return train, test, DIGITS


def _read(path: Path) -> Labelled:
    from scipy.io import loadmat  # here: other data sets do not need SciPy

    try:
        with opened(path) as file, parsing():
            content = loadmat(file, variable_names=("X", "y"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): fetch it anew") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}): fetch it anew") from error
    pixels_HWCN, labels = content.get("X"), content.get("y")
    if not isinstance(pixels_HWCN, np.ndarray) or pixels_HWCN.dtype != np.uint8 or pixels_HWCN.shape[:-1] != SHAPE:
        raise InputError(f"{path} has no X of 32 x 32 x 3 x N bytes: fetch it anew")
    count = pixels_HWCN.shape[-1]
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iuf" or labels.size != count or not count:
        raise InputError(f"{path} has no y with a number for each of its {count} images: fetch it anew")
    labels_N = labels.reshape(-1)
    if not (known_N := np.isin(labels_N, np.arange(1, 11))).all():
        first = int(np.argmin(known_N))
        raise InputError(f"{path}: label {first} is {labels_N[first]}: labels go from 1 to 10; fetch it anew")
    images_NCHW = np.ascontiguousarray(pixels_HWCN.transpose(3, 2, 0, 1))
    return Labelled(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N.astype(np.int64) % 10))
