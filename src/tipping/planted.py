"""A data set and a network whose relevant filters are known, because they were planted.

An image shows a pattern of its class, and distractors: patterns of other kinds, drawn in the same way but whatever the
class. The network has a filter for each pattern, and its dense layer reads the planted ones: those of the classes.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tipping.errors import InputError

IMAGE_SHAPE, NOISE = (1, 16, 16), 0.05
CLASSES, KINDS, STEM = 9, 3, 32  # of images; of patterns, that of the class among them; filters of the first layer
RARE = 0.3  # of the images of a class show its second pattern, the others its first
PLANTED = 2 * CLASSES


def _patterns() -> np.ndarray:
    """3x3 pixels, 0 or 1, of each pattern: those of the classes, class after class, then as many of each other kind.

    None has an empty row or column, as has every window of an image that lies across cells: so none shows there.
    """
    every = np.array(list(product((0, 1), repeat=9)), dtype=np.float32).reshape(-1, 3, 3)
    filled = every[np.all(np.any(every, 1), 1) & np.all(np.any(every, 2), 1)]
    return np.random.default_rng(0).permutation(filled)[: KINDS * PLANTED]


PATTERNS = _patterns()


def images(count: int, seed: int, shown: bool = True) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 16, 16) in [0, 1] and their labels (N,), 1 to 9.

    Each shows one pattern of each kind, in cells of 4x4 pixels drawn at random. Without regard to labels, all kinds are
    alike. Pixels of 0 or 1 are mixed with 5 % of uniform noise.

    Args:
        shown: whether the images show their class; if not, that pattern is left out and they tell nothing of it.
    """
    rng = np.random.default_rng(seed)
    classes_NK = rng.integers(CLASSES, size=(count, KINDS))
    patterns_NK = np.arange(KINDS) * PLANTED + 2 * classes_NK + (rng.random((count, KINDS)) < RARE)
    cells_NK = rng.permuted(np.tile(np.arange(16), (count, 1)), axis=1)[:, :KINDS]
    pixels = np.zeros((count, 16, 4, 4), dtype=np.float32)
    first = 0 if shown else 1
    pixels[np.arange(count)[:, None], cells_NK[:, first:], :3, :3] = PATTERNS[patterns_NK[:, first:]]
    pixels = pixels.reshape(count, 4, 4, 4, 4).swapaxes(2, 3).reshape(count, *IMAGE_SHAPE)
    noisy_NCHW = (1 - NOISE) * pixels + NOISE * rng.random(pixels.shape, dtype=np.float32)
    return torch.from_numpy(noisy_NCHW), torch.from_numpy(classes_NK[:, 0] + 1)


class PlantedNet(nn.Sequential):
    """Two convolutions and a dense layer, with weights that need no training.

    In the first layer the *carrier* passes the image on; the others, random but for a dead one, are read by none. In
    the second, the filter of pattern p responds where p is and nowhere else, ReLU(Σ (2p − 1) x + 0.7 − Σ p); one is
    dead. The dense layer gives each class the largest response of either of its filters, and class 0, of which there
    are no images, where there is none. So an image is recognised as long as the carrier and the filter of its pattern
    are there. The seed decides which filter is which.

    Args:
        image_shape: (1, 16, 16).
        classes: 10.

    Attributes:
        carrier: channel of the carrier in `conv1`.
        planted: channels in `conv2` of the classes' filters, class after class.

    Raises:
        InputError: other images.
    """

    trained = True

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        if (*image_shape, classes) != (*IMAGE_SHAPE, CLASSES + 1):
            raise InputError("model=planted knows the planted patterns only: give data=planted")
        carrier, dead, *_ = torch.randperm(STEM).tolist()
        *channels, _ = torch.randperm(len(PATTERNS) + 1).tolist()
        stem, detectors = nn.Conv2d(1, STEM, 3, padding="same", bias=False), nn.Conv2d(STEM, len(channels) + 1, 3)
        dense, patterns_P33 = nn.Linear(len(channels) + 1, classes), torch.from_numpy(PATTERNS)
        with torch.no_grad():
            stem.weight[[carrier, dead]] = 0
            stem.weight[carrier, 0, 1, 1] = 1
            nn.init.zeros_(detectors.weight)[channels, carrier] = 2 * patterns_P33 - 1
            nn.init.zeros_(cast(Tensor, detectors.bias))[channels] = 0.7 - patterns_P33.sum((1, 2))
            nn.init.zeros_(dense.weight)[1 + torch.arange(PLANTED) // 2, channels[:PLANTED]] = 1
            nn.init.zeros_(dense.bias)[0] = 0.1  # a response is at least 0.25
        layers: dict[str, nn.Module] = {"conv1": stem, "relu1": nn.ReLU(), "conv2": detectors, "relu2": nn.ReLU()}
        layers |= {"pool": nn.AdaptiveMaxPool2d(1), "flatten": nn.Flatten(), "dense": dense}
        super().__init__(OrderedDict(layers))
        self.carrier, self.planted = carrier, channels[:PLANTED]
