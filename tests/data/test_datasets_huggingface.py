from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_here import datasets
from image_files import write_images
from PIL import Image

from tipping.data.datasets import read_datasets
from tipping.data.folder import read_image_folder
from tipping.data.labelled import Labelled
from tipping.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return write_images(tmp_path / "animals")


@pytest.fixture
def loaded(folder: Path, tmp_path: Path):
    return datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))


def stacked(split: Labelled) -> torch.Tensor:
    return torch.stack([split.images[index] for index in range(len(split))])


def test_an_image_folder_of_hugging_face_is_the_folder_itself(folder: Path, loaded) -> None:
    read, ours = read_datasets(loaded, "my.make"), read_image_folder(folder)
    assert read[2] == ours[2] == ("cat", "dog", "emu")
    for one, other in zip(read[:2], ours[:2], strict=True):
        assert torch.equal(stacked(one), stacked(other))
        assert torch.equal(one.labels_N, other.labels_N)


def test_labels_are_read_with_one_image_of_each_class(loaded) -> None:
    read = []

    def watch(rows: dict) -> dict:
        read.append(len(rows["image"]))
        return rows

    train, *_ = read_datasets({part: split.with_transform(watch) for part, split in loaded.items()}, "my.make")
    assert train.labels_N.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert read == [1] * 6


def test_labels_are_read_from_their_column_but_a_transform_counts(folder: Path, loaded) -> None:
    def change(rows: dict) -> dict:
        shape = (3, 5, 4)
        pixels = [np.resize(np.asarray(image), shape).astype(np.uint8) for image in rows["image"]]
        return {"image": pixels, "label": [2 - label for label in rows["label"]]}

    changed = {part: split.with_transform(change) for part, split in loaded.items()}
    train, _, classes = read_datasets(changed, "my.make")
    assert train.labels_N.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    assert stacked(train).shape == (12, 3, 5, 4)
    assert classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("key", ["label", "labels", "fine_label"])
@pytest.mark.parametrize("image", ["image", "img"])
def test_the_usual_names_of_columns_are_known(image: str, key: str) -> None:
    rows = {
        image: [Image.new("L", (4, 5), shade) for shade in (10, 20, 30, 40)],
        "coarse_label": [0] * 4,
        key: [0, 1] * 2,
    }
    features = {
        image: datasets.Image(),
        "coarse_label": datasets.Value("int64"),
        key: datasets.ClassLabel(names=["a", "b"]),
    }
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    train, _, classes = read_datasets((made, made), "my.make")
    assert classes == ("a", "b")
    assert train.labels_N.tolist() == [0, 1, 0, 1]
    assert stacked(train)[:, 0, 0, 0].tolist() == [10, 20, 30, 40]


def test_images_of_another_kind_and_streams_are_refused(loaded) -> None:
    streamed = {part: split.to_iterable_dataset() for part, split in loaded.items()}
    with pytest.raises(InputError, match=r"\(training\) is a IterableDataset, whose images cannot be read"):
        read_datasets(streamed, "my.make")
    with pytest.raises(InputError, match="gives a dictionary with train: give train and one of test, val"):
        read_datasets(datasets.DatasetDict({"train": loaded["train"]}), "my.make")
