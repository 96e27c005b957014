"""The chart of contests of selectors: what each costs networks, sorted, beside random filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from tipping.arena import MATCHED, OWN
from tipping.results.arena import by_network
from tipping.results.charts import WIDTH
from tipping.tipping_points import student

FAMILIES = {  # colours that are told apart also by those who see few
    "weights": "#999999",
    "activations": "#e69f00",
    "gradients": "#0072b2",
    "attribution": "#56b4e9",
    "probes": "#c1272d",
    "ablation": "#009e73",
    "random": "#000000",
}
TITLES = {OWN: "their own order", MATCHED: "as many of each layer as the mu-lasso's"}
Row = dict[str, Any]


def arena_chart(rows: Sequence[Row], varying: Sequence[str]) -> alt.VConcatChart:
    """Draw the mean accuracy along the removal of filters, a line for each selector, the best on top.

    Points are networks; ticks and bars are means over networks of one kind with Student's 95 % interval.

    Args:
        rows: the rows of all contests.
        varying: the options in which contests differ, beside the seed.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(" ".join(f"{option}={row.get(option, '')}" for option in varying), []).append(row)
    return alt.vconcat(*(_group(by_network(some), name) for name, some in groups.items()))


def _group(rows: Sequence[Row], name: str) -> alt.HConcatChart:
    panels = [_panel([row for row in rows if row["orders"] == orders], title) for orders, title in TITLES.items()]
    networks = len({row["weights"] for row in rows})
    title = f"{name or rows[0]['model']}, {networks} network{'s' if networks > 1 else ''}"
    return alt.hconcat(*panels).properties(title=alt.Title(title, fontSize=14))


def _panel(rows: Sequence[Row], title: str) -> alt.LayerChart:
    areas: dict[str, list[float]] = {}
    for row in rows:
        areas.setdefault(row["selector"], []).append(row["area"])
    families = {row["selector"]: row["family"] for row in rows}
    means = [_mean(selector, some, families) for selector, some in areas.items()]
    order = [one["selector"] for one in sorted(means, key=lambda one: float(one["area"]))]
    y = alt.Y("selector:N").sort(order).title(None).axis(labelLimit=200, grid=True)
    color = alt.Color("family:N", scale=alt.Scale(domain=list(FAMILIES), range=list(FAMILIES.values()))).title("family")
    x = alt.X("area:Q").title(f"mean accuracy while removed, {title}").axis(format="%").scale(zero=False)
    points = alt.Chart(alt.InlineData(values=[_plain(row) for row in rows]), width=WIDTH, height=alt.Step(17))
    points = points.mark_point(size=18, opacity=0.45).encode(x=x, y=y, color=color)
    base = alt.Chart(alt.InlineData(values=means)).encode(y=y, color=color)
    ticks = base.mark_tick(thickness=3, size=13).encode(x="area:Q")
    bars = base.mark_rule(strokeWidth=2).transform_filter("isValid(datum.low)").encode(x="low:Q", x2="high:Q")
    return alt.LayerChart(layer=[bars, points, ticks])


def _plain(row: Mapping[str, Any]) -> Row:
    return {key: row[key] for key in ("selector", "family", "area")}


def _mean(selector: str, areas: Sequence[float], families: Mapping[str, str]) -> Row:
    mean = {"selector": selector, "family": families[selector], "area": float(np.mean(areas))}
    if len(areas) < 3:  # an interval of two networks says nothing
        return mean
    _, low, high = student(np.array(areas))
    return {**mean, "low": low, "high": high}
