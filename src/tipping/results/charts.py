"""The charts of sweeps, drawn with altair: accuracy drops, relevant filters, tipping points."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from tipping.errors import printable
from tipping.experiment.options import flat, model_text, varying_options
from tipping.experiment.record import InterpretRecord
from tipping.experiment.record_parts import CurvePoints
from tipping.results.rendering import SCALE, svg_of

Line = tuple[np.ndarray, np.ndarray]  # rising positions, and the values there
COLORS = {"relevant filters": "#c1272d", "random filters": "#0067a5", "none (intact)": "#888888"}
RELEVANT, RANDOM, INTACT = COLORS
SPANNED = "accuracy (band: all draws and seeds)"
WIDTH, HEIGHT = 360, 260  # pixels
NETWORKS, COLUMN, WIDEST = 24, 8, 150  # of a chart, of those below one another, and characters of a title, at most
FONT = "DejaVu Sans, Verdana, sans-serif"  # the widest font that browsers fall back to; Matplotlib ships it
BEYOND = {"left": "triangle-left", "right": "triangle-right"}


def accuracy_drop(records: Sequence[InterpretRecord]) -> alt.VConcatChart:
    """Draw accuracy against mu, and along the relevant filters of each mu: means over seeds, a row for each network.

    Of many networks the first are drawn, and the title says where the others are.
    """
    networks: dict[str, list[InterpretRecord]] = {}
    apart = ("model.name", "data.name", "model._target_")  # which are named anyway
    options_varying = varying_options(records)
    varying, alone = [one for one in options_varying if one not in apart], "model._target_" not in options_varying
    for record in records:
        config = flat(record.config)
        protocol = [record.protocol["name"]] if any(option.startswith("protocol.") for option in varying) else []
        plain = [option for option in varying if not option.startswith("protocol.") and option in config]
        options = [*protocol, *(f"{option}={config[option]}" for option in plain)]
        name = model_text(record.model["name"], config.get("model._target_"), alone)
        networks.setdefault(" ".join([name, "on", record.data, *options]), []).append(record)
    rows = []
    for network, jobs in itertools.islice(networks.items(), NETWORKS):
        title = alt.Title(printable(f"{network}, {_seeds(jobs)}", WIDEST), fontSize=14)
        rows.append(alt.hconcat(_by_mu(jobs), _by_filters(jobs)).properties(title=title))
    many = len(rows) > COLUMN
    if many:
        rows = [alt.hconcat(*rows[start : start + 3]) for start in range(0, len(rows), 3)]
    drawn = alt.vconcat(*rows).configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e5e5e5")
    if many:
        drawn = drawn.properties(usermeta={SCALE: 1.0})  # finer pixels would take most of the time
    if len(networks) > NETWORKS:
        drawn = drawn.properties(title=f"{NETWORKS} of {len(networks)} networks; all of them are in results.csv")
    return drawn


def _seeds(records: Sequence[InterpretRecord]) -> str:
    seeds = sorted({record.seed for record in records})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _by_mu(records: Sequence[InterpretRecord]) -> alt.LayerChart:
    rows = []
    for mu, jobs in _each_mu(records).items():
        accuracies = [job.accuracy for job in jobs]
        series = {
            INTACT: [accuracy.intact for accuracy in accuracies],
            RANDOM: [draw for accuracy in accuracies for draw in accuracy.random],
            RELEVANT: [accuracy.selected for accuracy in accuracies],
        }
        for ablated, values in series.items():
            rows += _points([mu], np.array(values)[:, None], ablated=ablated)
    values = sorted({record.mu for record in records})
    x = alt.X("x:Q").title("mu (log scale)").scale(type="log", nice=False, padding=12).axis(values=values, format="~g")
    return _banded(rows, COLORS, SPANNED, x=x)


def _by_filters(records: Sequence[InterpretRecord]) -> alt.LayerChart:
    """Draw a line for each mu.

    The curves of the jobs at one mu differ in their number of relevant filters. They are averaged at the same shares of
    their relevant filters, and so are the numbers of filters at these shares.
    """
    rows, ends = [], []
    for mu, jobs in _each_mu(records).items():
        curves = [job.curve for job in jobs]
        longest = max((np.array(curve.removed) for curve in curves), key=len)
        share_P = longest / max(longest[-1], 1)
        x_P = np.mean([share_P * curve.removed[-1] for curve in curves], axis=0).tolist()
        rows += _points(x_P, _at(share_P, curves, "random"), mu=mu, ablated=RANDOM)
        rows += (selected := _points(x_P, _at(share_P, curves, "selected"), mu=mu, ablated=RELEVANT))
        ends.append({**selected[-1], "label": f"{mu:g}"})
    x = alt.X("x:Q").title("filters ablated, strongest first (labels: mu)")
    labels = alt.Chart(alt.InlineData(values=ends)).mark_text(dy=12, color=COLORS[RELEVANT])
    return _banded(rows, COLORS, SPANNED, x=x, detail="mu:N") + labels.encode(x=x, y="mean:Q", text="label:N")


def _at(share_P: np.ndarray, curves: Sequence[CurvePoints], order: str) -> np.ndarray:
    """Return the accuracies of all curves in one order at some shares of their filters: (lines, shares)."""
    lines = [(curve.removed, line) for curve in curves for line in np.atleast_2d(getattr(curve, order))]
    return np.array([np.interp(share_P * removed[-1], removed, line) for removed, line in lines])


def _each_mu(records: Sequence[InterpretRecord]) -> dict[float, list[InterpretRecord]]:
    jobs: dict[float, list[InterpretRecord]] = {}
    for record in records:
        jobs.setdefault(record.mu, []).append(record)
    return jobs


def _banded(rows: list[dict[str, Any]], kinds: Iterable[str], title: str, **encoding: Any) -> alt.LayerChart:
    """Draw rows of `_points`, by what was ablated: means as lines, and bands from the smallest to the largest value."""
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT).encode(color=_ablated(kinds), **encoding)
    y = alt.Y("mean:Q").title(title).scale(domain=[0, 1]).axis(format="%")
    spread = base.mark_area(opacity=0.12).encode(y="low:Q", y2="high:Q")
    return alt.LayerChart(layer=[spread, base.mark_line(point=True, opacity=0.8).encode(y=y)])


def _ablated(kinds: Iterable[str]) -> alt.Color:
    shown = list(kinds)
    scale = alt.Scale(domain=shown, range=[COLORS[kind] for kind in shown])
    return alt.Color("ablated:N", scale=scale).title("ablated").legend(symbolOpacity=1, symbolType="stroke")


def _along_mu() -> alt.X:
    return alt.X().scale(type="log", nice=False, padding=12).axis(format="~g", labelOverlap="greedy")


def drop(lines: Mapping[str, Sequence[Line]], axis: str) -> alt.LayerChart:
    """Draw accuracy along an axis: the mean of lines, and the band they span.

    Args:
        lines: the lines, by what was ablated, a key of `COLORS`.
        axis: `mu`, or anything else for the number of filters ablated.
    """
    rows = [{"ablated": kind, **point} for kind, some in lines.items() for point in band(some, log=axis == "mu")]
    x = _axis(_along_mu(), "x", "mu (log scale)") if axis == "mu" else _axis(alt.X(), "x", "filters ablated")
    return _banded(rows, lines, "accuracy", x=x)


def strengths(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Draw the strength Σ_c |w_fc| of filters as bars, in the order of rows with `layer`, `channel` and `strength`."""
    named = [{"filter": f"{row['layer']}, filter {row['channel']}", "strength": row["strength"]} for row in rows]
    base = alt.Chart(alt.InlineData(values=named), width=WIDTH).mark_bar(color=COLORS[RELEVANT])
    return base.encode(x=alt.X("strength:Q"), y=alt.Y("filter:N").sort(None).title(None))


def by_layer(lines: Mapping[str, Sequence[Line]]) -> alt.Chart:
    """Draw how many filters of each layer are relevant along mu: the mean of the lines of each layer."""
    rows = [{"layer": layer, **point} for layer, some in lines.items() for point in band(some, log=True)]
    x = _axis(_along_mu(), "x", "mu (log scale)")
    color = alt.Color("layer:N", sort=None, scale=alt.Scale(scheme="viridis")).title("layer")
    color = color.legend(symbolOpacity=1, symbolType="stroke")
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT)
    return base.mark_line(point=True).encode(x=x, y=alt.Y("mean:Q").title("relevant filters"), color=color)


def by_epoch(rows: list[dict[str, Any]]) -> alt.LayerChart:
    """Draw how many relevant filters tip networks after each epoch of training.

    Networks that do not tip are triangles. Means are drawn where all networks of a name tip.

    Args:
        rows: for each network and epoch, its `name`, the `epoch`, the number of filters `at` which it tips, or the
            largest number ablated, and whether it `tips`.
    """
    x = alt.X("epoch:Q").title("epochs trained").axis(tickMinStep=1)
    y = alt.Y("at:Q").title("relevant filters that tip it")
    base = alt.Chart(alt.InlineData(values=rows), width=WIDTH, height=HEIGHT)
    base = base.encode(x=x, color=alt.Color("name:N").title(None).legend(labelLimit=300, orient="bottom", columns=1))
    points = base.mark_point(filled=True, opacity=0.6).encode(y=y).transform_filter("datum.tips")
    beyond = base.mark_point(shape="triangle-up", size=60).encode(y=y).transform_filter("!datum.tips")
    means = base.transform_aggregate(at="mean(at)", all="min(tips)", groupby=["name", "epoch"])
    lines = means.transform_filter("datum.all").mark_line().encode(y=y)
    return alt.LayerChart(layer=[points, beyond, lines])


def band(lines: Sequence[Line], log: bool) -> list[dict[str, Any]]:
    """Return the mean, the smallest and the largest value of lines, at each position of any line that all lines reach.

    Args:
        lines: the lines; each is straight between its positions.
        log: whether the lines are straight in ln x in place of x.

    Returns:
        a row for each position: `x`, `mean`, `low`, `high`.
    """
    x_M = np.unique(np.concatenate([x_P for x_P, _ in lines]))
    x_M = x_M[(x_M >= max(min(x_P) for x_P, _ in lines)) & (x_M <= min(max(x_P) for x_P, _ in lines))]
    unit = np.log if log else np.asarray
    return _points(x_M.tolist(), np.array([np.interp(unit(x_M), unit(x_P), y_P) for x_P, y_P in lines]))


def _points(x_M: Sequence[float], y_LM: np.ndarray, **constants: Any) -> list[dict[str, Any]]:
    """Return a row for each position: the mean, smallest and largest value of the lines there, and the constants."""
    ends = zip(x_M, y_LM.mean(0).tolist(), y_LM.min(0).tolist(), y_LM.max(0).tolist(), strict=True)
    return [constants | dict(zip(("x", "mean", "low", "high"), end, strict=True)) for end in ends]


def svg(chart: Any) -> str:
    """Render an altair chart as SVG text, laid out for the widest font that may show it.

    Raises:
        NotDrawn: the chart engine cannot render it.
    """
    chart = chart.configure(font=FONT).configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e5e5e5")
    return svg_of(chart.configure_legend(labelFontSize=12, titleFontSize=12, orient="top", columns=3))


def tipping_points_chart(by_mu: list[dict[str, Any]], by_filters: list[dict[str, Any]]) -> alt.HConcatChart:
    """Draw tipping points in two panels: in mu, and in the share of filters removed.

    Args:
        by_mu, by_filters: the marks of a panel. Each has the `name` of its networks and what was `ablated`, and one of:
            `at`, a network that tips there; `at` and `beyond` (`left` or `right`), a network that tips further on,
            drawn as a triangle; `low` and `high`, the bar of an interval; `end`, a stroke at a measured end of it.
    """
    axes = {
        "mu at which accuracy is midway to chance": _along_mu(),
        "share of filters removed there": alt.X().scale(zero=True).axis(format="%"),
    }
    panels, names = [], list(dict.fromkeys(mark["name"] for mark in by_mu))
    for marks, (title, x) in zip((by_mu, by_filters), axes.items(), strict=True):
        base = alt.Chart(alt.InlineData(values=marks), width=WIDTH, height=alt.Step(30)).encode(
            y=alt.Y("name:N").title(None).sort(names).axis(labelLimit=400),
            yOffset="ablated:N",
            color=_ablated(dict.fromkeys(mark["ablated"] for mark in marks)),
        )
        bars, points = base.mark_rule(strokeWidth=2), base.mark_point(filled=True, size=45, opacity=0.6)
        bars = bars.transform_filter("isValid(datum.low)").encode(x=_axis(x, "low", title), x2="high:Q")
        ends = base.mark_tick(thickness=2, size=9).transform_filter("isValid(datum.end)")
        points = points.transform_filter("isValid(datum.at) && !isValid(datum.beyond)").encode(x=_axis(x, "at", title))
        shape = alt.Shape("beyond:N", scale=alt.Scale(domain=list(BEYOND), range=list(BEYOND.values()))).legend(None)
        beyond = base.mark_point(size=60).transform_filter("isValid(datum.beyond)")
        panels.append(
            alt.layer(
                bars, ends.encode(x=_axis(x, "end", title)), points, beyond.encode(x=_axis(x, "at", title), shape=shape)
            )
        )
    drawn = alt.hconcat(*panels).resolve_scale(color="independent")  # so that each panel has its legend
    return drawn.configure_legend(orient="top").configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e5e5e5")


def _axis(x: alt.X, field: str, title: str) -> alt.X:
    x = x.copy()
    x.shorthand = f"{field}:Q"
    return x.title(title)
