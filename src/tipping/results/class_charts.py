"""The charts of classes: accuracies of each, and what removing the filters of one costs the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from tipping.errors import printable
from tipping.results.by_class import Row
from tipping.results.charts import INTACT, RANDOM, RELEVANT

WRITTEN = 12  # classes up to which numbers are written into cells
DRAWN = 40  # classes that are drawn, at most
CELL = 30  # pixels


def accuracies_chart(rows: Sequence[Row]) -> alt.HConcatChart:
    """Draw the accuracy of each class at each mu: intact, without relevant filters, and without random ones.

    Accuracies are means over the rows of one class at one mu, which are those of networks that differ by their seed.

    Args:
        rows: rows by class, as `rows_by_class` returns them, each with its `mu`.
    """
    classes = list(dict.fromkeys(row["class"] for row in rows))[:DRAWN]
    cells: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["mu"], row["class"]), []).append(row)
    panels = []
    for title, kind in ((INTACT, "intact"), (RELEVANT, "selected"), (RANDOM, "random_mean")):
        values = [
            {"row": f"{mu:g}", "class": printable(name), "value": float(np.mean([one[kind] for one in some]))}
            for (mu, name), some in cells.items()
            if name in classes
        ]
        panels.append(_heat_map(values, title, "mu", "class", list(map(printable, classes)), [0, 1], "blues"))
    return alt.hconcat(*panels)


def matrix_chart(removed: Sequence[str], measured: Sequence[str], drop_CC: np.ndarray) -> alt.LayerChart:
    """Draw what removing the filters of each class, in rows, costs each class, in columns: the drop of its accuracy."""
    values = [
        {"row": printable(row), "class": printable(column), "value": float(drop_CC[r, c])}
        for r, row in enumerate(removed[:DRAWN])
        for c, column in enumerate(measured[:DRAWN])
    ]
    columns = list(map(printable, measured[:DRAWN]))
    return _heat_map(values, "drop of accuracy", "its filters removed", "class measured", columns, [-1, 1], "redblue")


def _heat_map(
    values: Sequence[dict[str, Any]],
    title: str,
    rows: str,
    columns: str,
    order: Sequence[str],
    domain: Sequence[float],
    scheme: str,
) -> alt.LayerChart:
    x = alt.X("class:N", sort=list(order)).title(columns).axis(labelAngle=0 if len(order) <= WRITTEN else -90)
    y = alt.Y("row:N", sort=None).title(rows)
    scale = alt.Scale(domain=list(domain), scheme=scheme, reverse=scheme == "redblue")  # type: ignore[arg-type]
    color = alt.Color("value:Q", scale=scale).title(None).legend(format="%")
    base = alt.Chart(alt.InlineData(values=list(values)), width=alt.Step(CELL), height=alt.Step(CELL - 8), title=title)
    layers: list[alt.Chart] = [base.mark_rect().encode(x=x, y=y, color=color)]
    if len(order) <= WRITTEN:
        dark = "abs(datum.value) > 0.6"
        ink = alt.condition(dark, alt.value("white"), alt.value("black"))
        layers.append(base.mark_text(fontSize=10).encode(x=x, y=y, text=alt.Text("value:Q", format=".0%"), color=ink))
    return alt.LayerChart(layer=layers)
