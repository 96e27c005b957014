"""Portraits and explanations as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tipping.visualize.beside import Beside
from tipping.visualize.gallery import Explanation, Portrait

SIDE = 1.05  # inches of one small picture
LONGEST = 14  # letters of a layer's name
SIGNED = "berlin"  # blue below zero, black at zero, red above


def draw_portraits(portraits: Sequence[Portrait]) -> Figure:
    """The relevant filters of one class, one a row: the average of its crops, the crops, and what it sees in them.

    Crops are shown from 0 to 1; signals of one row on one scale, whose middle, black, is zero.
    """
    count = max(len(portrait.crops_KCHW) for portrait in portraits)
    figure = Figure(figsize=(2.0 + SIDE * (2 * count + 1), 0.75 + SIDE * 1.12 * len(portraits)), dpi=100)
    grid = figure.subplots(len(portraits), 2 * count + 1, squeeze=False)
    left, top = 1.9 / figure.get_figwidth(), 1 - 0.62 / figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.995, top=top, bottom=0.01, wspace=0.06, hspace=0.12)
    for row, portrait in zip(grid, portraits, strict=True):
        for axes in row:
            axes.set_axis_off()
        _image(row[0], portrait.average_CHW)
        largest = float(np.abs(portrait.signals_KCHW.sum(1)).max()) or 1.0
        for k, (crop_CHW, signal_CHW) in enumerate(zip(portrait.crops_KCHW, portrait.signals_KCHW, strict=True)):
            _image(row[1 + k], crop_CHW)
            row[1 + count + k].imshow(signal_CHW.sum(0), cmap=SIGNED, vmin=-largest, vmax=largest)
        figure.text(0.1 / figure.get_figwidth(), _middle(row[0]), _caption(portrait), va="center", fontsize=9)
    heads = {0: "average", 1: "largest responses", 1 + count: "what it sees there"}
    for column, head in heads.items():
        place = grid[0][column].get_position()
        figure.text(place.x0, place.y1 + 0.06 / figure.get_figheight(), head, va="bottom", fontsize=9)
    figure.text(
        0.1 / figure.get_figwidth(),
        1 - 0.2 / figure.get_figheight(),
        f"class {portraits[0].label}",
        va="center",
        fontsize=12,
    )
    return figure


def _caption(portrait: Portrait) -> str:
    change = round(-100 * portrait.drop, 2) + 0.0  # never -0.00
    name = f"{_short(portrait.layer)}, filter {portrait.channel}"
    return f"{name}\nweight {portrait.weight:+.2f}\nwithout it: {change:+.2f} points"


def _short(layer: str) -> str:
    """The end of a long name."""
    return layer if len(layer) <= LONGEST else f"…{layer[1 - LONGEST :]}"


def draw_explanation(explanation: Explanation) -> Figure:
    """An image, over it the heat map of each filter that contributes most to its class, and all of them together."""
    figure = Figure(figsize=(1.9 * (2 + len(explanation.heats_THW)), 2.35), dpi=100)
    grid = figure.subplots(1, 2 + len(explanation.heats_THW), squeeze=False)[0]
    figure.subplots_adjust(left=0.01, right=0.99, top=0.8, bottom=0.01, wspace=0.05)
    pairs = zip(explanation.filters, explanation.contributions, strict=True)
    titles = [f"class {explanation.label}, taken for {explanation.predicted}", "together"]
    titles[1:1] = [f"{_short(layer)}, filter {channel}\n{share:.2f}" for (layer, channel), share in pairs]
    heats = [None, *explanation.heats_THW, explanation.combined_HW]
    for axes, title, heat_HW in zip(grid, titles, heats, strict=True):
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        _image(axes, explanation.image_CHW)
        if heat_HW is not None:
            axes.imshow(heat_HW, cmap="inferno", vmin=0, vmax=1, alpha=0.7)
    return figure


def draw_beside(both: Beside, names: tuple[str, str]) -> Figure:
    """The signals of the same filters of two networks, a row for each filter, two columns for each rule."""
    count = len(both.filters)
    figure = Figure(figsize=(1.7 + SIDE * (1 + 2 * len(both.first)), 1.0 + SIDE * 1.06 * count), dpi=100)
    grid = figure.subplots(count, 1 + 2 * len(both.first), squeeze=False)
    left, top = 1.6 / figure.get_figwidth(), 1 - 0.9 / figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.995, top=top, bottom=0.01, wspace=0.06, hspace=0.06)
    for b, (row, (layer, channel)) in enumerate(zip(grid, both.filters, strict=True)):
        for axes in row:
            axes.set_axis_off()
        _image(row[0], both.images_BCHW[b])
        figure.text(
            0.1 / figure.get_figwidth(), _middle(row[0]), f"{_short(layer)}, filter {channel}", va="center", fontsize=9
        )
        for column, signals in enumerate(s for rule in both.first for s in (both.first[rule][b], both.second[rule][b])):
            largest = float(np.abs(signals.sum(0)).max()) or 1.0
            row[1 + column].imshow(signals.sum(0), cmap=SIGNED, vmin=-largest, vmax=largest)
    for number, (rule, alike) in enumerate(both.similarity.items()):
        for column, name in enumerate(names):
            axes = grid[0][1 + 2 * number + column]
            head = f"{rule}: {'none' if alike is None else f'{alike:.2f}'}\n{name}" if column == 0 else f"\n{name}"
            axes.set_title(head, fontsize=9, loc="left")
    return figure


def _image(axes: Any, image_CHW: np.ndarray) -> None:
    """Draw an image with values from 0 to 1, in grey or in colours."""
    if len(image_CHW) == 3:
        axes.imshow(image_CHW.transpose(1, 2, 0).clip(0, 1))
    else:
        axes.imshow(image_CHW.mean(0), cmap="gray", vmin=0, vmax=1)


def _middle(axes: Any) -> float:
    place = axes.get_position()
    middle: float = (place.y0 + place.y1) / 2
    return middle
