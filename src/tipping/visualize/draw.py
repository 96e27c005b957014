"""Pictures, drawn with matplotlib: portraits of relevant filters, explanations, and signals of two networks."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tipping.visualize.colours import heated_pixels, image_pixels, remark_of, signal_pixels
from tipping.visualize.gallery import Portrait, class_name
from tipping.visualize.lettering import DOTS, INCH, SPACING, Lines, drawn_class_name, fitted
from tipping.visualize.reasons import Explanation
from tipping.visualize.side_by_side import Beside

SIDE, GAP = 1.05, 0.06  # inches of one small picture, and between two
WIDE = 1.84  # inches of one picture of an explanation
TEXT, TOP = 1.9, 0.62  # inches for the text on the left, and for the headings
LARGEST = 20_000_000  # pixels of a picture, whose other filters are left out


@dataclass(frozen=True)
class Picture:
    """A picture and its caption."""

    figure: Figure
    caption: str

    @cached_property
    def pixels(self) -> np.ndarray:
        """The pixels of the picture, (rows, columns, RGBA), in bytes."""
        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    def png(self) -> bytes:
        """Return the picture as the content of a PNG file."""
        content = io.BytesIO()
        Image.fromarray(self.pixels).convert("RGB").save(content, "png")
        return content.getvalue()


def draw_pictures(
    portraits: Sequence[Portrait], explanations: Sequence[Explanation], classes: Sequence[str] | None = None
) -> dict[str, Picture]:
    """Draw a picture for each class of portraits, and one for each explanation; return the pictures by name.

    Args:
        portraits: the portraits.
        explanations: the explanations.
        classes: the names of the classes; by default, their numbers.
    """
    drawn: dict[str, Picture] = {}
    by_class: dict[int, list[Portrait]] = {}
    for portrait in portraits:
        by_class.setdefault(portrait.label, []).append(portrait)
    for label, some in by_class.items():
        filters = "; ".join(f"{one.name} ({one.weight:+.2f})" for one in some)
        shown = some[: _most(some[0])]
        parts = [f"{class_name(label, classes)}: {filters}", remark_of(some[0].crops_KCHW.shape[1])]
        parts.append(f"the first {len(shown)} are drawn" if len(shown) < len(some) else "")
        drawn[f"class_{label}"] = Picture(draw_portraits(shown, classes), "; ".join(filter(None, parts)))
    for number, one in enumerate(explanations):
        words = _in_words(one, partial(class_name, classes=classes))
        parts = [f"{words}: {'; '.join(one.names) or 'no relevant filter'}", remark_of(len(one.image_CHW))]
        drawn[f"image_{number}"] = Picture(draw_explanation(one, classes), "; ".join(filter(None, parts)))
    return drawn


def picture_beside(both: Beside, names: tuple[str, str]) -> Picture:
    """Draw the signals of two networks side by side, under the names of the networks."""
    return Picture(draw_beside(both, names), f"{names[0]} and {names[1]}")


class Page:
    """A figure on which things are placed in inches from its left and from its top."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=DOTS)
        self._axes: Any = self.figure.add_axes((0, 0, 1, 1))  # one for all: each takes milliseconds
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width), ylim=(height, 0))

    def pixels(self, x: float, y: float, pixels_HWC: np.ndarray, side: float = SIDE) -> None:
        """Place pixels in the middle of a square, as large as it holds; x and y are those of its upper left corner."""
        height, width = (side * sides / max(pixels_HWC.shape[:2]) for sides in pixels_HWC.shape[:2])
        x, y = x + (side - width) / 2, y + (side - height) / 2
        self._axes.imshow(pixels_HWC, extent=(x, x + width, y + height, y), aspect="auto")

    def lines(self, x: float, y: float, lines: Lines, **style: Any) -> None:
        """Write lines that start at x, with their top at height y."""
        self.text(x, y + lines.height / 2, lines.text, lines.size, **style)

    def text(self, x: float, y: float, text: str, size: float = 9, **style: Any) -> None:
        """Write text that starts at x, with its middle at height y."""
        self._axes.text(x, y, text, va="center", fontsize=size, parse_math=False, **style)


def _block(portrait: Portrait) -> float:
    """Return the height of a filter, in inches: the images, and the signals by each rule."""
    return (1 + len(portrait.signals)) * (SIDE + GAP) + 2 * GAP


def _width(count: int) -> float:
    """Return the width of a page of some small pictures in a row, in inches."""
    return TEXT + count * (SIDE + GAP)


def _most(portrait: Portrait) -> int:
    """Return how many filters like this one a picture holds."""
    width = _width(1 + len(portrait.crops_KCHW))
    return max(1, int(LARGEST / (DOTS**2 * width * _block(portrait))))


def draw_portraits(portraits: Sequence[Portrait], classes: Sequence[str] | None = None) -> Figure:
    """Draw the relevant filters of one class.

    For each filter, a row shows the average of its crops and the crops. A row for each rule below shows the signals in
    the crops, each on a scale of its own (`signal_pixels`). Crops are shown from 0 to 1.

    Args:
        portraits: the portraits of the filters.
        classes: the names of the classes; by default, their numbers.
    """
    count, block = max(len(portrait.crops_KCHW) for portrait in portraits), _block(portraits[0])
    width = _width(1 + count)
    remark = remark_of(portraits[0].crops_KCHW.shape[1])
    heading = f"{drawn_class_name(portraits[0].label, classes)}{remark and f' ({remark})'}"
    title = fitted(heading, width - 2 * GAP, sizes=(12,))
    start = TOP + title.height - 12 * SPACING / INCH  # of the first filter; a title of one line is within TOP
    page = Page(width, start + block * len(portraits))
    page.lines(GAP, 0.1, title)
    for column, head in enumerate(("average", "largest responses")):
        page.text(_width(column), start - 0.12, head)
    for number, portrait in enumerate(portraits):
        top = start + number * block
        caption = fitted(_caption(portrait), TEXT - 2 * GAP, block - 2 * GAP)
        page.lines(GAP, top + max(0, (SIDE - caption.height) / 2), caption)
        for column, picture_CHW in enumerate((portrait.average_CHW, *portrait.crops_KCHW)):
            page.pixels(_width(column), top, image_pixels(picture_CHW))
        for row, (rule, signals_KCHW) in enumerate(portrait.signals.items(), 1):
            page.text(TEXT + SIDE, top + row * (SIDE + GAP) + SIDE / 2, rule, ha="right", color="dimgray")
            for column, signal_CHW in enumerate(signals_KCHW, 1):
                page.pixels(_width(column), top + row * (SIDE + GAP), signal_pixels(signal_CHW))
    return page.figure


def _caption(portrait: Portrait) -> str:
    change = round(-100 * portrait.drop, 2) + 0.0  # never -0.00
    return f"{portrait.name}\nweight {portrait.weight:+.2f}\nwithout it: {change:+.2f} points"


def _in_words(one: Explanation, name: Callable[[int], str]) -> str:
    """Return in words the class of an image, if it is known, and the class that the network predicts."""
    if one.label is None:
        return f"taken for {name(one.predicted)}"
    return f"{name(one.label)}, taken for {name(one.predicted).removeprefix('class ')}"


def draw_explanation(explanation: Explanation, classes: Sequence[str] | None = None) -> Figure:
    """Draw an image, then the image under the heat map of each filter that contributes most, and under all of them.

    Args:
        explanation: the explanation of the image.
        classes: the names of the classes; by default, their numbers.
    """
    pairs = zip(explanation.names, explanation.contributions, strict=True)
    words = ["", *(f"{name}\ncontributes {share:.2f}" for name, share in pairs), "together"]
    titles, image_CHW = [fitted(one, WIDE) for one in words], explanation.image_CHW
    width = len(titles) * (WIDE + GAP) + GAP
    heading = fitted(_in_words(explanation, partial(drawn_class_name, classes=classes)), width - 2 * GAP, sizes=(11,))
    top = heading.height + max(title.height for title in titles) + 4 * GAP
    heated = [heated_pixels(image_CHW, heat) for heat in (*explanation.heats_THW, explanation.combined_HW)]
    page = Page(width, top + WIDE + GAP)
    page.lines(GAP, GAP, heading)
    for column, (title, pixels) in enumerate(zip(titles, [image_pixels(image_CHW), *heated], strict=True)):
        x = GAP + column * (WIDE + GAP)
        page.lines(x + WIDE / 2, top - GAP - title.height, title, ha="center")
        page.pixels(x, top, pixels, WIDE)
    return page.figure


def draw_beside(both: Beside, networks: tuple[str, str]) -> Figure:
    """Draw the signals of the same filters of two networks, a row for each filter, two columns for each rule."""
    heads = [fitted(network, SIDE) for network in networks]
    start = TOP + max(head.height for head in heads) - 9 * SPACING / INCH
    page = Page(_width(1 + 2 * len(both.first)), start + len(both.names) * (SIDE + GAP))
    for number, (rule, alike) in enumerate(both.similarity.items()):
        x = _width(1 + 2 * number)
        page.text(x, 0.2, f"{rule}: {'none' if alike is None else f'rank correlation {alike:.2f}'}")
        for column, head in enumerate(heads):
            page.lines(x + column * (SIDE + GAP), 0.4, head, color="dimgray")
    for row, name in enumerate(both.names):
        top = start + row * (SIDE + GAP)
        lines = fitted(name, TEXT - 2 * GAP, SIDE)
        page.lines(GAP, top + max(0, (SIDE - lines.height) / 2), lines)
        page.pixels(TEXT, top, image_pixels(both.images_BCHW[row]))
        pairs = [(both.first[rule][row], both.second[rule][row]) for rule in both.first]
        for column, signal_CHW in enumerate((one for pair in pairs for one in pair), 1):
            page.pixels(_width(column), top, signal_pixels(signal_CHW))
    return page.figure
