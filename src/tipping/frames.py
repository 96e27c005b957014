"""Rows as data frames of whichever library is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

Row = dict[str, Any]


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a data frame of pandas or, without pandas, of polars; as a list where neither is installed."""
    for library in ("pandas", "polars"):
        try:
            return import_module(library).DataFrame(list(rows))
        except ImportError:
            continue
    return list(rows)
