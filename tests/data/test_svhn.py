from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from tipping.data import svhn
from tipping.data.svhn import FILES, read_svhn
from tipping.errors import InputError

Content = dict[str, Any]


@pytest.fixture
def contents(rng: np.random.Generator) -> dict[str, Content]:
    """What the official files hold: images along the last axis, and a column of labels from 1 to 10."""
    return {
        name: {
            "X": rng.integers(256, size=(32, 32, 3, count)).astype(np.uint8),
            "y": (rng.permutation(count) % 10 + 1).astype(np.uint8)[:, None],
        }
        for name, count in zip(FILES, (23, 11), strict=True)
    }


def write(folder: Path, contents: dict[str, Content]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        savemat(folder / name, content, do_compression=True)
    return folder


def test_the_files_give_what_scipy_reads_and_zeros_are_zero(tmp_path: Path, contents: dict[str, Content]) -> None:
    train, test, classes = read_svhn(write(tmp_path, contents))
    assert classes == tuple("0123456789")
    for split, name in ((train, "train_32x32.mat"), (test, "test_32x32.mat")):
        plain = loadmat(tmp_path / name)
        assert isinstance(split.images, torch.Tensor)
        assert split.images.dtype == torch.uint8
        for index in range(len(split)):
            assert np.array_equal(split.images[index].numpy(), plain["X"][:, :, :, index].transpose(2, 0, 1))
            assert split.labels_N[index] == int(plain["y"][index, 0]) % 10


def spoil_images(content: Content) -> str:
    content["X"] = content["X"][:31]
    return "test_32x32.mat has no X of 32 x 32 x 3 x N bytes: fetch it anew"


def spoil_type(content: Content) -> str:
    content["X"] = content["X"].astype(float)
    return "test_32x32.mat has no X of 32 x 32 x 3 x N bytes"


def spoil_missing(content: Content) -> str:
    del content["y"]
    return "test_32x32.mat has no y with a number for each of its 11 images"


def spoil_lengths(content: Content) -> str:
    content["y"] = content["y"][:4]
    return "test_32x32.mat has no y with a number for each of its 11 images"


def spoil_label(content: Content) -> str:
    content["y"][5] = 11
    return "test_32x32.mat: label 5 is 11: labels go from 1 to 10"


def spoil_fraction(content: Content) -> str:
    content["y"] = content["y"] + 0.5
    return r"test_32x32.mat: label 0 is \d+.5: labels go from 1 to 10"


SPOILERS = [value for name, value in dict(globals()).items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_files_of_matlab_are_refused_by_name_in_one_line(
    tmp_path: Path, contents: dict[str, Content], spoil: Callable[[Content], str]
) -> None:
    culprit = spoil(contents["test_32x32.mat"])
    with pytest.raises(InputError, match=culprit) as error:
        read_svhn(write(tmp_path, contents))
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_matlab_or_not_whole_is_refused(tmp_path: Path, contents: dict[str, Content]) -> None:
    path = write(tmp_path, contents) / "train_32x32.mat"
    whole = path.read_bytes()
    newer = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(100)
    for content in (b"", b"no file of MATLAB" * 20, whole[:300], whole[:-20], newer):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"train_32x32.mat (cannot be read .*|has no [Xy] .*): fetch it anew"
        ) as error:
            read_svhn(tmp_path)
        assert "\n" not in str(error.value)


def test_missing_files_of_matlab_are_downloaded_and_checked(
    tmp_path: Path, contents: dict[str, Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = write(tmp_path / "mirror", contents)
    monkeypatch.setattr(svhn, "SITE", mirror.as_uri())
    for name in FILES:
        monkeypatch.setitem(FILES, name, hashlib.sha256((mirror / name).read_bytes()).hexdigest())
    assert len(read_svhn(tmp_path / "data")[0]) == 23
    (mirror / "test_32x32.mat").write_bytes(b"tampered")
    with pytest.raises(InputError, match=r"test_32x32.mat sent a file with another SHA-256"):
        read_svhn(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["train_32x32.mat"]
    (mirror / "test_32x32.mat").unlink()
    remedy = rf"put train_32x32.mat and test_32x32.mat into {tmp_path / 'other'}$"
    with pytest.raises(InputError, match=rf"test_32x32.mat is out of reach .*; {remedy}"):
        read_svhn(tmp_path / "other")


def test_the_sha256_of_both_files_are_as_long_as_they_must_be() -> None:
    assert [len(bytes.fromhex(sha256)) for sha256 in FILES.values()] == [32, 32]
