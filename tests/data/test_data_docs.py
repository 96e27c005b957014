"""The functions that docs/data.md shows: each is called, and gives what a plain reading gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import write_images
from PIL import Image
from running import ROOT

from tipping.data.datasets import read_datasets
from tipping.data.folder import read_image_folder
from tipping.data.labelled import Labelled


def shown(word: str) -> Callable[..., Any]:
    """The function `make` of the block that has a word in it."""
    text = (ROOT / "docs" / "data.md").read_text()
    (block,) = (body for body in re.findall(r"```python\n(.*?)```", text, re.S) if word in body)
    names: dict[str, Any] = {}
    exec(compile(block, "data.md", "exec"), names)
    return names["make"]


def stacked(split: Labelled) -> torch.Tensor:
    return torch.stack([split.images[index] for index in range(len(split))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", size=(70, 90))


def test_the_example_of_torchvision(folder: Path) -> None:
    pytest.importorskip("torchvision_here")
    read, plain = read_datasets(shown("torchvision")(folder), "my_images.make"), read_image_folder(folder, size=64)
    assert read[2] == plain[2]
    for one, other in zip(read[:2], plain[:2], strict=True):
        assert torch.equal(stacked(one), stacked(other))
        assert torch.equal(one.labels_N, other.labels_N)


def test_the_example_of_hugging_face(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("huggingface_here", exc_type=ImportError).datasets
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    read, plain = read_datasets(shown("load_dataset")(str(folder)), "my_images.make"), read_image_folder(folder)
    assert read[2] == plain[2]
    for one, other in zip(read[:2], plain[:2], strict=True):
        assert torch.equal(stacked(one), stacked(other))
        assert torch.equal(one.labels_N, other.labels_N)


def test_the_example_of_ones_own() -> None:
    train, test, classes = read_datasets(shown("Squares")(), "my_images.make")
    assert classes == ("small", "large")
    assert train.labels_N.tolist() == [0] * 7 + [1] * 7
    assert [int((image > 0).sum()) for image in stacked(test)] == [3 * side**2 for side in range(3, 14)]


def test_sixteen_bits_are_white_elsewhere_and_not_here(tmp_path: Path) -> None:
    """What the page says of torchvision's ImageFolder, whose loader converts with Pillow alone."""
    place = write_images(tmp_path)
    grey = Image.fromarray(torch.full((12, 10), 30_000, dtype=torch.uint16).numpy())
    grey.save(place / "train" / "cat" / "0.png")
    assert Image.open(place / "train" / "cat" / "0.png").convert("RGB").getextrema() == ((255, 255),) * 3
    assert read_image_folder(place)[0].images[0].unique().tolist() == [30_000 // 256]
