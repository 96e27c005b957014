"""The figure of docs/visualize.md on strided layers, and its numbers: python sweeps/grid.py (half a minute on 2 cores).

A network of two convolutions of stride 2, trained for one epoch on MNIST; what eight filters of the second send back to
the images they respond to most, with resampling and without.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from tipping import data
from tipping.network import Filters
from tipping.network.training import train
from tipping.selection import collect
from tipping.visualize import grid_energy, look, strongest_images

OUT = Path(__file__).parents[1] / "docs" / "visualize_grid.png"
TRAINER: dict[str, Any] = {"max_epochs": 1, "batch_size": 128, "learning_rate": 1e-3}
FILTERS = 8


def network() -> nn.Module:
    """Make an untrained network of two strided convolutions and a dense layer."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 10))
    return model


def main() -> None:
    """Train the network, print the grid energies, and save the figure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    mnist = data.load("mnist", os.environ.get("TIPPING_DATA", "data"))
    model = network()
    train(model, mnist, **TRAINER, seed=0)
    filters, few = Filters.at(model, {"0": "1", "2": "3"}, classes=10), mnist.train[:10_000]
    images_KR, _ = strongest_images(filters, few, 1)
    live = (~collect(filters, few).dead_F()).nonzero()[0].tolist()
    chosen = [response for response in live if response >= 16][:FILTERS]
    images = few[images_KR[0, chosen]].images_NCHW
    seen = [(("2", "3"), response - 16) for response in chosen]
    rows = {"the image": images}
    for resample in ("none", "nearest"):
        signals = look(model, images, seen, rule="guided", resample=resample).signals_BCHW
        energy = grid_energy(signals, 4)
        rows[f"resample={resample}: grid energy {energy.mean():.3f}"] = signals
        print(f"resample={resample}: {energy.mean():.4f} ({energy.min():.4f} to {energy.max():.4f})")
    figure = Figure(figsize=(1.05 * FILTERS, 3.9), dpi=100)
    grid = figure.subplots(len(rows), FILTERS)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.01, wspace=0.06, hspace=0.25)
    for row, (title, pictures) in zip(grid, rows.items(), strict=True):
        row[0].set_title(title, fontsize=9, loc="left")
        for axes, picture in zip(row, pictures[:, 0], strict=True):
            axes.set_axis_off()
            largest = float(picture.abs().max())
            signed = title != "the image"
            axes.imshow(picture, cmap="berlin" if signed else "gray", vmin=-largest if signed else 0, vmax=largest)
    figure.savefig(OUT)


if __name__ == "__main__":
    main()
