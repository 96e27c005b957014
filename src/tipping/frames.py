"""Rows of tables as data frames of whichever library is installed, and as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tipping.errors import printable
from tipping.files import replacing

Row = dict[str, Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # the first characters of cells that spreadsheets compute


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a data frame of pandas or, without pandas, of polars; as a list where neither is installed."""
    for library in ("pandas", "polars"):
        try:
            return import_module(library).DataFrame(list(rows))
        except ImportError:
            continue
    return list(rows)


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
