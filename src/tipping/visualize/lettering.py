"""Text in pictures: in letters that the font has, and in lines that fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import get_hinting_flag
from matplotlib.font_manager import FontProperties, findfont, get_font

from tipping.errors import printable
from tipping.visualize.gallery import class_name

INCH, SPACING = 72, 1.35  # points of an inch, and of a line for each point of its letters
DOTS = 100  # pixels of an inch
SIZES = (9.0, 8.0, 7.0, 6.0, 5.0)  # points of letters, as they are tried
LONGEST = 400  # characters of a name that are drawn
MISSING = "□"


class Lines(NamedTuple):
    """Text in lines that fit a width.

    Attributes:
        text: the lines.
        size: the size of the letters, in points.
        height: the height of all lines, in inches.
    """

    text: str
    size: float
    height: float


def drawn_class_name(label: int, classes: Sequence[str] | None) -> str:
    """Name a class as `class_name` does, in letters that the font has; with its number where some are missing."""
    name = legible(class_name(label, classes))
    return f"class {label} ({name.removeprefix('class ')})" if MISSING in name else name


def legible(text: str) -> str:
    """Return a text with a square in place of each character that the font lacks, about which matplotlib warns."""
    return "".join(one if ord(one) in _letters() else MISSING for one in printable(text, most=LONGEST))


def fitted(text: str, width: float, height: float = float("inf"), sizes: Sequence[float] = SIZES) -> Lines:
    """Break a text into lines of at most a width, in the largest letters in which all lines fit the height.

    Lines end behind spaces and the signs . _ / - , ; and, where a part is longer than a line, anywhere. In the
    smallest letters the lines may be higher than the height.

    Args:
        text: the text, of one or more paragraphs.
        width, height: inches.
        sizes: the sizes of letters to try, in points, the largest first.
    """
    text = "\n".join(legible(paragraph) for paragraph in text.split("\n"))
    for size in sizes:
        broken = [line for paragraph in text.split("\n") for line in _broken(paragraph, width, size)]
        lines = Lines("\n".join(broken), size, len(broken) * size * SPACING / INCH)
        if lines.height <= height:
            break
    return lines


def _broken(paragraph: str, width: float, size: float) -> list[str]:
    """Break a paragraph into lines of at most a width."""
    lines, line = [], ""
    for part in re.findall(r"filter \d+$|[^ ._/,;-]*[ ._/,;-]?", paragraph):
        if line and _width((line + part).rstrip(), size) > width:
            lines.append(line.rstrip())
            line = ""
        for letter in part:
            if line and _width(line + letter.strip(), size) > width:
                lines.append(line)
                line = ""
            line += letter
    return [*lines, line.rstrip()]


def _width(text: str, size: float) -> float:
    """Return the width of a text in letters of a size, in inches."""
    return sum(_advance(letter, size) for letter in text)


@cache
def _advance(letter: str, size: float) -> float:
    """Return the width of a letter of a size, in inches; it is drawn at whole pixels."""
    font = _font()
    font.set_size(size, DOTS)
    hinting = get_hinting_flag()  # type: ignore[no-untyped-call]
    return float(font.load_char(ord(letter), flags=hinting).horiAdvance) / 64 / DOTS


@cache
def _font() -> Any:
    return get_font(findfont(FontProperties()))


@cache
def _letters() -> frozenset[int]:
    """Return the numbers of the characters that the font has, of which matplotlib makes a new table at each call."""
    return frozenset(_font().get_charmap())
