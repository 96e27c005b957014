"""The published tables and their chart, from the small tables of the sweeps behind them.

python sweeps/publish.py NAME SWEEP_DIR [SWEEP_DIR …]   keeps the rows of sweeps as docs/results/NAME.csv
python sweeps/publish.py                                writes their tables and docs/results.png anew
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import altair as alt
import numpy as np

from tipping import comparison
from tipping.comparison import FIGURE_4, Row, difference, grouped, percent, randoms

ROOT = Path(__file__).parents[1]
PAGES, KEPT = (ROOT / "README.md", ROOT / "docs" / "results.md"), ROOT / "docs" / "results"
COLUMNS = (
    *("data", "model", "model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "trainer.precision"),
    *("protocol", "control", "sites", "labels", "randomize", "seed", "mu", "filters", "dead", "relevant", "ablated"),
    *("shared", "intact", "selected", "random", "relative_gap", "certified", "overlap_jaccard", "overlap_by_chance"),
    *("overlap_rank_correlation", "rank_correlation_by_chance", "device", "commit"),
)


def keep(name: str, sweeps: Sequence[Path]) -> None:
    """Keep some columns of sweeps' tables under docs/results."""
    rows = []
    for sweep in sweeps:
        with (sweep / "results.csv").open(newline="") as file:
            rows += list(csv.DictReader(file))
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def kept(name: str) -> list[Row]:
    """The rows kept under a name."""
    return comparison.read(KEPT / f"{name}.csv")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def against_report(name: str) -> str:
    """The report's numbers beside ours, a table for each network and protocol that reproduces its own."""
    tables = comparison.against_report([row for row in kept(name) if row["control"] in ("layer", "global")])
    return "\n\n".join(f"**{title}**\n\n{table(lines[0], lines[1:])}" for title, lines in tables)


def differences(rows: Sequence[Row], *keys: str) -> str:
    """Selected against random filters for each value of some columns and mu, over seeds."""
    lines, counted = [], all(row.get("shared") for row in rows)  # rows of older jobs do not say
    for (*values, mu), group in grouped(rows, *keys, "mu").items():
        gap = difference(np.array([row["selected"] for row in group]), np.array([row["random"] for row in group]))
        interval = "one seed" if gap.low is None or gap.high is None else f"{100 * gap.low:.1f} to {100 * gap.high:.1f}"
        lines.append(
            [
                *(f"{value:g}" if isinstance(value, float) else value for value in values),
                f"{mu:g}",
                f"{np.mean([row['ablated'] for row in group]):.0f} of {group[0]['filters']}",
                *([f"{np.mean([float(row['shared']) for row in group]):.0f}"] if counted else []),
                percent([row["intact"] for row in group]),
                percent([row["selected"] for row in group]),
                percent(randoms(group)),
                f"{100 * gap.mean:+.1f} ({interval})",
                f"{gap.p:.3f}",
            ]
        )
    names = {"model.filters": "filters a layer", "model.dropout": "dropout"}
    heads = ["mu", "ablated", *(["also random"] if counted else [])]
    heads += ["intact %", "selected %", "random %", "difference (95 %)", "p"]
    return table([*(names.get(key, key) for key in keys), *heads], lines)


def sanity() -> str:
    """How much selections overlap with the trained network's, over seeds, beside chance."""
    lines = []
    for (randomize, labels), rows in grouped(kept("sanity"), "randomize", "labels").items():
        lines.append(
            [
                "labels permuted" if labels == "permuted" else randomize,
                *(
                    cell
                    for value, chance in (
                        ("overlap_jaccard", "overlap_by_chance"),
                        ("overlap_rank_correlation", "rank_correlation_by_chance"),
                    )
                    for cell in (
                        ", ".join(f"{float(row[value]):.2f}" for row in rows),
                        "; ".join(row[chance] for row in rows),
                    )
                ),
                percent([row["intact"] for row in rows]),
                percent([row["selected"] for row in rows]),
                percent(randoms(rows)),
            ]
        )
    heads = ["undone", "Jaccard", "by chance (95 %)", "rank correlation", "by chance (95 %)"]
    return table([*heads, "intact %", "selected %", "random %"], lines)


def with_dropout() -> list[Row]:
    """The rows of the report's main table: with dropout, against controls of the same layers."""
    return [row for row in kept("figure4") if row["control"] == "layer" and row["model.dropout"] == 0.5]


def answer() -> str:
    """Figure 4 in the report, as its code does it and as its text says, in one table."""
    rows = with_dropout()
    lines = []
    for mu in FIGURE_4:
        at_mu = [row for row in rows if row["mu"] == mu]
        theirs = FIGURE_4[mu]
        cells = [f"{theirs[0]:.2f}", f"{theirs[1]:.2f}"]
        for protocol in ("keras_report", "described"):
            ours = [row for row in at_mu if row["protocol"] == protocol]
            cells += [f"{100 * np.mean([row['selected'] for row in ours]):.2f}", f"{100 * np.mean(randoms(ours)):.2f}"]
        dropped = f"{np.mean([row['ablated'] for row in at_mu]):.0f}"
        lines.append([f"{mu:g}", str(theirs[2]), dropped, *cells])
    heads = [
        "report: selected",
        "random",
        "first input channel: selected",
        "random",
        "whole filters: selected",
        "random",
    ]
    return table(["mu", "filters dropped: report", "ours", *heads], lines)


TABLES: dict[str, Callable[[], str]] = {
    "answer": answer,
    "figure 4 against the report": lambda: against_report("figure4"),
    "figure 4 differences": lambda: differences(kept("figure4"), "protocol", "model.dropout"),
    "widths": lambda: differences(kept("widths"), "protocol", "model.filters", "model.dropout"),
    "controls": lambda: differences(kept("controls"), "protocol", "model.filters", "model.dropout"),
    "controls of figure 4": lambda: differences(kept("figure4_controls"), "protocol", "model.dropout"),
    "sanity": sanity,
}


def filled(text: str) -> str:
    """A page with each of its tables, between ``<!-- NAME -->`` and ``<!-- end -->``, written anew."""

    def one(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- (?!end)([^>]*) -->\n.*?<!-- end -->", one, text, flags=re.DOTALL)


def chart() -> alt.HConcatChart:
    """Figure 4 under both readings: accuracy by filters ablated, the report's numbers as hollow points."""
    colors = {"selected filters": "#c1272d", "random filters": "#0067a5"}
    charts = []
    for (protocol,), rows in grouped(with_dropout(), "protocol").items():
        points = [
            {"filters": row["ablated"], "ablated": kind, "accuracy": value}
            for row in rows
            for kind, values in (("selected filters", [row["selected"]]), ("random filters", row["random"]))
            for value in values
        ]
        report = [
            {"filters": dropped, "ablated": kind, "accuracy": value / 100}
            for selected, random, dropped in FIGURE_4.values()
            for kind, value in (("selected filters", selected), ("random filters", random))
        ]
        x = alt.X("filters:Q").scale(domain=[0, 480]).title("filters ablated, of 640")
        color = (
            alt.Color("ablated:N")
            .scale(domain=list(colors), range=list(colors.values()))
            .title("ablated")
            .legend(symbolOpacity=1)
        )
        y = alt.Y("accuracy:Q").scale(domain=[0, 1]).axis(format="%").title("test accuracy")
        base = alt.Chart(alt.InlineData(values=points)).encode(x=x, color=color)
        band = base.mark_area(opacity=0.15).encode(y="min(accuracy):Q", y2="max(accuracy):Q")
        line = base.mark_line(point=True).encode(
            y=alt.Y("mean(accuracy):Q").title("test accuracy").scale(domain=[0, 1]).axis(format="%")
        )
        theirs = (
            alt.Chart(alt.InlineData(values=report)).mark_point(size=90, strokeWidth=2).encode(x=x, y=y, color=color)
        )
        titles = {
            "keras_report": [
                "keras_report: the first input channel of each filter",
                "ablated, as the report's code did",
            ],
            "described": ["described: whole filters ablated,", "as the report's text says"],
        }
        charts.append(alt.layer(band, line, theirs).properties(width=360, height=260, title=titles[protocol]))
    note = "hollow points: the report's figures; lines: ours (random: mean of 5 draws, band: their range)"
    return alt.hconcat(*charts).properties(title=alt.TitleParams(note, orient="bottom", fontWeight="normal"))


def main() -> None:
    if len(sys.argv) > 2:
        keep(sys.argv[1], [Path(sweep) for sweep in sys.argv[2:]])
    elif len(sys.argv) == 1:
        for page in PAGES:
            page.write_text(filled(page.read_text()))
        chart().save(ROOT / "docs" / "results.png", scale_factor=2)
    else:
        sys.exit(str(__doc__))


if __name__ == "__main__":
    main()
