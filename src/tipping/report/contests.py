"""The contests of selectors on the report page: the chart, a sentence for each kind of network, and the table."""

from __future__ import annotations

from collections.abc import Sequence

from tipping.arena import OWN
from tipping.experiment.config import MU_LASSO
from tipping.report.facets import Image, image_of
from tipping.report.html_tables import Cell, Table
from tipping.results.arena import BASELINE, Contested, Row, compared, contest_rows, network_options
from tipping.results.arena_chart import arena_chart

HEADS = {  # of the table: titles of measures that are shares
    "without": "without K %",
    "area": "mean accuracy %",
    "kept_area": "mean where kept %",
}


def contest_sentences(contests: Sequence[Contested]) -> list[str]:
    """Say for each kind of network which selector costs it most, beside the mu-lasso and random filters."""
    rows, varying = _rows(contests)
    sentences = []
    for group in dict.fromkeys(row["group"] for row in rows if row["orders"] == OWN):
        lines = {row["selector"]: row for row in rows if row["group"] == group and row["orders"] == OWN}
        best = next(iter(lines))
        others = [name for name in (MU_LASSO, BASELINE[OWN]) if name in lines and name != best]
        beside = " and ".join(f"{100 * lines[name]['area']:.1f} % by {_words(name)}" for name in others)
        beside = f", beside {beside}" if others else ""
        where = f"{group}: the" if varying else "The"
        networks = lines[best]["networks"]
        sentences.append(
            f"{where} filters that cost most are those of {_words(best)}: as they are removed accuracy is "
            f"{100 * lines[best]['area']:.1f} % on average{beside} "
            f"({networks} network{'s' if networks > 1 else ''})."
        )
    return sentences


def _words(selector: str) -> str:
    return {MU_LASSO: "the mu-lasso", "random": "random order"}.get(selector, selector)


def contest_chart(contests: Sequence[Contested]) -> Image | None:
    """Draw the contests; None where there are none."""
    if not contests:
        return None
    varying = network_options([contest.record for contest in contests])
    rows = [row for contest in contests for row in contest_rows(contest.record, varying)]
    words = "Mean accuracy as the filters that each selector scores highest are removed, with 95 % intervals"
    return image_of(arena_chart(rows, varying), words)


def contest_table(contests: Sequence[Contested]) -> Table:
    """Tabulate what selectors cost networks, beside random filters, with corrected p-values."""
    rows, varying = _rows(contests)
    heads = [*(["networks of"] if varying else []), "orders", "selector", "family", "networks", *HEADS.values()]
    heads += ["tips at", "to random, points", "p", "seconds"]
    return Table("Selectors", heads, [_cells(row, bool(varying)) for row in rows])


def _rows(contests: Sequence[Contested]) -> tuple[list[Row], list[str]]:
    varying = network_options([contest.record for contest in contests])
    return compared([row for one in contests for row in contest_rows(one.record, varying)], varying), varying


def _cells(row: Row, several: bool) -> list[Cell]:
    to_random, p = (row.get(f"area_to_{BASELINE[row['orders']]}{end}") for end in ("", "_p"))
    tips = row["tips_at"]
    return [
        *([Cell(row["group"], row["group"])] if several else []),
        *(Cell(row[key], row[key]) for key in ("orders", "selector", "family")),
        Cell(str(row["networks"]), row["networks"]),
        *(Cell(f"{100 * row[key]:.2f}", row[key]) for key in HEADS),
        Cell("does not" if tips is None else f"{tips:.1f}", 1e9 if tips is None else tips),
        Cell("" if to_random is None else f"{100 * to_random:+.1f}", to_random or 0.0),
        Cell("" if p is None else f"{p:.3f}", 2.0 if p is None else p),
        Cell(f"{row['seconds']:.1f}", row["seconds"]),
    ]
