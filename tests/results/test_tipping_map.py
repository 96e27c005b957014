"""The tipping map of a sweep, as a user gets it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import said

from tipping.command import map as map_command
from tipping.experiment.record import sealed
from tipping.results import tipping_map
from tipping.results.charts import svg
from tipping.results.sweep import networks, read_sweeps
from tipping.results.tipping_map import groups
from tipping.tipping_points.estimate import crossing

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=3", "tracking=off"]
SMALL += ["protocol.draws=2", "curve.points=2", "curve.images=100", "visualize=off"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks at four mu."""
    folder = tmp_path_factory.mktemp("map")
    where = [f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}"]
    said("interpret.py", "-m", *SMALL, *where, "mu=0.1,1,3,10", "seed=0,1")
    return folder / "sweep"


def test_a_sweep_has_a_line_for_each_network(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert map_command.main([str(sweep)]) == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader((sweep / "tipping_points.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1"]
    for row in rows:
        records = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
        own = sorted((r for r in records if str(r["seed"]) == row["seed"]), key=lambda record: record["mu"])
        intact = own[0]["accuracy"]["intact"]
        labels = np.load(next(sweep.glob("*/predictions.npz")))["labels"]
        level = (intact + np.bincount(labels).max() / len(labels)) / 2
        at = crossing(np.log([0.1, 1, 3, 10]), np.array([r["accuracy"]["selected"] for r in own]), level)
        assert float(row["tipping_mu"]) == pytest.approx(np.exp(at))
        assert float(row["tipping_mu_low"]) <= float(row["tipping_mu"]) <= float(row["tipping_mu_high"])
        assert float(row["intact"]) == intact
        assert 0 <= float(row["area_selected"]) <= 1
    assert "keras_cnn" in printed
    assert "0, 1" in printed


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda sweep: [shutil.rmtree(job) for job in sweep.glob("[0-9]*")], "holds no jobs"),
        (lambda sweep: [shutil.rmtree(sweep / job) for job in "1234567"], "has mu=0.1 only; give the sweep of several"),
        (
            lambda sweep: [_edit(sweep / job, "store", "weights", "other") for job in "02"],
            "are of two networks of one seed, which were trained apart: leave one out",
        ),
    ],
    ids=["empty", "one mu", "mixed"],
)
def test_what_cannot_be_compared_is_one_line(sweep: Path, tmp_path: Path, capsys, break_it, sentence: str) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    (copy / "tipping_points.csv").unlink(missing_ok=True)
    break_it(copy)
    assert map_command.main([str(copy)]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(sentence, error)
    assert not (copy / "tipping_points.csv").exists()


def _edit(job: Path, part: str, key: str, value: str) -> None:
    record = json.loads((job / "result.json").read_text())
    record[part][key] = value
    (job / "result.json").write_text(json.dumps(sealed(record)))


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda job: (job / "result.json").write_text("{"), "3"),
        (lambda job: (job / "result.json").write_text('{"schema": 6, "filters": {}, "protocol": null}'), "3"),
        (lambda job: (job / "predictions.npz").write_bytes((job / "predictions.npz").read_bytes()[:100]), "3"),
        (lambda job: (job / "predictions.npz").write_bytes(b""), "3"),
        (lambda job: (job / "predictions.npz").unlink(), "3"),
        (lambda job: _spoil(Path(shutil.copytree(job, job.parent / "9"))), "its record or predictions cannot be read"),
    ],
)
def test_what_is_corrupt_is_named_and_left_out(sweep: Path, tmp_path: Path, capsys, break_it, named: str) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    break_it(copy / "3")
    assert map_command.main([str(copy)]) == 1
    out, err = capsys.readouterr()
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("left out: ")
    assert named in err
    assert "tips at mu" in out


def _spoil(job: Path) -> None:
    with np.load(job / "predictions.npz") as saved:
        arrays = dict(saved)
    np.savez(job / "predictions.npz", **{**arrays, "selected": (arrays["selected"] + 1) % 10})


def test_what_two_sweeps_have_run_counts_once(sweep: Path, tmp_path: Path, capsys) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    assert map_command.main([str(copy)]) == 0
    once = (copy / "tipping_points.csv").read_text()
    shutil.copytree(copy / "3", copy / "9")
    assert map_command.main([str(copy)]) == 0
    assert (copy / "tipping_points.csv").read_text() == once


def test_the_chart_shows_censored_networks_at_the_end_of_their_curve(sweep: Path) -> None:
    found, _ = networks(read_sweeps([sweep])[0])
    intact = [
        one._replace(curves=replace(one.curves, selected_PN=one.curves.intact_N[None].repeat(4, 0))) for one in found
    ]
    drawn = tipping_map.tipping_chart([(group.name, group) for group in groups(intact)]).to_dict()
    most = [one.curves.removed_P[-1] / 8 for one in found]
    for panel, ends in zip(drawn["hconcat"], ([10, 10], most), strict=True):
        values = drawn["datasets"][panel["data"]["name"]]
        marks = [mark for mark in values if mark["ablated"] == "relevant filters" and "at" in mark]
        assert [mark["beyond"] for mark in marks] == ["right", "right"]
        assert [mark["at"] for mark in marks] == pytest.approx(ends)


def test_an_interval_has_a_stroke_at_each_end_that_was_measured(sweep: Path) -> None:
    (group,) = groups(networks(read_sweeps([sweep])[0])[0])
    for low, high, ends in ((1.0, 5.0, [1.0, 5.0]), (0.001, 5.0, [5.0]), (0.001, 1000.0, [])):
        point = group.by_mu._replace(at=0.5, low=np.log(low), high=np.log(high))
        drawn = tipping_map.tipping_chart([("name", group._replace(by_mu=point))]).to_dict()
        marks = drawn["datasets"][drawn["hconcat"][0]["data"]["name"]]
        assert [mark["end"] for mark in marks if "end" in mark] == pytest.approx(ends)
        (bar,) = (mark for mark in marks if "low" in mark)
        mu_P = group.networks[0].curves.mu_P
        assert (bar["low"], bar["high"]) == pytest.approx((max(low, mu_P.min()), min(high, mu_P.max())))


def test_relevant_and_random_filters_have_colors_of_their_own(sweep: Path) -> None:
    (group,) = groups(networks(read_sweeps([sweep])[0])[0])
    drawn = svg(tipping_map.tipping_chart([("name", group)]))
    colors = {
        kind: set(re.findall(rf'aria-label="[^"]*ablated: {kind} filters[^"]*"[^>]*?fill="(#\w+)"', drawn))
        for kind in ("relevant", "random")
    }
    assert colors == {"relevant": {"#c1272d"}, "random": {"#0067a5"}}


def test_groups_of_networks_are_compared(sweep: Path, tmp_path: Path, capsys) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "copy"))
    for job in list(copy.glob("[0-9]")):
        other = Path(shutil.copytree(job, copy / f"1{job.name}"))
        _edit(other, "store", "weights", f"other {json.loads((job / 'result.json').read_text())['seed']}")
        record = json.loads((other / "result.json").read_text())
        record["config"]["model"]["dropout"] = record["model"]["dropout"] = 0.25
        (other / "result.json").write_text(json.dumps(sealed(record)))
    assert map_command.main([str(copy), "--compare", "model.dropout"]) == 0
    out = capsys.readouterr().out
    assert "model.dropout=0.25" in out
    assert re.search(r"1.00 \(.* to .*\)  1.000|censored", out), "they are the same"
    assert map_command.main([str(copy), "--compare", "model.filters"]) == 1
    assert "no two groups of networks differ in it alone" in capsys.readouterr().err
    assert map_command.main([str(copy), "--compare", "model.filtres"]) == 1
    assert "no network has such an option" in capsys.readouterr().err
