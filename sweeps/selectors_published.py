"""The published tables of the arena, from the rows kept of its sweeps."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keeping import KEPT

from tipping.arena import MATCHED, OWN
from tipping.errors import InputError
from tipping.results.arena import BASELINE, NETWORK, Row, compared, contest_rows, difference_cells, read_contests

TEXTS: tuple[str, ...] = ("data", "model", "protocol", "selector", "family", "cost", "orders")
TEXTS += ("trainer.precision", "arena.within_layers", "certified", "device", "commit")
WORDS = {OWN: "own order", MATCHED: "matched"}


def keep_arena(sweeps: Sequence[Path]) -> None:
    """Keep the results of contests as docs/results/arena.csv, made anew from their records.

    Raises:
        InputError: a record is not whole.
    """
    rows: list[Row] = []
    for sweep in sweeps:
        contests, missing = read_contests(sweep)
        if missing:
            raise InputError(f"{sweep}: no whole result.json of job {', '.join(missing)}; run the sweep again")
        rows += [row for contest in contests for row in contest_rows(contest.record, NETWORK)]
    with (KEPT / "arena.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file,
            [name for name in rows[0] if name not in ("job", "weights")],
            extrasaction="ignore",
            lineterminator="\n",
        )
        writer.writeheader()
        writer.writerows(
            {key: round(one, 6) if isinstance(one, float) else one for key, one in row.items()} for row in rows
        )


def kept_contests() -> list[Row]:
    """Read the rows kept of contests, with numbers as such; what is empty is None."""
    path = KEPT / "arena.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{key: _value(key, text) for key, text in row.items()} for row in csv.DictReader(file)]
    networks = ("data", "model.filters", "model.dropout", "seed")
    return [{**row, "weights": " ".join(str(row[key]) for key in networks)} for row in rows]


def _value(key: str, text: str) -> Any:
    if key in TEXTS:
        return text
    if not text:
        return None
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def selector_table(
    data: str, filters: int, orders: str, table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]
) -> str:
    """Tabulate what selectors cost networks of one width, the best first, over seeds with and without dropout.

    Args:
        orders: the kind of orders, `own` or `matched`.
        table: writes headings and rows as a table.
    """
    rows = [row for row in kept_contests() if (row["data"], row["model.filters"]) == (data, filters)]
    lines = [line for line in compared(rows, ()) if line["orders"] == orders]
    base = BASELINE[orders]
    heads = [
        "selector",
        "family",
        "mean accuracy %",
        f"to `{base}`, points (95 %)",
        "p",
        "to the mu-lasso, points (95 %)",
    ]
    heads += ["p", "without K %", "tips at", "seconds"]
    return table(heads, [_cells(line, base) for line in lines])


def _cells(line: Row, base: str) -> list[str]:
    tips = "–" if line["tips_at"] is None else f"{line['tips_at']:.1f}"
    beside = [cell for baseline in (base, "mu_lasso") for cell in difference_cells(line, f"area_to_{baseline}")]
    return [
        f"`{line['selector']}`",
        line["family"],
        f"{100 * line['area']:.1f}",
        *beside,
        f"{100 * line['without']:.1f}",
        tips,
        f"{line['seconds']:.1f}",
    ]


def kinds_of_networks() -> list[tuple[str, int]]:
    """Return the data and widths of the networks whose contests are kept."""
    return list(dict.fromkeys((row["data"], row["model.filters"]) for row in kept_contests()))
