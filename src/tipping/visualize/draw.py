"""Pictures, drawn with matplotlib: portraits of relevant filters, explanations, and signals of two networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tipping.visualize.gallery import Explanation, Portrait
from tipping.visualize.side_by_side import Beside

SIDE, GAP = 1.05, 0.06  # inches of one small picture, and between two
TEXT, TOP = 1.9, 0.62  # inches for the text on the left, and for the headings
LONGEST = 24  # letters of a filter's name that are shown
SIGNED = "berlin"  # blue below zero, black at zero, red above


class Picture(NamedTuple):
    """A picture and its caption."""

    figure: Figure
    caption: str

    def pixels(self) -> np.ndarray:
        """Return the pixels of the picture, (rows, columns, RGBA), in bytes."""
        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())


def draw_pictures(portraits: Sequence[Portrait], explanations: Sequence[Explanation]) -> dict[str, Picture]:
    """Draw a picture for each class of portraits, and one for each explanation; return the pictures by name."""
    drawn: dict[str, Picture] = {}
    by_class: dict[int, list[Portrait]] = {}
    for portrait in portraits:
        by_class.setdefault(portrait.label, []).append(portrait)
    for label, some in by_class.items():
        filters = "; ".join(f"{one.name} ({one.weight:+.2f})" for one in some)
        drawn[f"class_{label}"] = Picture(draw_portraits(some), f"class {label}: {filters}")
    for number, one in enumerate(explanations):
        caption = f"{_classes(one)}: {'; '.join(one.names) or 'no relevant filter'}"
        drawn[f"image_{number}"] = Picture(draw_explanation(one), caption)
    return drawn


def picture_beside(both: Beside, names: tuple[str, str]) -> Picture:
    """Draw the signals of two networks side by side, under the names of the networks."""
    return Picture(draw_beside(both, names), f"{names[0]} and {names[1]}")


def draw_portraits(portraits: Sequence[Portrait]) -> Figure:
    """Draw the relevant filters of one class.

    For each filter, a row shows the average of its crops and the crops. A row for each rule below shows the signals in
    the crops. Crops are shown from 0 to 1. The signals of a row share one scale, on which zero is black.
    """
    count, rules = max(len(portrait.crops_KCHW) for portrait in portraits), list(portraits[0].signals)
    block = (1 + len(rules)) * (SIDE + GAP) + 2 * GAP  # inches of one filter
    page = Page(TEXT + (1 + count) * (SIDE + GAP), TOP + block * len(portraits))
    page.text(GAP, 0.2, f"class {portraits[0].label}", fontsize=12)
    for column, head in enumerate(("average", "largest responses")):
        page.text(TEXT + column * (SIDE + GAP), TOP - 0.12, head)
    for number, portrait in enumerate(portraits):
        top = TOP + number * block
        page.text(GAP, top + SIDE / 2, _caption(portrait))
        for column, picture_CHW in enumerate((portrait.average_CHW, *portrait.crops_KCHW)):
            _image(page.axes(TEXT + column * (SIDE + GAP), top), picture_CHW)
        for row, (rule, signals_KCHW) in enumerate(portrait.signals.items(), 1):
            page.text(TEXT + SIDE, top + row * (SIDE + GAP) + SIDE / 2, rule, ha="right", color="dimgray")
            largest = float(np.abs(signals_KCHW.sum(1)).max()) or 1.0
            for column, signal_CHW in enumerate(signals_KCHW, 1):
                axes = page.axes(TEXT + column * (SIDE + GAP), top + row * (SIDE + GAP))
                axes.imshow(signal_CHW.sum(0), cmap=SIGNED, vmin=-largest, vmax=largest)
    return page.figure


class Page:
    """A figure on which things are placed in inches from its left and from its top."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=100)

    def axes(self, x: float, y: float) -> Any:
        """Add axes for one small picture, and return them; x and y are those of the upper left corner."""
        width, height = self.figure.get_size_inches()
        axes = self.figure.add_axes((x / width, 1 - (y + SIDE) / height, SIDE / width, SIDE / height))
        axes.set_axis_off()
        return axes

    def text(self, x: float, y: float, text: str, fontsize: float = 9, **style: Any) -> None:
        """Write text that starts at x, with its middle at height y."""
        width, height = self.figure.get_size_inches()
        self.figure.text(x / width, 1 - y / height, text, va="center", fontsize=fontsize, **style)


def _caption(portrait: Portrait) -> str:
    change = round(-100 * portrait.drop, 2) + 0.0  # never -0.00
    return f"{_short(portrait.name)}\nweight {portrait.weight:+.2f}\nwithout it: {change:+.2f} points"


def _short(name: str) -> str:
    """Return the end of a long name."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def _classes(one: Explanation) -> str:
    """Return in words the class of an image, if it is known, and the class that the network predicts."""
    return f"taken for class {one.predicted}" if one.label is None else f"class {one.label}, taken for {one.predicted}"


def draw_explanation(explanation: Explanation) -> Figure:
    """Draw an image, then the image under the heat map of each filter that contributes most, and under all of them."""
    figure = Figure(figsize=(1.9 * (2 + len(explanation.heats_THW)), 2.35), dpi=100)
    grid = figure.subplots(1, 2 + len(explanation.heats_THW), squeeze=False)[0]
    figure.subplots_adjust(left=0.01, right=0.99, top=0.8, bottom=0.01, wspace=0.05)
    pairs = zip(explanation.names, explanation.contributions, strict=True)
    titles = [_classes(explanation), "together"]
    titles[1:1] = [f"{_short(name)}\ncontributes {share:.2f}" for name, share in pairs]
    heats = [None, *explanation.heats_THW, explanation.combined_HW]
    for axes, title, heat_HW in zip(grid, titles, heats, strict=True):
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        _image(axes, explanation.image_CHW)
        if heat_HW is not None:
            axes.imshow(heat_HW, cmap="inferno", vmin=0, vmax=1, alpha=0.7)
    return figure


def draw_beside(both: Beside, networks: tuple[str, str]) -> Figure:
    """Draw the signals of the same filters of two networks, a row for each filter, two columns for each rule."""
    page = Page(TEXT + (1 + 2 * len(both.first)) * (SIDE + GAP), TOP + len(both.names) * (SIDE + GAP))
    for number, (rule, alike) in enumerate(both.similarity.items()):
        x = TEXT + (1 + 2 * number) * (SIDE + GAP)
        page.text(x, 0.2, f"{rule}: {'none' if alike is None else f'rank correlation {alike:.2f}'}")
        for column, network in enumerate(networks):
            page.text(x + column * (SIDE + GAP), 0.48, network, color="dimgray")
    for row, name in enumerate(both.names):
        top = TOP + row * (SIDE + GAP)
        page.text(GAP, top + SIDE / 2, _short(name))
        _image(page.axes(TEXT, top), both.images_BCHW[row])
        pairs = [(both.first[rule][row], both.second[rule][row]) for rule in both.first]
        for column, signals_CHW in enumerate((one for pair in pairs for one in pair), 1):
            largest = float(np.abs(signals_CHW.sum(0)).max()) or 1.0
            axes = page.axes(TEXT + column * (SIDE + GAP), top)
            axes.imshow(signals_CHW.sum(0), cmap=SIGNED, vmin=-largest, vmax=largest)
    return page.figure


def _image(axes: Any, image_CHW: np.ndarray) -> None:
    """Draw an image with values from 0 to 1, in grey or in colours."""
    if len(image_CHW) == 3:
        axes.imshow(image_CHW.transpose(1, 2, 0).clip(0, 1))
    else:
        axes.imshow(image_CHW.mean(0), cmap="gray", vmin=0, vmax=1)
