"""train.py and interpret.py as a user runs them."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, accuracy, filters_of
from test_ablation import without

from tipping import data
from tipping.command import table as table_command
from tipping.experiment.record import parse_record
from tipping.experiment.schema import SCHEMA
from tipping.mu_lasso import spg
from tipping.network import build
from tipping.results import charts, tables
from tipping.selection import Candidates, Draws, collect, controls
from tipping.tracking.run import Run


def records(folder: Path) -> list[dict]:
    return [json.loads((folder / job / "result.json").read_text()) for job in ("0", "1")]


def rows_of(folder: Path) -> list[dict]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


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


def points_of(chart: Any) -> dict[tuple[float | None, str, float], tuple[float, float, float]]:
    """Mean, smallest and largest accuracy that a chart draws, by mu (along filters), what was ablated, and where."""
    rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows if "label" not in row]
    return {(row.get("mu"), row["ablated"], row["x"]): (row["mean"], row["low"], row["high"]) for row in rows}


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


def test_a_record_holds_what_the_slow_way_gives(run_script, tmp_path: Path) -> None:
    """From the stored network and weights alone: every ablation redone by zeroing weights and biases."""
    code, _, err = run_script("interpret", "mu=1", "model.filters=8", "trainer.max_epochs=8", "curve.images=0")
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    dataset = data.load("digits")
    model = build(record["model"], dataset.image_shape, data.CLASSES, seed=0).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["tensors"])
    with np.load(tmp_path / "out" / "selection.npz") as saved:
        weights_FC = saved["weights"]
    expected = spg(collect(filters_of(model), dataset.train), [1.0]).weights_MFC[0].numpy()
    assert np.allclose(weights_FC, expected, atol=1e-9)
    order = sorted(np.flatnonzero(weights_FC.any(1)).tolist(), key=lambda f: -np.abs(weights_FC[f]).sum())
    assert 2 < len(order) < 16
    layer_F, rest = filters_of(model).index.layer_F, np.zeros(16)
    drawn = controls(np.array(order), Candidates(layer_F, rest > 0, rest, rest, rest == 0), 1.0, Draws(2))

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


def test_a_job_that_fails_in_an_old_directory_has_no_record(run_script, tmp_path: Path) -> None:
    assert run_script("interpret")[0] == 0
    assert (tmp_path / "out" / "result.json").exists()
    assert run_script("interpret", "mu=-1")[0] == 1
    assert not (tmp_path / "out" / "result.json").exists()
    assert not (tmp_path / "out" / "selection.npz").exists()


def test_a_store_that_cannot_be_written_to_is_one_line(run_script, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")  # what torch raises when the disk is full

    monkeypatch.setattr(torch, "save", full)
    code, _, err = run_script("train")
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert f"store.dir={tmp_path / 'store'}" in err
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_is_short_is_one_line(run_script, monkeypatch, error: Exception) -> None:
    def short(*_: object) -> None:
        raise error

    monkeypatch.setattr("tipping.experiment.subject.Subject.select", short)
    code, _, err = run_script("interpret", "mu=1")
    assert code == 1
    assert err.startswith("out of memory: give ")
    assert len(err.strip().splitlines()) == 1


def test_both_solvers_give_the_same_record(run_script, tmp_path: Path) -> None:
    records = []
    for solver in ("spg", "homotopy"):
        code, out, err = run_script("interpret", "mu=20", f"selection={solver}")
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


def test_one_failing_job_leaves_the_others(run_script, tmp_path: Path) -> None:
    code, _, err = run_script("interpret", "mu=1,-1,20", multirun=True)
    assert code == 1
    assert [line for line in err.splitlines() if "mu=-1" in line]
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "1" / "result.json").exists()
    rows = rows_of(tmp_path / "out")
    assert [row["job"] for row in rows] == ["0", "2"]
    assert table_command.main([str(tmp_path / "out")]) == 1
    (tmp_path / "out" / "2" / "result.json").write_text('{"schema": 1, "mu"')
    assert tables.gather(tmp_path / "out") == ["1", "2"]
    assert len(rows_of(tmp_path / "out")) == 1


def test_a_failing_training_of_a_sweep_shows_in_the_exit_code(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("train", "seed=-1,0", multirun=True)
    assert code == 1
    assert "seed=-1" in err
    assert out.count("test accuracy") == 1


@pytest.mark.parametrize(
    ("argument", "culprit"),
    [
        ("mu=0", "mu=0"),
        ("mu=-3", "mu=-3"),
        ("mu=nan", "mu=nan"),
        ("mu=inf", "mu=inf"),
        ("mu=many", "mu"),
        ("mu=null", "mu"),
        ("seed=-1", "seed=-1"),
        ("seed=0.5", "seed"),
        ("seed=4294967296", "seed=4294967296"),
        ("hydra.run.dir=/dev/null/job", "/dev/null/job"),
        ("device=tpu", "device=tpu"),
        ("model=resnet", "model/resnet"),
        ("data=cifar", "data/cifar"),
        ("data.name=cifar", "data.name=cifar"),
        ("model.filtres=4", "model.filtres"),
        ("+model.filtres=4", "filtres"),
        ("nothing=4", "nothing"),
        ("model.filters=-4", "model.filters=-4"),
        ("model.filters=4.5", "model.filters=4.5"),
        ("model.filters=few", "model.filters=few"),
        ("model.depth=0", "model.depth=0"),
        ("model.dropout=1", "model.dropout=1"),
        ("model.dropout=-0.5", "model.dropout=-0.5"),
        ("model._target_=tipping.models.Missing", "tipping.models.Missing"),
        ("model=matconvnet", "28x28"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0"),
        ("trainer.batch_size=0", "trainer.batch_size=0"),
        ("trainer.learning_rate=0", "trainer.learning_rate=0"),
        ("protocol.draws=0", "protocol.draws=0"),
        ("protocol.norm=l1", "protocol.norm=l1: give frobenius, spectral, squared"),
        ("protocol.labels=false", "protocol.labels=false: give true, predicted, permuted"),
        ("protocol.sites=dense", "protocol.sites=dense"),
        ("protocol=nosuch", "nosuch"),
        ("randomize=from:conv9", "randomize=from:conv9: give none, all, from:LAYER or only:LAYER, a layer of conv1"),
        ("randomize=conv1", "randomize=conv1"),
        ("model._target_=tipping.models.build", "model._target_=tipping.models.build"),
        (
            "model._target_=tipping.experiment.store.Store",
            "model._target_=tipping.experiment.store.Store: is no torch.nn.Module",
        ),
        ("+model.layers=[conv1,conv9]", "model.layers: conv9 is no layer with filters; there are conv1, conv2"),
        ("+model.layers=conv1", "model.layers"),
        ("+model.checkpoint=nosuch.pt", "model.checkpoint=nosuch.pt"),
        ("model.name=null", "model.name"),
        ("selection.solver=magic", "selection.solver=magic"),
        ("selection.tolerance=0", "selection.tolerance=0"),
        ("curve.points=0", "curve.points=0"),
        ("store.dir=/dev/null/store", "store.dir=/dev/null/store"),
        ("mu=[", "[: cannot be read; options are name=value"),
        ("seed=0,1", "seed=0,1: several values are a sweep; put -m before the options"),
        ("visualize.rules=guided", "visualize.rules: takes a list in brackets, such as [a,b]"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run_script, tmp_path: Path, argument: str, culprit: str) -> None:
    code, _, err = run_script("interpret", argument)
    lines = err.strip().splitlines()
    assert code == 1
    assert len(lines) == 1, err
    assert culprit in lines[0]
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("spoil", ["truncated", "another recipe", "another architecture"])
def test_a_bad_checkpoint_is_one_line(run_script, tmp_path: Path, spoil: str) -> None:
    assert run_script("train")[0] == 0
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    content = path.read_bytes()
    if spoil == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "another architecture":
        saved = torch.load(path, weights_only=True)
        saved["tensors"]["conv2.weight"] = saved["tensors"]["conv2.weight"][:3]
        torch.save(saved, path)
    else:
        path.unlink()
        assert run_script("train", "model.filters=5")[0] == 0
        (other,) = (tmp_path / "store" / "networks").glob("*.pt")
        other.rename(path)
    code, _, err = run_script("interpret")
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert str(path) in err
    assert not list(tmp_path.rglob("result.json"))


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
    assert run_script("train", "trainer.max_epochs=2", "mu=3")[0] == 0
    assert path.read_bytes() == content


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / f"{name}.py"), *arguments, "data=digits"]


def inspected(folder: Path) -> tuple[list[dict], Path]:
    """The records of the one offline W&B run in a folder, as W&B's own reader gives them."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines], run


def test_the_offline_run_holds_config_metrics_curve_and_table(tmp_path: Path) -> None:
    options = ["mu=2", "model.filters=4", "model.depth=2", "trainer.max_epochs=1", f"store.dir={tmp_path / 'store'}"]
    options += [f"tracking.dir={tmp_path}", f"hydra.run.dir={tmp_path / 'sweep' / 'job'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path)}  # nobody is logged in there
    done = subprocess.run(script("interpret", *options), capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.count("W&B: offline run") == 1
    record = json.loads((tmp_path / "sweep" / "job" / "result.json").read_text())
    entries, run = inspected(tmp_path)
    (start,) = (entry["run"] for entry in entries if entry["type"] == "run")
    assert (start["run_group"], start["job_type"]) == ("sweep", "interpret")
    assert {"digits", "keras_cnn", "described"} <= set(start["tags"])
    config = start["config"]["update"]
    assert (config["mu"], config["seed"], config["model"]["filters"]) == (2, 0, 4)
    history = [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    logged = {key: value for item in history for key, value in item.items() if key.startswith("pictures/")}
    names = {key.split(".")[0] for key in logged}
    assert names == {f"pictures/{path.stem}" for path in (tmp_path / "sweep" / "job" / "pictures").glob("*.png")}
    assert logged["pictures/image_0.caption"].startswith("class ")
    assert (run / "files" / logged["pictures/image_0.path"]).read_bytes().startswith(b"\x89PNG")
    (metrics,) = (item for item in history if "ablation/selected" in item)
    assert metrics["mu"] == 2
    midway = (record["accuracy"]["intact"] + record["accuracy"]["chance"]) / 2
    assert metrics["tipping/distance"] == pytest.approx(abs(record["accuracy"]["selected"] - midway))
    assert metrics["ablation/selected"] == record["accuracy"]["selected"]
    assert metrics["ablation/intact"] == record["accuracy"]["intact"]
    assert metrics["ablation/random"] == pytest.approx(np.mean(record["accuracy"]["random"]))
    assert metrics["filters/relevant"] == record["filters"]["relevant"]
    curve = [(item["curve/removed"], item["curve/selected"]) for item in history if "curve/removed" in item]
    assert curve == list(zip(record["curve"]["removed"], record["curve"]["selected"], strict=True))
    assert any("train/loss" in item for item in history)
    (table,) = run.rglob("relevant_filters*.table.json")
    assert len(json.loads(table.read_text())["data"]) == record["filters"]["relevant"]


@pytest.mark.parametrize("key", ["short", ""])
def test_a_wandb_failure_never_ends_a_job(run_script, tmp_path: Path, monkeypatch, key: str) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", key or "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    if not key:
        monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    code, out, err = run_script("interpret", "tracking=wandb", f"tracking.dir={tmp_path}")
    assert code == 0, err
    assert "W&B could not start online" in out + err
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == (1 if key else 0)
    assert (tmp_path / "out" / "result.json").exists()


def test_a_wandb_run_that_fails_midway_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    class Broken:
        offline = True

        def finish(self, exit_code: int) -> None:
            closed.append(exit_code)

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, *_: object) -> None:
            raise ConnectionError("the service is gone")

    run = Run(Broken())  # type: ignore[arg-type]
    run.log({"mu": 1.0})
    run.log({"mu": 2.0})
    run.finish(1)
    assert closed == [1], "or the next job would write into this run"
    assert [record.getMessage() for record in caplog.records] == [
        "W&B failed, and this job goes on without it: the service is gone"
    ]


def test_each_job_of_a_sweep_has_a_run_of_its_own(run_script, tmp_path: Path, monkeypatch) -> None:
    """Also after a job in which W&B failed."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    log, calls = Run.log, []

    def fail_once(run: Run, metrics: dict) -> None:
        calls.append(metrics)
        if len(calls) == 1:
            metrics = {"mu": lambda: "cannot be logged"}
            monkeypatch.setattr(run._run, "log", lambda _: 1 / 0)
        log(run, metrics)

    monkeypatch.setattr(Run, "log", fail_once)
    code, out, err = run_script("interpret", "mu=1,2", "tracking=wandb", f"tracking.dir={tmp_path}", multirun=True)
    assert code == 0, err
    assert (out + err).count("W&B failed") == 1
    mus = set()
    for run in (tmp_path / "wandb").glob("offline-run-*"):
        command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(run)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        (start,) = (entry["run"] for entry in map(json.loads, lines) if entry["type"] == "run")
        mus.add(start["config"]["update"]["mu"])
    assert mus == {1, 2}


def test_a_sweep_does_not_mix_with_an_earlier_one(run_script, tmp_path: Path) -> None:
    assert run_script("interpret", "mu=1", multirun=True)[0] == 0
    before = (tmp_path / "out" / "results.csv").read_text()
    code, _, err = run_script("interpret", "mu=5", multirun=True)
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "hydra.sweep.dir" in err
    assert (tmp_path / "out" / "results.csv").read_text() == before


def busy_seconds(process: int) -> float:
    """How long a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the time a process has computed is read from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order_and_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    options = ["-m", "mu=2,5", "trainer.max_epochs=1000", f"store.dir={tmp_path / 'store'}"]
    options += [f"tracking.dir={tmp_path}", f"hydra.sweep.dir={tmp_path / 'out'}"]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    job = subprocess.Popen(
        script("interpret", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert job.stdout
    for line in job.stdout:
        if line.startswith("training"):
            break
    started = busy_seconds(job.pid)
    while busy_seconds(job.pid) < started + 12:  # until its first steps are logged, also beside other work
        time.sleep(0.1)
    job.send_signal(number)
    time.sleep(0.2)
    job.send_signal(number)  # an impatient user must not cut the end short
    _, err = job.communicate(timeout=600)
    assert job.returncode == 128 + number
    assert f"stopped by {number.name}" in err
    assert f"job 0 of {tmp_path / 'out'}" in err, "what there is of the sweep is gathered"
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))
    entries, _ = inspected(tmp_path)
    assert any("train/loss" in entry["history"]["item"] for entry in entries if entry["type"] == "history")
    assert next(entry["exit"] for entry in entries if entry["type"] == "exit")["exit_code"] == 1
