"""The figures of docs/visualize.md in colours: python sweeps/colours.py (a minute on 2 cores).

Four classes of shapes of any colour on a coloured ground, 48 x 48 pixels, and a network of ReLU6 that takes them
normalised. Drawn are one class and one image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import tipping
from tipping.data import Dataset, Normalisation, Split
from tipping.network.training import train

DOCS = Path(__file__).parents[1] / "docs"
CLASSES = ("disc", "ring", "stripes", "cross")
SIDE, MU = 48, 20.0


def shapes(count: int, seed: int) -> Split:
    """Make images of shapes, in bytes, with their normalisation."""
    draw = torch.Generator().manual_seed(seed)
    ground_N3HW = functional.interpolate(torch.rand(count, 3, 6, 6, generator=draw), (SIDE, SIDE), mode="bicubic")
    images_NCHW, labels_N = 0.6 * ground_N3HW.clamp(0, 1), torch.arange(count) % len(CLASSES)
    grid_HW = torch.arange(SIDE) / SIDE
    for image_CHW, label in zip(images_NCHW, labels_N.tolist(), strict=True):
        colour_C, (row, column), size = (torch.rand(sides, generator=draw) for sides in (3, 2, 1))
        reach = 0.12 + 0.12 * size
        y_HW, x_HW = ((grid_HW - 0.3 - 0.4 * at) / reach for at in (row, column))
        image_CHW[:, shape(label, y_HW[:, None], x_HW[None])] = (colour_C / colour_C.max())[:, None]
    mean, std = (0.25, 0.25, 0.25), (0.2, 0.2, 0.2)
    return Split((255 * images_NCHW).round().byte(), labels_N, Normalisation(mean, std))


def shape(label: int, y_HW: Tensor, x_HW: Tensor) -> Tensor:
    """Return the pixels of a class's shape, of size 1 around 0."""
    far_HW = torch.maximum(y_HW.abs(), x_HW.abs())
    return (
        y_HW.square() + x_HW.square() < 1,
        (far_HW < 1) & (far_HW > 0.6),
        (far_HW < 1) & ((5 * x_HW).floor() % 2 == 0),
        (far_HW < 1) & (torch.minimum(y_HW.abs(), x_HW.abs()) < 0.25),
    )[label]


def network() -> nn.Module:
    """Make an untrained network of four convolutions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, out, stride in ((3, 8, 2), (8, 16, 2), (16, 16, 1), (16, 24, 2)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, len(CLASSES)))


def main() -> None:
    """Train the network, print its accuracy, and save the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    dataset = Dataset("shapes", shapes(2000, seed=0), shapes(400, seed=1), CLASSES)
    model = network()
    train(model, dataset, max_epochs=10, batch_size=32, learning_rate=1e-3, seed=0)
    model.eval()
    with torch.no_grad():
        right_N = model(dataset.test.images_NCHW).argmax(1) == dataset.test.labels_N
    print(f"accuracy on test images: {right_N.double().mean():.4f}")
    relevant = tipping.relevant_filters(model, dataset.train, MU, classes=CLASSES)
    pictures = tipping.gallery(relevant, dataset.train, images=5).pictures()
    (DOCS / "visualize_colour_class.png").write_bytes(pictures["class_1"].png())
    pictures = tipping.explain(relevant, dataset.test[1:2]).pictures()
    (DOCS / "visualize_colour_image.png").write_bytes(pictures["image_0"].png())


if __name__ == "__main__":
    main()
