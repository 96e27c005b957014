"""Folders of small image files, as people have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"train": 4, "test": 2}


def pixels(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random bytes, smooth enough that resizing them makes no single value."""
    coarse = np.random.default_rng(seed).integers(256, size=shape)
    return ((coarse + np.roll(coarse, 1, 0) + np.roll(coarse, 1, 1)) // 3).astype(np.uint8)


def write_images(
    folder: Path,
    classes: Sequence[str] = ("cat", "dog", "emu"),
    counts: Mapping[str, int] = COUNTS,
    size: tuple[int, int] = (12, 10),
    suffix: str = ".png",
) -> Path:
    """Write colour images of (height, width): each class has a hue of its own, and noise.

    Args:
        counts: how many images a class has in each part; "" stands for the folder itself.
    """
    for part, count in counts.items():
        for label, name in enumerate(classes):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            hue = np.array(((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))[label % 4])
            for number in range(count):
                noise = pixels((*size, 3), seed=1000 * label + 100 * len(part) + number) // 4
                Image.fromarray((hue * 3 // 4 + noise).astype(np.uint8)).save(place / f"{number}{suffix}")
    return folder
