"""What charts draw of records, beside sums by hand."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from running import points_of

from tipping.results import charts
from tipping.results.charts import RELEVANT, band, by_epoch, drop, svg


def test_the_chart_draws_the_mean_of_the_seeds() -> None:
    """Along filters at equal shares of each network's own, straight between its points; and one has none."""
    shared = {"config": {}, "model": {"name": "net"}, "data": "digits", "mu": 5.0000001}
    curves = [
        {"removed": [0, 10, 20], "selected": [1.0, 0.6, 0.2], "random": [[1.0, 0.9, 0.8], [1.0, 0.7, 0.4]]},
        {"removed": [0, 40], "selected": [0.8, 0.2], "random": [[0.8, 0.4], [0.8, 0.6]]},
        {"removed": [0], "selected": [0.5], "random": [[0.5], [0.5]]},
    ]
    accuracies = [
        {"intact": 1.0, "selected": 0.2, "random": [0.8, 0.4]},
        {"intact": 0.8, "selected": 0.3, "random": [0.4, 0.6]},
        {"intact": 0.5, "selected": 0.5, "random": [0.5, 0.5]},
    ]
    pairs = enumerate(zip(accuracies, curves, strict=True))
    records = [
        {**shared, "seed": seed, "accuracy": SimpleNamespace(**accuracy), "curve": SimpleNamespace(**curve)}
        for seed, (accuracy, curve) in pairs
    ]
    records.append({**records[0], "mu": 5.0000002})
    chart = charts.accuracy_drop([SimpleNamespace(**record) for record in records])  # type: ignore[misc]
    points, mu = points_of(chart), shared["mu"]
    assert points[None, "relevant filters", mu] == pytest.approx((1 / 3, 0.2, 0.5))
    assert points[None, "random filters", mu] == pytest.approx((3.2 / 6, 0.4, 0.8))
    along = {x: found for (of, kind, x), found in points.items() if (of, kind) == (mu, "relevant filters")}
    assert list(along) == [0, 10, 20]
    assert along[10] == pytest.approx((1.6 / 3, 0.5, 0.6))
    assert along[20] == pytest.approx((0.3, 0.2, 0.5))
    assert points[mu, "random filters", 20] == pytest.approx((3.2 / 6, 0.4, 0.8))
    _, right = chart.to_dict()["vconcat"][0]["hconcat"]
    spread, line, label = right["layer"]
    for layer, drawn in ((spread, ("low", "high")), (line, ("mean", None)), (label, ("mean", None))):
        fields = tuple(layer["encoding"].get(side, {}).get("field") for side in ("y", "y2"))
        assert (fields, layer["encoding"]["x"]["field"]) == (drawn, "x")
    assert spread["encoding"]["detail"]["field"] == line["encoding"]["detail"]["field"] == "mu"
    labels = chart.to_dict()["datasets"][label["data"]["name"]]
    assert [(row["x"], row["mean"], row["label"]) for row in labels] == [(20, pytest.approx(0.3), "5"), (20, 0.2, "5")]


def test_a_band_is_drawn_from_the_smallest_to_the_largest() -> None:
    lines = {RELEVANT: [(np.array([1.0, 2.0]), np.array([1.0, 0.0])), (np.array([1.0, 2.0]), np.array([0.5, 0.0]))]}
    spread, mean = drop(lines, "mu").to_dict()["layer"]
    assert (spread["encoding"]["y"]["field"], spread["encoding"]["y2"]["field"]) == ("low", "high")
    assert mean["encoding"]["y"]["field"] == "mean"


def test_a_band_holds_all_lines() -> None:
    lines = [(np.array([1.0, 4.0]), np.array([1.0, 0.0])), (np.array([2.0, 4.0, 8.0]), np.array([0.9, 0.5, 0.1]))]
    assert band(lines, log=True) == [
        {"x": 2.0, "mean": pytest.approx(0.7), "low": pytest.approx(0.5), "high": pytest.approx(0.9)},
        {"x": 4.0, "mean": pytest.approx(0.25), "low": 0.0, "high": 0.5},
    ]
    assert band(lines, log=False)[0]["low"] == pytest.approx(2 / 3)


def test_means_by_epoch_are_of_networks_that_all_tip() -> None:
    rows = [{"name": "a", "epoch": 1, "at": 3.0, "tips": True}, {"name": "a", "epoch": 1, "at": 8.0, "tips": False}]
    rows += [{"name": "a", "epoch": epoch, "at": at, "tips": True} for epoch in (2, 3) for at in (3.0, 5.0)]
    drawn = svg(by_epoch(rows))
    labels = re.findall(
        r'aria-label="epochs trained: ([^"]*)" role="graphics-symbol" aria-roledescription="(\w+)', drawn
    )
    assert [kind for _, kind in labels].count("point") == len(rows)
    (line,) = re.findall(r'aria-roledescription="line mark"[^>]*? d="([^"]*)"', drawn)
    assert len(re.findall("[ML]", line)) == 2, "epochs 2 and 3"
