"""Records of jobs → the accuracy-drop chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

Record = dict[str, Any]
COLORS = {"relevant filters": "#c1272d", "random filters": "#0067a5", "none (intact)": "#888888"}
RELEVANT, RANDOM, INTACT = COLORS
WIDTH, HEIGHT = 360, 260  # pixels


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one level of dotted options."""
    options: dict[str, Any] = {}
    for key, value in tree.items():
        options |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return options


def varying_options(records: Sequence[Record]) -> list[str]:
    """The options that differ between jobs, but for mu and seed: what tells their networks apart."""
    configs = [flat(record["config"]) for record in records]
    options = dict.fromkeys(option for config in configs for option in config)
    different = [option for option in options if len({json.dumps(config.get(option)) for config in configs}) > 1]
    return [option for option in different if option not in ("mu", "seed", "model._target_")]


def accuracy_drop(records: Sequence[Record]) -> alt.VConcatChart:
    """Accuracy against mu, and along each job's filters: a row for each network, lines are means over its seeds."""
    networks: dict[str, list[Record]] = {}
    varying = [option for option in varying_options(records) if option != "model.name"]
    for record in records:
        config = flat(record["config"])
        options = [f"{option}={config[option]}" for option in varying if option in config]
        networks.setdefault(" ".join([record["model"]["name"], *options]), []).append(record)
    rows = [
        alt.hconcat(_by_mu(jobs), _by_filters(jobs)).properties(title=alt.Title(network, fontSize=14))
        for network, jobs in networks.items()
    ]
    return alt.vconcat(*rows).configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e5e5e5")


def _by_mu(records: Sequence[Record]) -> alt.LayerChart:
    rows = []
    for record in records:
        accuracy = record["accuracy"]
        series = {INTACT: [accuracy["intact"]], RANDOM: accuracy["random"], RELEVANT: [accuracy["selected"]]}
        rows += [
            {"mu": record["mu"], "ablated": ablated, "accuracy": value}
            for ablated, values in series.items()
            for value in values
        ]
    values = sorted({record["mu"] for record in records})
    x = alt.X("mu:Q").title("mu (log scale)").scale(type="log", nice=False, padding=12).axis(values=values, format="~g")
    return _lines(rows, x)


def _by_filters(records: Sequence[Record]) -> alt.LayerChart:
    rows = []
    for record in records:
        curve = record["curve"]
        for ablated, lines in ((RANDOM, curve["random"]), (RELEVANT, [curve["selected"]])):
            rows += [
                {"mu": record["mu"], "removed": removed, "ablated": ablated, "accuracy": value}
                for line in lines
                for removed, value in zip(curve["removed"], line, strict=True)
            ]
    x = alt.X("removed:Q").title("filters ablated, strongest first; one line for each mu")
    return _lines(rows, x, detail="mu:N")


def _lines(rows: list[dict[str, Any]], x: alt.X, **encoding: Any) -> alt.LayerChart:
    """Means as lines, and bands from the smallest to the largest value."""
    scale = alt.Scale(domain=list(COLORS), range=list(COLORS.values()))
    color = alt.Color("ablated:N", scale=scale).title("ablated").legend(symbolOpacity=1, symbolType="stroke")
    y = alt.Y("accuracy:Q").aggregate("mean").title("test accuracy").scale(domain=[0, 1]).axis(format="%")
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT).encode(x=x, color=color, **encoding)
    band = base.mark_area(opacity=0.12).encode(y="min(accuracy):Q", y2="max(accuracy):Q")
    return alt.LayerChart(layer=[band, base.mark_line(point=True, opacity=0.8).encode(y=y)])
