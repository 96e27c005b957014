from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tipping.data import cifar
from tipping.data.cifar import CIFARS, read_cifar
from tipping.data.pickles import read_pickle
from tipping.errors import InputError

NAMES = [b"airplane", b"automobile", b"bird"]
COARSE = [b"machine", b"animal"]
Files = dict[str, bytes]


def official(values: dict[bytes, Any]) -> bytes:
    """A pickle with the names of functions that NumPy 1 wrote, as they stand in the archives."""
    content = pickle.dumps(values, protocol=2)
    return content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(rng: np.random.Generator, count: int, fine: bytes) -> dict[bytes, Any]:
    images = rng.integers(256, size=(count, 3072)).astype(np.uint8)
    labels = [int(label) for label in rng.permutation(count) % 3]
    values = {b"data": images, fine: labels, b"filenames": [b"a.png"] * count, b"batch_label": b"1 of 5"}
    return values | ({b"coarse_labels": [label // 2 for label in labels]} if fine == b"fine_labels" else {})


@pytest.fixture(params=["cifar10", "cifar100"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def batches(rng: np.random.Generator, name: str) -> dict[str, dict[bytes, Any]]:
    archive = CIFARS[name]
    files = {file: batch(rng, 6, archive.labels.encode()) for file in (*archive.train, *archive.test)}
    names = {archive.names.encode(): NAMES, b"coarse_label_names": COARSE, b"num_vis": 3072}
    return {archive.meta: names, **files}


@pytest.fixture
def files(batches: dict[str, dict[bytes, Any]]) -> Files:
    return {file: official(values) for file, values in batches.items()}


def pack(path: Path, folder: str, files: Files) -> Path:
    """Write an archive with files in a folder, and something that is not read beside them."""
    with tarfile.open(path, "w:gz") as archive:
        for file, content in {"readme.html": b"<html>", **files}.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write(folder: Path, name: str, files: Files) -> Path:
    archive = CIFARS[name]
    return pack(folder / Path(archive.url).name, archive.folder, files)


@pytest.mark.parametrize("unpacked", [False, True])
def test_an_archive_gives_what_plain_pickle_gives(tmp_path: Path, name: str, files: Files, unpacked: bool) -> None:
    path = write(tmp_path, name, files)
    archive = CIFARS[name]
    if unpacked:
        with tarfile.open(path) as packed:
            packed.extractall(tmp_path, filter="data")
        path.unlink()
    train, test, classes = read_cifar(name, tmp_path)
    assert classes == ("airplane", "automobile", "bird")
    for split, parts in ((train, archive.train), (test, archive.test)):
        plain = [pickle.loads(files[part].replace(b"numpy.core", b"numpy._core"), encoding="bytes") for part in parts]
        images = np.concatenate([values[b"data"].reshape(-1, 3, 32, 32) for values in plain])
        assert isinstance(split.images, torch.Tensor)
        assert split.images.dtype == torch.uint8
        assert np.array_equal(split.images.numpy(), images)
        assert split.labels_N.tolist() == [label for values in plain for label in values[archive.labels.encode()]]
        split.images[0] = 0  # writable: PyTorch warns of tensors that are not


def test_the_coarse_labels_are_those_of_twenty_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    made = {part: batch(rng, 6, b"fine_labels") for part in ("train", "test")}
    meta = {b"fine_label_names": NAMES, b"coarse_label_names": COARSE}
    write(tmp_path, "cifar100", {"meta": official(meta), **{part: official(values) for part, values in made.items()}})
    train, _, classes = read_cifar("cifar100_coarse", tmp_path)
    assert classes == ("machine", "animal")
    assert train.labels_N.tolist() == made["train"][b"coarse_labels"]


class Python2(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes as Python 2 wrote its texts, as they stand in the official archives."""

    def save_bytes(self, content: bytes) -> None:
        head = b"U" + bytes([len(content)]) if len(content) < 256 else b"T" + len(content).to_bytes(4, "little")
        self.write(head + content)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}  # type: ignore[attr-defined]  # noqa: RUF012


def test_pickles_of_python_2_are_read(rng: np.random.Generator) -> None:
    values = batch(rng, 4, b"labels")
    file = io.BytesIO()
    Python2(file, protocol=2).dump(values)
    content = file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"_codecs" not in content
    read = read_pickle(content)
    assert np.array_equal(read.pop(b"data"), values.pop(b"data"))
    assert read == values


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


HOSTILE = {
    "calls": (pickle.dumps({b"data": Harm()}, protocol=2), r"asks for posix.mkdir, which is not run"),
    "builtins": (b"\x80\x02c__builtin__\neval\n.", "asks for .*eval, which is not run"),
    "inner": (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", r"asks for numpy.core.multiarray.scalar"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.", "asks for numpy.ndarray.__reduce__"),
    "objects": (pickle.dumps({b"data": np.array([None, 3])}, protocol=2), "holds an array of .*O8"),
    "floats": (pickle.dumps({b"data": np.zeros(3)}, protocol=2), "holds an array of .*f8.*, not of unsigned bytes"),
    "columns": (pickle.dumps(np.asfortranarray(np.zeros((2, 3), np.uint8)), protocol=2), "row by row"),
    "makes": (b"\x80\x02cnumpy\nndarray\nK\x05\x85R.", "makes an array otherwise"),
    "news": (b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.", "NEWOBJ"),
    "changes": (b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.", "it changes what it names"),
    "slots": (b"\x80\x02c_codecs\nencode\nN}X\x08\x00\x00\x00functionK\x01s\x86b.", "it changes what it names"),
    "encodes": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "rot13.*, not in latin1"),
    "persistent": (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
    "shape": (
        pickle.dumps(np.zeros(9, np.uint8), protocol=2).replace(b"K\x09\x85", b"K\x08\x85"),
        r"an array of 9 bytes has the shape \(8,\)",
    ),
    "none": (b"", "."),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_pickles_that_name_anything_else_are_refused_by_name_and_run_nothing(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, culprit = HOSTILE[case]
    with pytest.raises(ValueError, match=culprit):
        read_pickle(content)
    assert not (tmp_path / "harmed").exists()
    assert read_pickle(pickle.dumps(b"abc", protocol=2)) == b"abc", "the next is read as if nothing had been"


def spoil_missing(files: Files, name: str) -> str:
    del files[CIFARS[name].test[0]]
    return f"gz cannot be read .it has no {CIFARS[name].folder}/{CIFARS[name].test[0]}"


def spoil_pickle(files: Files, name: str) -> str:
    files[CIFARS[name].test[0]] = pickle.dumps({b"data": Harm()}, protocol=2)
    return f"{CIFARS[name].test[0]} is not read: it asks for posix.mkdir, which is not run; fetch the archive anew"


def spoil_truncated(files: Files, name: str) -> str:
    files[CIFARS[name].train[0]] = files[CIFARS[name].train[0]][:-100]
    return f"{CIFARS[name].train[0]} is not read: "


def spoil_list(files: Files, name: str) -> str:
    files[CIFARS[name].train[0]] = official([1, 2])  # type: ignore[arg-type]
    return f"{CIFARS[name].train[0]} has no images .data. of 3 x 32 x 32 bytes"


def spoil_images(files: Files, name: str) -> str:
    label = CIFARS[name].labels.encode()
    files[CIFARS[name].train[0]] = official({b"data": np.zeros((6, 3071), np.uint8), label: [0] * 6})
    return f"{CIFARS[name].train[0]} has no images .data. of 3 x 32 x 32 bytes"


def spoil_label(files: Files, name: str) -> str:
    label = CIFARS[name].labels.encode()
    files[CIFARS[name].test[0]] = official({b"data": np.zeros((2, 3072), np.uint8), label: [0, 3]})
    return f"{CIFARS[name].test[0]} has no labels .{label.decode()}. from 0 to 2"


def spoil_huge_label(files: Files, name: str) -> str:
    label = CIFARS[name].labels.encode()
    files[CIFARS[name].test[0]] = official({b"data": np.zeros((2, 3072), np.uint8), label: [0, 10**30]})
    return f"{CIFARS[name].test[0]} has no labels"


def spoil_lengths(files: Files, name: str) -> str:
    label = CIFARS[name].labels.encode()
    files[CIFARS[name].test[0]] = official({b"data": np.zeros((2, 3072), np.uint8), label: [0]})
    return f"{CIFARS[name].test[0]} has 2 images and 1 labels"


def spoil_names(files: Files, name: str) -> str:
    files[CIFARS[name].meta] = official({b"num_vis": 3072})
    return f"{CIFARS[name].meta} has no names of classes .{CIFARS[name].names}."


def spoil_same_names(files: Files, name: str) -> str:
    files[CIFARS[name].meta] = official({CIFARS[name].names.encode(): [b"cat", b"cat", b"dog"]})
    return f"{CIFARS[name].meta} has 2 classes with the name cat"


SPOILERS = [value for name, value in dict(globals()).items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_archives_are_refused_by_name_in_one_line(
    tmp_path: Path, name: str, files: Files, spoil: Callable[[Files, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    culprit = spoil(files, name)
    write(tmp_path, name, files)
    with pytest.raises(InputError, match=culprit) as error:
        read_cifar(name, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harmed").exists()


def test_what_is_no_archive_or_not_whole_is_refused(tmp_path: Path, name: str, files: Files) -> None:
    path = write(tmp_path, name, files)
    whole = path.read_bytes()
    changed = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]  # in the checksum of the content
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:-8], changed):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{path.name} cannot be read .*: fetch it anew"):
            read_cifar(name, tmp_path)
    path.unlink()
    (tmp_path / CIFARS[name].folder).mkdir()
    with pytest.raises(InputError, match=rf"{CIFARS[name].folder}/\S+ cannot be read .No such file .*: fetch"):
        read_cifar(name, tmp_path)


def test_a_missing_archive_is_downloaded_and_checked(
    tmp_path: Path, name: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    path = write(tmp_path / "mirror", name, files)
    archive = CIFARS[name]._replace(url=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(CIFARS, name, archive)
    train, *_ = read_cifar(name, tmp_path / "data")
    assert len(train) == 6 * len(archive.train)
    path.write_bytes(b"tampered")
    with pytest.raises(InputError, match="sent a file with another SHA-256"):
        read_cifar(name, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name} is out of reach .*; put it into {tmp_path / 'other'}$"):
        read_cifar(name, tmp_path / "other")


def test_the_sha256_are_as_long_as_they_must_be() -> None:
    assert [len(bytes.fromhex(archive.sha256)) for archive in cifar.CIFARS.values()] == [32] * 3
