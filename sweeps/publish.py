"""The published tables and their charts, from the small tables kept of sweeps.

python sweeps/publish.py NAME SWEEP_DIR [SWEEP_DIR …]   keeps the rows of sweeps as docs/results/NAME.csv; the name
                                                        `map` keeps the rows of their tipping points, and `training`
                                                        the epochs of trainings, `arena` the contests of selectors,
                                                        and `by_class` the filters of each class by themselves
python sweeps/publish.py                                writes the tables and charts of all kept rows again
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np
from classes_published import classes_table, groups_of_classes, keep_classes
from keeping import KEPT, keep, keep_training
from PIL import Image
from selectors_published import keep_arena, kept_contests, kinds_of_networks, selector_table

from tipping.arena import MATCHED, OWN
from tipping.experiment.config import RULES
from tipping.results import charts, published
from tipping.results.arena_chart import arena_chart
from tipping.results.published import FIGURE_4, TIPPED, Row, grouped, percent, randoms
from tipping.tipping_points import compare, student

ROOT = Path(__file__).parents[1]
ARENA = ROOT / "docs" / "arena.png"
PAGES = [ROOT / "README.md", *(ROOT / f"docs/{page}.md" for page in ("results", "visualize", "arena", "by_class"))]


def kept(name: str) -> list[Row]:
    """Read the rows kept under a name."""
    return published.read_rows(KEPT / f"{name}.csv")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def against_report(name: str) -> str:
    """Set the report's numbers beside ours, in a table for each network and protocol that reproduces the report's."""
    tables = published.against_report([row for row in kept(name) if row["control"] in ("layer", "global")])
    return "\n\n".join(f"**{title}**\n\n{table(lines[0], lines[1:])}" for title, lines in tables)


def differences(name: str, *keys: str) -> str:
    """Compare selected with random filters, over seeds, for each mu and each value of some columns."""
    heads, *lines = published.differences(kept(name), *keys)
    return table(heads, lines)


def sanity() -> str:
    """Tabulate what is explained, and the overlap with the trained network's selection beside chance, over seeds."""
    lines = []
    for (randomize, labels), rows in grouped(kept("sanity"), "randomize", "labels").items():
        undone = {"permuted": "labels permuted"}.get(labels, "nothing" if randomize == "none" else randomize)
        explained = [float(row["explained"]) for row in rows]
        lines.append(
            [
                undone,
                percent(explained),
                _beside_chance(rows, "overlap_jaccard", "overlap_by_chance"),
                _beside_chance(rows, "overlap_rank_correlation", "rank_correlation_by_chance"),
                percent([row["intact"] for row in rows]),
                *(percent([float(row[f"curve_{order}"]) for row in rows]) for order in ("selected", "random")),
            ]
        )
    heads = ["undone", "explained %", "Jaccard (by chance)", "rank correlation (by chance)"]
    return table([*heads, "intact %", "along the curve: selected %", "random %"], lines)


def _beside_chance(rows: Sequence[Row], value: str, chance: str) -> str:
    """Write a value for each seed with the 95 % range of chance; nothing where there is no overlap."""
    return "; ".join(f"{float(row[value]):.2f} ({row[chance].replace(' to ', '…')})" for row in rows if row[value])


def signals() -> str:
    """Tabulate how alike the signals of a trained network and of one with random layers are, over seeds."""
    lines = [
        [randomize, *(percent([float(row[f"signals_alike_{rule}"]) for row in rows]) for rule in RULES)]
        for (randomize,), rows in grouped(kept("signals"), "randomize").items()
    ]
    return table(["randomize", *(f"{rule} %" for rule in RULES)], lines)


class Place(NamedTuple):
    """A place of the map: a width, a dropout and a depth."""

    filters: int
    dropout: float
    depth: int = 5

    def __str__(self) -> str:
        depth = "" if self.depth == 5 else f", {self.depth} layers"
        return f"{self.filters} filters, dropout {self.dropout:g}{depth}"


def networks() -> dict[Place, list[dict[str, str]]]:
    """Read the rows of the map by place: narrow networks first, and those with dropout before those without."""
    by_place: dict[Place, list[dict[str, str]]] = {}
    with (KEPT / "map.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            place = Place(int(row["model.filters"]), float(row["model.dropout"]), int(row["model.depth"]))
            by_place.setdefault(place, []).append(row)
    return dict(sorted(by_place.items(), key=lambda item: (item[0].filters, -item[0].dropout, -item[0].depth)))


def numbers(rows: Sequence[dict[str, str]], column: str) -> np.ndarray:
    """Return a column of rows as numbers."""
    return np.array([float(row[column]) for row in rows])


def shares(rows: Sequence[dict[str, str]], column: str) -> np.ndarray:
    """Return numbers of filters as shares of all filters."""
    return numbers(rows, column) / numbers(rows, "filters")


def tipping_points() -> str:
    """Tabulate where networks tip, over seeds."""
    lines = []
    for (filters, dropout, depth), rows in networks().items():
        mu, removed = (
            np.exp(student(np.log(numbers(rows, "crosses_at")))),
            np.array(student(numbers(rows, "tipping_filters"))),
        )
        lines.append(
            [
                f"{filters}",
                f"{dropout:g}",
                f"{depth}",
                percent(numbers(rows, "intact").tolist()),
                "{:.3g} ({:.2g} to {:.3g})".format(*mu),
                " / ".join(f"{float(row['crosses_at']):.3g}" if row["crosses_at"] else "–" for row in rows),
                "{:.1f} ({:.1f} to {:.1f}) of ".format(*removed.clip(0)) + rows[0]["filters"],
                f"{numbers(rows, 'tipping_random_filters').mean():.1f}",
                f"{numbers(rows, 'saturation_mu').mean():.0f}",
                " / ".join(f"{float(row['stability']):.2f}" if row["stability"] else "–" for row in rows),
                " / ".join(row["evaluations"] for row in rows),
            ]
        )
    heads = [
        "filters a layer",
        "dropout",
        "layers",
        "intact %",
        "tips at mu (95 %)",
        "by seed",
        "filters removed (95 %)",
    ]
    return table([*heads, "random ones", "saturation mu", "stability", "evaluations"], lines)


def tipping_compared() -> str:
    """Compare networks with dropout with those without, and networks of one width with those of the next."""
    places, lines = networks(), []
    widths = sorted({place.filters for place in places})
    pairs = [(Place(width, 0.5), Place(width, 0.0)) for width in widths]
    pairs += [(Place(one, dropout), Place(other, dropout)) for dropout in (0.5, 0.0) for one, other in pairwise(widths)]
    pairs += [(Place(16, 0.5, 3), Place(16, 0.5))]
    for pair in pairs:
        mu = compare(*(np.log(numbers(places[place], "crosses_at")).tolist() for place in pair))
        share = compare(*((100 * shares(places[place], "tipping_filters")).tolist() for place in pair))
        lines.append(
            [
                *map(str, pair),
                "{:.2f} ({:.2f} to {:.2f})".format(*np.exp(mu[:3])),
                f"{mu.p:.1f}",
                "{:+.1f} ({:.1f} to {:.1f})".format(*share[:3]),
                f"{share.p:.1f}",
            ]
        )
    heads = ["networks", "against", "mu: ratio (95 %)", "p", "share of filters removed: difference in points (95 %)"]
    return table([*heads, "p"], lines)


def during_training() -> str:
    """Tabulate how many relevant filters tip each network after each epoch of its training."""
    by_seed: dict[str, list[str]] = {}
    with (KEPT / "training.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            tips = f"{float(row['tips_at']):.1f} of {row['relevant']}" if row["tips_at"] else f"over {row['relevant']}"
            by_seed.setdefault(row["seed"], []).append(tips)
    lines = [[seed, *tips] for seed, tips in by_seed.items()]
    epochs = len(lines[0]) - 1
    return table(["seed", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))], lines)


def map_chart() -> alt.HConcatChart:
    """Draw the map: each network, and intervals over seeds."""
    by_mu, by_filters = [], []
    for place, rows in networks().items():
        mu = np.log(numbers(rows, "crosses_at"))
        by_mu += _marks(place, charts.RELEVANT, np.exp(mu), np.exp(student(mu)))
        for ablated, column in ((charts.RELEVANT, "tipping_filters"), (charts.RANDOM, "tipping_random_filters")):
            by_filters += _marks(place, ablated, shares(rows, column), np.array(student(shares(rows, column))).clip(0))
    return charts.tipping_points_chart(by_mu, by_filters)


def _marks(place: Place, ablated: str, values: np.ndarray, ends: np.ndarray) -> list[dict[str, Any]]:
    common = {"name": str(place), "ablated": ablated}
    return [
        *(common | {"at": value} for value in values.tolist()),
        common | {"low": float(ends[1]), "high": float(ends[2])},
        *(common | {"end": float(end)} for end in ends[1:]),
    ]


def answer() -> str:
    """Tabulate Figure 4 of the report under both readings: as the report's code does it, and as its text says."""
    rows = [row for row in kept("figure4") if row["model.dropout"] == 0.5]
    lines = []
    for mu in FIGURE_4:
        at_mu = [row for row in rows if row["mu"] == mu]
        theirs = FIGURE_4[mu]
        cells = [f"{theirs[0]:.2f}", f"{theirs[1]:.2f}"]
        for protocol in ("keras_report", "described"):
            ours = [row for row in at_mu if row["protocol"] == protocol]
            cells += [percent([row["selected"] for row in ours]), percent(randoms(ours))]
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
    "figure 3 against the report": lambda: against_report("figure3"),
    "figure 4 differences": lambda: differences("figure4", "protocol", "model.dropout"),
    "widths": lambda: differences("widths", "protocol", "model.filters", "model.dropout"),
    "controls": lambda: differences("controls", "protocol", "model.filters", "model.dropout"),
    "matched controls": lambda: differences("matched", "protocol", "model.filters"),
    "sanity": sanity,
    "signals": signals,
    "tipping points": tipping_points,
    "tipping points compared": tipping_compared,
    "during training": during_training,
    **{
        f"selectors, {data}, {filters} filters, {orders}": partial(selector_table, data, filters, orders, table)
        for data, filters in kinds_of_networks()
        for orders in (OWN, MATCHED)
    },
    **{
        f"classes, {data}, {filters} filters, mu {mu}": partial(classes_table, data, filters, mu, table)
        for data, filters, mu in groups_of_classes()
    },
}


def filled(text: str) -> str:
    """Return a page with each table between ``<!-- NAME -->`` and ``<!-- end -->`` written again."""

    def one(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- (?!end)([^>]*) -->\n.*?<!-- end -->", one, text, flags=re.DOTALL)


def figure_4_chart() -> alt.HConcatChart:
    """Draw Figure 4 under both readings: accuracy by filters ablated, lines for networks, crosses for the report."""
    colors = {"selected filters": "#c1272d", "random filters": "#0067a5"}
    x = alt.X("filters:Q").scale(domain=[0, 640]).title("filters ablated, of 640")
    y = alt.Y("accuracy:Q").scale(domain=[0, 1]).axis(format="%").title("test accuracy")
    color = alt.Color("ablated:N").scale(domain=list(colors), range=list(colors.values())).title("ablated")
    color = color.legend(symbolOpacity=1)
    dash = alt.StrokeDash("dropout:N").scale(domain=["0.5", "0"], range=[[1, 0], [5, 4]]).title("dropout")
    dash = dash.legend(None)
    report = [
        {"filters": dropped, "ablated": kind, "accuracy": value / 100}
        for selected, random, dropped in FIGURE_4.values()
        for kind, value in (("selected filters", selected), ("random filters", random))
    ]
    without, dropped = TIPPED[0.0]
    text = [{"filters": dropped, "ablated": "selected filters", "accuracy": without / 100}]
    theirs = alt.Chart(alt.InlineData(values=report)).mark_point(shape="cross", size=110, filled=True, opacity=0.9)
    undropped = alt.Chart(alt.InlineData(values=text)).mark_point(shape="cross", size=110, strokeWidth=2)
    titles = {
        "keras_report": ["keras_report: the first input channel of each filter", "ablated, as the report's code did"],
        "described": ["described: whole filters ablated,", "as the report's text says"],
    }
    charts = []
    for protocol, title in titles.items():
        points = [
            {
                "network": f"{row['model.dropout']:g}, {row['seed']}",
                "dropout": f"{row['model.dropout']:g}",
                "filters": row["ablated"],
                "ablated": kind,
                "accuracy": value,
            }
            for row in kept("figure4")
            if row["protocol"] == protocol
            for kind, values in (("selected filters", [row["selected"]]), ("random filters", row["random"]))
            for value in values
        ]
        base = alt.Chart(alt.InlineData(values=points)).encode(x=x, color=color, detail="network:N")
        band = base.mark_area(opacity=0.12).encode(y="min(accuracy):Q", y2="max(accuracy):Q")
        mean = alt.Y("mean(accuracy):Q").scale(domain=[0, 1]).axis(format="%").title("test accuracy")
        line = base.mark_line(point=True, strokeWidth=1.5).encode(y=mean, strokeDash=dash)
        layers = alt.layer(band, line, *(chart.encode(x=x, y=y, color=color) for chart in (theirs, undropped)))
        charts.append(layers.properties(width=380, height=280, title=title))
    note = (
        "crosses: the report; lines: our networks (random: mean of 5 draws, and range); dashed, hollow: without dropout"
    )
    return alt.hconcat(*charts).properties(title=alt.TitleParams(note, orient="bottom", fontWeight="normal"))


def main() -> None:
    """Keep the rows of sweeps, or write all pages and charts again, as the command line says."""
    if sys.argv[1:2] == ["training"] and len(sys.argv) > 2:
        keep_training([Path(sweep) for sweep in sys.argv[2:]])
    elif sys.argv[1:2] == ["arena"] and len(sys.argv) > 2:
        keep_arena([Path(sweep) for sweep in sys.argv[2:]])
    elif sys.argv[1:2] == ["by_class"] and len(sys.argv) > 2:
        keep_classes([Path(sweep) for sweep in sys.argv[2:]])
    elif len(sys.argv) > 2:
        keep(sys.argv[1], [Path(sweep) for sweep in sys.argv[2:]])
    elif len(sys.argv) == 1:
        for page in PAGES:
            page.write_text(filled(page.read_text()))
        figure_4_chart().save(ROOT / "docs" / "results.png", scale_factor=2)
        map_chart().save(ROOT / "docs" / "map.png", scale_factor=2)
        arena_chart(kept_contests(), ["data", "model.filters"]).save(ARENA, scale_factor=2)
        Image.open(ARENA).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(ARENA, optimize=True)
    else:
        sys.exit(str(__doc__))


if __name__ == "__main__":
    main()
