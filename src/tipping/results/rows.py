"""Rows and lines of tables, as they are written to files and printed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tipping.errors import printable
from tipping.files import replacing

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # the first characters of cells that spreadsheets compute
WIDEST = 120  # characters of a cell that is printed


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows into a CSV file, with a heading for each name in any row; no cell is a formula."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([as_text(head) for head in heads])
        writer.writerows([as_text(row.get(head, "")) for head in heads] for row in rows)


def as_text(value: Any) -> Any:
    """Return the value of a cell: a text that begins like a formula, and is no number, after an apostrophe."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = printable(str(value), most=100_000)
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns; the first line holds the headings."""
    shown = [[printable(cell, most=WIDEST) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
