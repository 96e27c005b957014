"""The W&B runs of jobs, and jobs that go on without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import inspected, printed

from tipping.tracking.run import Run


@pytest.mark.usefixtures("nobody")
def test_the_offline_run_holds_config_metrics_curve_and_table(tmp_path: Path) -> None:
    options = ["mu=2", "model.filters=4", "model.depth=2", "trainer.max_epochs=1", f"store.dir={tmp_path / 'store'}"]
    options += [f"tracking.dir={tmp_path}", f"hydra.run.dir={tmp_path / 'sweep' / 'job'}"]
    assert printed("interpret.py", *options, "data=digits").count("W&B: offline run") == 1
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
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
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
