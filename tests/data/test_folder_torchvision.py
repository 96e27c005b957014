from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_files import pixels, write_images
from PIL import Image
from torchvision_here import torchvision

from tipping.data.folder import read_image_folder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "crop"), [(None, None), (8, None), (17, None), (9, 7), (None, 6), (32, (24, 20))])
def test_a_folder_equals_torchvisions(tmp_path: Path, channels: int, size, crop) -> None:
    """With files of several formats, sizes and depths; none has a turn in its EXIF data, which torchvision ignores."""
    place = write_images(tmp_path, ["b", "a", "B", "ä"])
    same = size is None and crop is None
    for number, (suffix, shape) in enumerate([(".jpg", (12, 21)), (".webp", (40, 11)), (".bmp", (13, 13))]):
        shape = (12, 10) if same else shape
        Image.fromarray(pixels((*shape, 3), number)).save(place / "train" / "a" / f"x{suffix}")
        inner = place / "train" / "a" / "inner" / "more"
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(shape, number)).save(inner / f"x{suffix.upper()}")
    transforms = torchvision.transforms
    steps = [transforms.Grayscale()] if channels == 1 else []
    steps += [transforms.Resize(size)] if size else []
    steps += [transforms.CenterCrop(crop or size)] if crop or size else []
    steps.append(transforms.PILToTensor())
    for split, part in zip(read_image_folder(place, channels, size, crop)[:2], ("train", "test"), strict=True):
        theirs = torchvision.datasets.ImageFolder(place / part, transforms.Compose(steps))
        assert [str(split.images.path(index)) for index in range(len(split))] == [path for path, _ in theirs.samples]
        assert split.labels_N.tolist() == theirs.targets
        assert torch.equal(
            torch.stack([split.images[index] for index in range(len(split))]),
            torch.stack([image for image, _ in theirs]),
        )
