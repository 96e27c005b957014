"""train.py and interpret.py as a user runs them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import accuracy, without
from running import points_of, records, rows_of
from toys import filters_of

from tipping import data
from tipping.experiment.record import parse_record
from tipping.experiment.schema import SCHEMA
from tipping.mu_lasso import spg
from tipping.network import build
from tipping.results import charts
from tipping.selection import Candidates, Draws, collect, draw_controls


def numbers(tree: object) -> list[float]:
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in numbers(value)]
    if isinstance(tree, list):
        return [number for value in tree for number in numbers(value)]
    return [tree] if isinstance(tree, (int, float)) else []


def test_a_sweep_from_nothing_and_again(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=1,20", "visualize=gallery", multirun=True)
    assert code == 0, err
    small, large = records(tmp_path / "out")
    assert [small["mu"], large["mu"]] == [1, 20]
    assert [small["made"]["network"], large["made"]["network"]] == [True, False]
    assert [small["made"]["responses"], large["made"]["responses"]] == [True, False]
    assert 0 < small["filters"]["relevant"] <= large["filters"]["relevant"] <= large["filters"]["total"] == 8
    for record in (small, large):
        assert record["schema"] == SCHEMA
        assert record["config"]["mu"] == record["mu"]
        assert (record["seed"], record["data"], record["protocol"]["name"]) == (0, "digits", "described")
        assert sum(record["filters"]["per_layer"].values()) == record["filters"]["relevant"]
        assert len(record["accuracy"]["random"]) == 2
        assert len(record["selection"]["relative_gap"]) == 10
        assert record["selection"]["certified"] == (max(record["selection"]["relative_gap"]) <= 1e-8)
        assert record["curve"]["removed"][-1] == record["filters"]["relevant"]
        assert set(record["seconds"]) == {
            "data",
            "network",
            "responses",
            "selection",
            "intact",
            "ablation",
            "curve",
            "pictures",
        }
        assert all(math.isfinite(number) for number in numbers(record))
    with np.load(tmp_path / "out" / "1" / "selection.npz", allow_pickle=False) as selection:
        assert (selection["weights"] != 0).any(1).sum() == large["filters"]["relevant"]
        assert selection["layer"].tolist() == ["conv1"] * 4 + ["conv2"] * 4
        assert selection["channel"].tolist() == [0, 1, 2, 3] * 2
    rows = rows_of(tmp_path / "out")
    assert [float(row["mu"]) for row in rows] == [1, 20]
    assert [float(row["selected"]) for row in rows] == [r["accuracy"]["selected"] for r in (small, large)]
    assert (tmp_path / "out" / "accuracy_drop.png").read_bytes().startswith(b"\x89PNG")
    assert "results.csv" in out

    points = points_of(charts.accuracy_drop([parse_record(small), parse_record(large)]))
    for kind, name in (("relevant filters", "selected"), ("none (intact)", "intact")):
        accuracy = large["accuracy"][name]
        assert points[None, kind, 20.0] == (accuracy, accuracy, accuracy)
    removed, draws = small["curve"]["removed"][1], [draw[1] for draw in small["curve"]["random"]]
    assert points[1, "random filters", removed] == (pytest.approx(np.mean(draws)), min(draws), max(draws))

    again, *_ = run_script("interpret", "mu=1", f"hydra.run.dir={tmp_path / 'again'}")
    assert again == 0
    second = json.loads((tmp_path / "again" / "result.json").read_text())
    assert second["made"] == {"network": False, "responses": False}
    assert (second["accuracy"], second["filters"]) == (small["accuracy"], small["filters"])


def test_a_record_holds_what_the_slow_way_gives(run_script, tmp_path: Path) -> None:
    """From the stored network and weights alone: every ablation redone by zeroing weights and biases."""
    code, _, err = run_script("interpret", "mu=1", "model.filters=8", "trainer.max_epochs=8", "curve.images=0")
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    dataset = data.load("digits")
    model = build(record["model"], dataset.image_shape, len(dataset.classes), seed=0).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["tensors"])
    with np.load(tmp_path / "out" / "selection.npz") as saved:
        weights_FC = saved["weights"]
    expected = spg(collect(filters_of(model), dataset.train), [1.0]).weights_MFC[0].numpy()
    assert np.allclose(weights_FC, expected, atol=1e-9)
    order = sorted(np.flatnonzero(weights_FC.any(1)).tolist(), key=lambda f: -np.abs(weights_FC[f]).sum())
    assert 2 < len(order) < 16
    layer_F, rest = filters_of(model).index.layer_F, np.zeros(16)
    drawn = draw_controls(np.array(order), Candidates(layer_F, rest > 0, rest, rest, rest == 0), 1.0, Draws(2))

    def left(filters: list[int]) -> float:
        return accuracy(without(model, filters), dataset.test)

    half = record["curve"]["removed"][1]
    intact, selected, random = left([]), left(order), [left(control.tolist()) for control in drawn]
    chance = max(dataset.test.labels_N.tolist().count(label) for label in range(10)) / len(dataset.test)
    assert record["accuracy"] == {"intact": intact, "selected": selected, "random": random, "chance": chance}
    assert record["filters"]["shared"] == [len(set(order) & set(control.tolist())) for control in drawn]
    assert len({intact, selected, *random}) > 2, "the figures must differ to be told apart"
    assert record["curve"]["selected"] == [intact, left(order[:half]), selected]
    assert record["curve"]["weakest"] == [intact, left(order[::-1][:half]), selected]
    with np.load(tmp_path / "out" / "predictions.npz") as saved:
        assert all(array.dtype == np.uint8 for array in saved.values())
        truth_N = dataset.test.labels_N.numpy()
        assert np.array_equal(saved["labels"], truth_N)
        assert np.array_equal(saved["curve_labels"], truth_N)
        assert [(saved[name] == truth_N).mean() for name in ("intact", "selected")] == [intact, selected]
        assert (saved["random"] == truth_N).mean(1).tolist() == random
        curve = [record["curve"][name] for name in ("selected", "weakest")] + record["curve"]["random"]
        assert (saved["curve"] == truth_N).mean(2).tolist() == curve
    assert record["curve"]["random"][1] == [intact, left(drawn[1][:half].tolist()), random[1]]


def test_both_solvers_give_the_same_record(run_script, tmp_path: Path) -> None:
    records = []
    for solver in ("spg", "homotopy"):
        code, out, err = run_script("interpret", "mu=20", f"selection={solver}", "replace=true")
        assert code == 0, err
        assert "certified" in out
        records.append(json.loads((tmp_path / "out" / "result.json").read_text()))
    assert [record["selection"]["solver"] for record in records] == ["spg", "homotopy"]
    assert all(record["selection"]["certified"] for record in records)
    assert min(records[1]["selection"]["iterations"]) > 0, "breakpoints"
    assert records[0]["selection"]["unique"] == records[1]["selection"]["unique"]
    if all(records[0]["selection"]["unique"]):
        assert records[0]["filters"] == records[1]["filters"]


def test_uncertified_is_said(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=20", "selection.max_iterations=1", "selection.tolerance=1e-30")
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["selection"]["certified"] is False
    assert "NOT certified" in out
    assert "stopped at a relative gap of" in out + err, "each uncertified class says why"


def test_train_keeps_its_network_and_says_its_accuracy(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("train", "curve.every_n_epochs=1", "trainer.max_epochs=2", "mu=2")
    assert code == 0, err
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    assert "test accuracy" in out
    assert str(path) in out
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert list(record["curves"]) == ["1", "2"]
    for curve in record["curves"].values():
        assert curve["tips_at"] is None or 0 < curve["tips_at"] <= curve["removed"][-1]
    assert f"{100 * record['accuracy']['intact']:.2f} %" in out
    content = path.read_bytes()
    assert run_script("train", "trainer.max_epochs=2", "mu=3", "replace=true")[0] == 0
    assert path.read_bytes() == content


def test_a_sweep_does_not_mix_with_an_earlier_one(run_script, tmp_path: Path) -> None:
    assert run_script("interpret", "mu=1", multirun=True)[0] == 0
    before = (tmp_path / "out" / "results.csv").read_text()
    code, _, err = run_script("interpret", "mu=5", multirun=True)
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "hydra.sweep.dir" in err
    assert (tmp_path / "out" / "results.csv").read_text() == before
