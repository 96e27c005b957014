"""Lines of tables, as they are printed."""

from __future__ import annotations

from collections.abc import Sequence

from tipping.errors import printable

WIDEST = 120  # characters of a cell that is printed


def print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns; the first line holds the headings."""
    shown = [[printable(cell, most=WIDEST) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
