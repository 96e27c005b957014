from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_files import write_images
from torch.utils.data import random_split
from torchvision_here import torchvision

from tipping.data.datasets import read_datasets
from tipping.data.folder import read_image_folder
from tipping.data.labelled import Labelled
from tipping.errors import InputError

datasets, transforms = torchvision.datasets, torchvision.transforms


def stacked(split: Labelled) -> torch.Tensor:
    return torch.stack([split.images[index] for index in range(len(split))])


@pytest.mark.parametrize("transform", [None, transforms.PILToTensor(), transforms.ToTensor()])
def test_an_image_folder_of_torchvision_is_the_folder_itself(tmp_path: Path, transform) -> None:
    place = write_images(tmp_path)
    theirs = tuple(datasets.ImageFolder(place / part, transform) for part in ("train", "test"))
    ours = read_image_folder(place)
    read = read_datasets(theirs, "my.make")
    assert read[2] == ours[2] == ("cat", "dog", "emu")
    for one, other in zip(read[:2], ours[:2], strict=True):
        factor = 255 if isinstance(transform, transforms.ToTensor) else 1
        assert torch.equal((stacked(one) * factor).round().to(torch.uint8), stacked(other))
        assert torch.equal(one.labels_N, other.labels_N)


def test_labels_are_those_of_the_items_where_they_are_changed(tmp_path: Path) -> None:
    """`targets` holds the labels before they are changed."""
    theirs = datasets.ImageFolder(write_images(tmp_path) / "train", target_transform=lambda label: 2 - label)
    train, *_ = read_datasets((theirs, theirs), "my.make")
    assert train.labels_N.tolist() == [2] * 4 + [1] * 4 + [0] * 4


def test_fake_data_and_parts_of_them_are_read() -> None:
    fake = datasets.FakeData(30, (3, 8, 8), num_classes=3, transform=transforms.PILToTensor())
    parts = random_split(fake, [20, 10], torch.Generator().manual_seed(0))
    train, test, classes = read_datasets(parts, "my.make")
    assert classes == ("0", "1", "2")
    for split, part in ((train, parts[0]), (test, parts[1])):
        assert torch.equal(stacked(split), torch.stack([image for image, _ in part]))
        assert split.labels_N.tolist() == [int(label) for _, label in part]


def test_normalised_images_are_refused_with_the_remedy() -> None:
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.25)])
    fake = datasets.FakeData(9, (3, 8, 8), num_classes=2, transform=change)
    train, *_ = read_datasets((fake, fake), "my.make")
    with pytest.raises(InputError, match=r"\(training\): image 0 has the pixel .*: leave out Normalize, or give uint8"):
        stacked(train)
