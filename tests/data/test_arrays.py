from __future__ import annotations

import hashlib
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tipping.data.arrays import read_arrays
from tipping.data.labelled import Labelled
from tipping.data.pixels import MappedImages
from tipping.errors import InputError

Arrays = dict[str, Any]


@pytest.fixture
def arrays(rng: np.random.Generator) -> Arrays:
    return {
        "train_images": rng.integers(256, size=(9, 6, 5, 3)).astype(np.uint8),
        "train_labels": np.arange(9) % 3,
        "test_images": rng.integers(256, size=(4, 6, 5, 3)).astype(np.uint8),
        "test_labels": np.array([2, 0, 1, 1]),
    }


def write(folder: Path, kind: str, arrays: Arrays) -> Path:
    """Write arrays as a user does."""
    if kind == "npz":
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"
    if kind == "pt":
        tensors = {
            name: torch.from_numpy(array) if hasattr(array, "dtype") else array for name, array in arrays.items()
        }
        torch.save(tensors, folder / "a.pt")
        return folder / "a.pt"
    (folder / "a").mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / "a" / f"{name}.npy", array)
    return folder / "a"


def tensors(split: Labelled) -> tuple[np.ndarray, np.ndarray]:
    images = split.images
    images = (
        images if isinstance(images, torch.Tensor) else torch.stack([images[index] for index in range(len(images))])
    )
    return images.numpy(), split.labels_N.numpy()


KINDS = ("npz", "pt", "npy")
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_arrays_give_what_was_written(tmp_path: Path, arrays: Arrays, kind: str) -> None:
    train, test, classes = read_arrays(write(tmp_path, kind, arrays))
    for split, part in ((train, "train"), (test, "test")):
        images, labels = tensors(split)
        assert images.dtype == np.uint8
        assert np.array_equal(images, arrays[f"{part}_images"].transpose(0, 3, 1, 2))
        assert np.array_equal(labels, arrays[f"{part}_labels"])
        assert labels.dtype == np.int64
    assert classes == ("0", "1", "2")


@every_kind
def test_other_names_and_names_of_classes_are_taken(tmp_path: Path, arrays: Arrays, kind: str) -> None:
    names = {"train_images": "X_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "Y_TEST"}
    renamed = {names[name]: array for name, array in arrays.items()}
    words = ["cat", "dog", "emu", "yak"]
    renamed |= {"val_images": np.zeros(3), "classes": words if kind == "pt" else np.array(words)}
    train, _, classes = read_arrays(write(tmp_path, kind, renamed))
    assert np.array_equal(tensors(train)[0], arrays["train_images"].transpose(0, 3, 1, 2))
    assert classes == ("cat", "dog", "emu", "yak")


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((6, 5), (0, 1, 2)),
        ((6, 5, 1), (0, 3, 1, 2)),
        ((6, 5, 3), (0, 3, 1, 2)),
        ((1, 6, 5), (0, 1, 2, 3)),
        ((3, 6, 5), (0, 1, 2, 3)),
        ((6, 3, 3), (0, 3, 1, 2)),
        ((3, 3, 6), (0, 1, 2, 3)),
    ],
)
@every_kind
def test_channels_are_where_there_are_one_or_three(tmp_path: Path, arrays: Arrays, kind: str, shape, order) -> None:
    images = {name: np.resize(arrays[name], (len(arrays[name]), *shape)) for name in ("train_images", "test_images")}
    train, *_ = read_arrays(write(tmp_path, kind, arrays | images))
    expected = images["train_images"].transpose(order)
    assert np.array_equal(tensors(train)[0], expected.reshape(9, -1, *expected.shape[-2:]))


@every_kind
def test_floats_from_0_to_1_stay_what_they_are(tmp_path: Path, arrays: Arrays, kind: str) -> None:
    scaled = {name: (arrays[name] / 255).astype(np.float32) for name in ("train_images", "test_images")}
    scaled["train_images"][0, 0, 0] = [0, 1, 0.5]
    train, *_ = read_arrays(write(tmp_path, kind, arrays | scaled))
    assert np.array_equal(tensors(train)[0], scaled["train_images"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4"])
@every_kind
def test_other_floats_are_made_float32(tmp_path: Path, arrays: Arrays, dtype: str, kind: str) -> None:
    if kind == "pt" and dtype == ">f4":
        pytest.skip("PyTorch has one order of bytes")
    scaled = {name: (arrays[name] / 255).astype(dtype) for name in ("train_images", "test_images")}
    train, *_ = read_arrays(write(tmp_path, kind, arrays | scaled))
    images, _ = tensors(train)
    assert images.dtype == np.float32
    assert np.array_equal(images, scaled["train_images"].astype(np.float32).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("labels", [np.uint8, np.uint64, np.float32, ">i2"])
@every_kind
def test_labels_are_whole_numbers_of_any_type_and_may_be_a_column(tmp_path: Path, arrays: Arrays, kind, labels) -> None:
    if kind == "pt" and labels == ">i2":
        labels = "i2"
    changed = arrays | {"train_labels": arrays["train_labels"].astype(labels)[:, None]}
    if kind == "pt" and labels == np.uint64:
        changed["train_labels"] = changed["train_labels"].astype(np.int64)
    train, *_ = read_arrays(write(tmp_path, kind, changed))
    assert train.labels_N.tolist() == arrays["train_labels"].tolist()


def test_a_folder_is_mapped_and_not_read(tmp_path: Path, arrays: Arrays) -> None:
    """40 GB of bytes, of which the system has written none, and which no memory holds."""
    path = write(tmp_path, "npy", arrays)
    np.lib.format.open_memmap(path / "train_images.npy", mode="w+", dtype=np.uint8, shape=(270_000, 224, 224, 3))[9] = 7
    np.save(path / "train_labels.npy", np.arange(270_000) % 3)
    np.save(path / "test_images.npy", np.zeros((4, 224, 224, 3), np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train, *_ = read_arrays(path)
    assert isinstance(train.images, MappedImages)
    assert len(train) == len(train.images) == 270_000
    assert train.images[9].shape == (3, 224, 224)
    assert train.images[9].unique().tolist() == [7]
    train.images[0].fill_(1)
    assert train.images[0].max() == 0, "the file stays as it is"
    copy = pickle.dumps(train.images)
    assert len(copy) < 1000, "bytes for another process"
    assert pickle.loads(copy)[9].unique().tolist() == [7]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kB"


def test_the_digest_of_a_folder_is_that_of_its_files(tmp_path: Path, arrays: Arrays) -> None:
    path = write(tmp_path, "npy", arrays)
    train, test, _ = read_arrays(path)
    assert isinstance(test.images, MappedImages)
    assert test.images.digest() == hashlib.sha256((path / "test_images.npy").read_bytes()).hexdigest()
    assert list(map(len, DataLoader(train.images, batch_size=4, num_workers=1))) == [4, 4, 1]


def spoil_rank(arrays: Arrays) -> str:
    arrays["train_images"] = arrays["train_images"].reshape(9, -1)
    return r"train_images(.npy)? has pixels of shape \(90,\): give \(H, W\), \(H, W, C\) or \(C, H, W\) with C = 1 or 3"


def spoil_scalar(arrays: Arrays) -> str:
    arrays["train_images"] = np.array(3, np.uint8)
    return r"train_images(.npy)? has pixels of shape \(\): give"


def spoil_channels(arrays: Arrays) -> str:
    arrays["train_images"] = np.zeros((9, 2, 6, 5), np.uint8)
    return r"train_images(.npy)? has pixels of shape \(2, 6, 5\): give"


def spoil_order(arrays: Arrays) -> str:
    arrays["test_images"] = np.zeros((4, 3, 6, 3), np.uint8)
    return r"test_images(.npy)? has pixels of shape \(3, 6, 3\), of which the first or the last may be channels"


def spoil_type(arrays: Arrays) -> str:
    arrays["train_images"] = arrays["train_images"].astype(np.int64)
    return r"train_images(.npy)? is of type (torch.)?int64: give uint8, or floats from 0 to 1"


def spoil_not_a_number(arrays: Arrays) -> str:
    arrays["train_images"] = (arrays["train_images"] / 255).astype(np.float32)
    arrays["train_images"][7, 2, 1, 0] = np.nan
    return r"train_images(.npy)?: image 7 has the pixel nan: mend or remove the image"


def spoil_scale(arrays: Arrays) -> str:
    arrays["train_images"] = np.float32(arrays["train_images"])
    arrays["train_images"][:3] = 0.5
    arrays["train_images"][3] = 200
    return r"train_images(.npy)?: image 3 has the pixel 200: give floats from 0 to 1, or uint8"


def spoil_negative_pixel(arrays: Arrays) -> str:
    arrays["test_images"] = np.zeros((4, 6, 5, 3), np.float32)
    arrays["test_images"][2, 1, 1, 1] = -0.25
    return r"test_images(.npy)?: image 2 has the pixel -0.25: give floats"


def spoil_lengths(arrays: Arrays) -> str:
    arrays["test_labels"] = arrays["test_labels"][:3]
    return r"test_images(.npy)? has 4 images, but \S+( |/)test_labels(.npy)? 3 labels: give one for each"


def spoil_one_hot(arrays: Arrays) -> str:
    arrays["train_labels"] = np.eye(3)[arrays["train_labels"]]
    return r"train_labels(.npy)? has the shape \(9, 3\): give \(N,\), a number for each image; of one-hot rows"


def spoil_fraction(arrays: Arrays) -> str:
    arrays["train_labels"] = arrays["train_labels"] + np.array([0] * 5 + [0.5] * 4)
    return r"train_labels(.npy)?: label 5 is 2.5: give whole numbers from 0"


def spoil_missing_label(arrays: Arrays) -> str:
    arrays["train_labels"] = np.where(np.arange(9) == 4, np.nan, 1)
    return r"train_labels(.npy)?: label 4 is nan: give whole numbers from 0"


def spoil_negative_label(arrays: Arrays) -> str:
    arrays["test_labels"] = np.array([0, 1, -1, 2])
    return r"test_labels(.npy)?: label 2 is -1: give whole numbers from 0"


def spoil_large_label(arrays: Arrays) -> str:
    arrays["train_labels"] = np.where(np.arange(9) == 4, 10**12, 1)
    return r"train_labels(.npy)?: label 4 is 1000000000000: give whole numbers from 0 to 999999"


def spoil_words(arrays: Arrays) -> str:
    arrays["train_labels"] = np.array([True] * 8 + [False]) + 0j
    return r"train_labels(.npy)? is of type (torch.)?complex128: give whole numbers from 0"


def spoil_test_label(arrays: Arrays) -> str:
    arrays["test_labels"] = np.array([0, 3, 1, 2])
    return r"test_labels(.npy)?: label 1 is 3: labels of 3 classes go from 0 to 2"


def spoil_untrained(arrays: Arrays) -> str:
    arrays["train_labels"] = arrays["train_labels"] * 2
    return r"test_labels(.npy)?: label 2 is 1, which no training image has: add such, or remove this one"


def spoil_one_class(arrays: Arrays) -> str:
    arrays |= {"train_labels": np.zeros(9), "test_labels": np.zeros(4)}
    return r"train_labels(.npy)? has only the class 0: give images of two or more classes"


def spoil_sizes(arrays: Arrays) -> str:
    arrays["test_images"] = arrays["test_images"][:, :5]
    return (
        r"train_images(.npy)? has images of torch.uint8 of shape \(3, 6, 5\), but .* torch.uint8 of shape \(3, 5, 5\)"
    )


def spoil_one_type(arrays: Arrays) -> str:
    arrays["test_images"] = (arrays["test_images"] / 255).astype(np.float32)
    return r"train_images(.npy)? has images of torch.uint8 of shape .* but test images are of torch.float32"


def spoil_empty(arrays: Arrays) -> str:
    arrays |= {"test_images": np.zeros((0, 6, 5, 3), np.uint8), "test_labels": np.zeros(0)}
    return r"test_images(.npy)? holds no images"


def spoil_missing(arrays: Arrays) -> str:
    del arrays["test_labels"]
    return r"a(.npz|.pt)? has no test_labels \(or y_test\): add it"


def spoil_both(arrays: Arrays) -> str:
    arrays["y_test"] = arrays["test_labels"]
    return r"a(.npz|.pt)? has both (test_labels and y_test|y_test and test_labels): remove one"


def spoil_names(arrays: Arrays) -> str:
    arrays["classes"] = np.arange(3)
    return r"classes(.npy)? holds no names: give one text for each class"


def spoil_few_names(arrays: Arrays) -> str:
    arrays["classes"] = np.array(["cat", "dog"])
    return r"train_labels(.npy)?: label 2 is 2: labels of 2 classes go from 0 to 1|holds no names"


def spoil_same_name(arrays: Arrays) -> str:
    arrays["classes"] = np.array(["cat", "dog", "cat"])
    return r"classes(.npy)? has 2 classes with the name cat"


SPOILERS = [value for name, value in dict(globals()).items() if name.startswith("spoil_")]


@every_kind
@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_arrays_are_refused_by_name_in_one_line(
    tmp_path: Path, arrays: Arrays, kind: str, spoil: Callable[[Arrays], str]
) -> None:
    culprit = spoil(arrays)
    if kind == "pt" and "classes" in arrays and arrays["classes"].dtype.kind == "U":
        arrays["classes"] = arrays["classes"].tolist()
    path = write(tmp_path, kind, arrays)
    with pytest.raises(InputError, match=culprit) as error:
        read_arrays(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_floats_are_looked_through_a_part_at_a_time(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tipping.data.pixels.CHECKED", 200)  # two images
    spoil_not_a_number(arrays)
    for kind in KINDS:
        with pytest.raises(InputError, match="image 7 has the pixel nan"):
            read_arrays(write(tmp_path, kind, arrays))


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def spoil_file_missing(path: Path) -> str:
    return r"cannot be read \(No such file or directory\): give another file"


def spoil_file_truncated(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-100])
    return "cannot be read .*: write it anew"


def spoil_file_text(path: Path) -> str:
    path.write_text("no arrays")
    return "cannot be read .*: write it anew"


def spoil_file_pickle(path: Path) -> str:
    path.write_bytes(pickle.dumps(Harm()))
    return "cannot be read .*: write it anew"


def spoil_file_objects(path: Path) -> str:
    harm = np.array([Harm()], object)
    if path.suffix == ".npz":
        np.savez(path, **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), harm))
    else:
        torch.save(dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), Harm()), path)
    return "cannot be read .*: write it anew"


def spoil_file_pipe(path: Path) -> str:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return "is no regular file"


FILES = [value for name, value in dict(globals()).items() if name.startswith("spoil_file")]


@pytest.mark.parametrize("kind", ["npz", "pt"])
@pytest.mark.parametrize("spoil", FILES)
def test_bad_files_are_refused_and_run_nothing(
    tmp_path: Path, arrays: Arrays, kind: str, spoil: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, kind, arrays)
    if spoil is spoil_file_missing:
        path.unlink()
    with pytest.raises(InputError, match=spoil(path)) as error:
        read_arrays(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("spoil", [spoil_file_truncated, spoil_file_text, spoil_file_pickle, spoil_file_pipe])
def test_bad_npy_files_are_refused_by_name(tmp_path: Path, arrays: Arrays, spoil: Callable[[Path], str]) -> None:
    path = write(tmp_path, "npy", arrays) / "train_images.npy"
    spoil(path)
    with pytest.raises(InputError, match=r"train_images.npy (cannot be mapped|is no regular file)") as error:
        read_arrays(path.parent)
    assert "\n" not in str(error.value)


def test_an_npy_file_of_objects_runs_nothing(tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "npy", arrays)
    np.save(path / "train_images.npy", np.array([Harm()], object))
    with pytest.raises(InputError, match=r"train_images.npy cannot be mapped"):
        read_arrays(path)
    assert not (tmp_path / "harmed").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a.h5 is neither a folder nor .npz nor .pt nor .pth: give arrays in one"):
        read_arrays(tmp_path / "a.h5")
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a.pt holds no dictionary: give one of train_images"):
        read_arrays(tmp_path / "a.pt")


def test_a_packed_npz_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tipping.data.arrays.LARGEST", 10_000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as parts:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            parts.writestr(f"{name}.npy", bytes(5000))
    with pytest.raises(InputError, match="its arrays have more than 10000 bytes"):
        read_arrays(tmp_path / "a.npz")
