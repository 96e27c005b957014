"""Folders of made colour images, of any number and size: ``python benchmarks/pictures.py FOLDER --images 10000``.

Ten classes: five shapes, each in a warm and in a cold hue, at random places and sizes over a noisy background. A tenth
of the images are test images. The same arguments give the same pixels.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import trange

SHAPES = ("disc", "square", "triangle", "cross", "ring")
HUES = {"warm": (0.95, 1.15), "cold": (0.45, 0.70)}  # ranges, of which 1 is red again
CLASSES = [f"{hue} {shape}" for shape in SHAPES for hue in HUES]


def inside(shape: str, y_HW: np.ndarray, x_HW: np.ndarray) -> np.ndarray:
    """Return which pixels a shape covers: boolean (H, W).

    Args:
        y_HW, x_HW: each pixel's place, from -1 to 1 within the shape's size.
    """
    distance_HW, largest_HW = np.hypot(y_HW, x_HW), np.maximum(abs(y_HW), abs(x_HW))
    covered: dict[str, np.ndarray] = {
        "disc": distance_HW <= 1,
        "square": largest_HW <= 0.85,
        "triangle": (y_HW <= 0.8) & (y_HW >= 2 * abs(x_HW) - 0.9),
        "cross": (largest_HW <= 1) & (np.minimum(abs(y_HW), abs(x_HW)) <= 0.3),
        "ring": (distance_HW <= 1) & (distance_HW >= 0.6),
    }
    return covered[shape]


def picture(label: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return an image of a class: bytes (side, side, 3)."""
    hue, shape = CLASSES[label].split()
    radius = side * rng.uniform(0.2, 0.4)
    middle_2 = rng.uniform(radius * 0.9, side - radius * 0.9, 2)
    y_HW, x_HW = (np.mgrid[:side, :side] - middle_2[:, None, None]) / radius
    ground, colour = (
        np.array(colorsys.hsv_to_rgb(rng.uniform(*hues) % 1, rng.uniform(*saturations), rng.uniform(*values)))
        for hues, saturations, values in (((0, 1), (0, 0.4), (0.2, 0.8)), (HUES[hue], (0.6, 1), (0.5, 1)))
    )
    image_HWC = np.where(inside(shape, y_HW, x_HW)[..., None], colour, ground)
    noisy_HWC = image_HWC + rng.normal(0, 0.08, image_HWC.shape)
    return (255 * noisy_HWC.clip(0, 1)).round().astype(np.uint8)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--suffix", default=".png", help=".png or .jpg")
    arguments = parser.parse_args()
    rng, tests = np.random.default_rng(0), arguments.images // 10
    for number in trange(arguments.images, leave=False, disable=None):
        label = number % len(CLASSES)
        folder = arguments.folder / ("test" if number < tests else "train") / CLASSES[label].replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(label, arguments.side, rng)).save(folder / f"{number:07}{arguments.suffix}")


if __name__ == "__main__":
    main()
