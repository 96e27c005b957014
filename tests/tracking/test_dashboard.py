"""What W&B gets beside the runs of jobs: a sweep's summary, and the workspace that compares jobs."""

from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from matplotlib.figure import Figure
from running import inspected

from tipping.command import dashboard
from tipping.experiment import config
from tipping.tracking import Run, run
from tipping.tracking.dashboard import dashboard as workspace

pytestmark = pytest.mark.usefixtures("nobody")
ROWS = [
    {"job": "0", "model": "keras_cnn", "mu": 10, "intact": 0.95, "certified": True, "random": "0.9 0.8", "overlap": ""},
    {"job": "1", "model": "matconvnet", "mu": 100.0, "intact": float("inf"), "certified": "", "random": "", "dead": 3},
]


class Server(ThreadingHTTPServer):
    """As much of W&B's server as the dashboard needs, for somebody; keeps the views it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.views: list[dict[str, Any]] = []


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        view = asked["variables"] if "upsertView" in asked["query"] else None
        answer: dict[str, Any] = {"data": {"viewer": {"id": "1", "entity": "somebody", "username": "somebody"}}}
        if view and view["entityName"] == "somebody":
            self.server.views.append(view)
            answer = {"data": {"upsertView": {"view": {"id": "1", "name": view["name"]}, "inserted": True}}}
        elif view:
            answer = {"data": None, "errors": [{"message": "permission denied", "path": ["upsertView"]}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Somebody is logged in there."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield server
        server.shutdown()
        thread.join()


def panels(kind: str, *sections: str) -> list[dict[str, Any]]:
    """The panels of a kind, as the app gets them."""
    spec = workspace("somebody", "tipping")._model.spec.model_dump(by_alias=True, exclude_none=True)
    found = spec["section"]["panelBankConfig"]["sections"]
    return [
        panel["config"]
        for section in found
        if not sections or section["name"] in sections
        for panel in section["panels"]
        if panel["viewType"] == kind
    ]


def lines() -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(plot["metrics"]): plot for plot in panels("Run History Line Plot")}


AGAINST_MU = ["ablation/intact", "ablation/selected", "ablation/random", "tipping/distance", "seconds/selection"]


@pytest.mark.parametrize(
    ("x", "group", "metrics"),
    [
        ("mu", "series.value", [(metric,) for metric in AGAINST_MU]),
        ("mu", "series.value", [("ablation/intact", "ablation/selected", "ablation/random")]),
        ("curve/removed", "series_at_mu.value", [(f"curve/{order}",) for order in ("selected", "weakest", "random")]),
    ],
)
def test_lines_are_means_over_seeds_in_a_band_of_all(x: str, group: str, metrics: list[tuple[str, ...]]) -> None:
    for each in metrics:
        plot = lines()[each]
        assert plot["xAxis"] == x
        assert (plot["aggregate"], plot["groupBy"]) == (True, group)
        assert (plot["groupAgg"], plot["groupArea"]) == ("mean", "minmax")
        assert plot.get("xLogScale", False) == (x == "mu")


def test_the_jobs_themselves_are_there_too() -> None:
    points = {(plot["xAxis"], plot["yAxis"]) for plot in panels("Scatter Plot")}
    assert points == {("config:mu.value", f"summary:ablation/{kind}") for kind in ("selected", "random")}


def test_the_dashboard_shows_what_a_job_logs(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    fewer = ["visualize.filters_per_class=1", "visualize.rules=[guided]"]
    code, _, err = run_script("interpret", "mu=2", *fewer, "tracking=wandb", f"tracking.dir={tmp_path}")
    assert code == 0, err
    entries, _ = inspected(tmp_path)
    logged = {key for entry in entries if entry["type"] == "history" for key in entry["history"]["item"]}
    configured = {key for entry in entries if entry["type"] == "config" for key in entry["config"]["update"]}
    of_trainings = {"tipping/filters", "epoch"}
    for metrics, plot in lines().items():
        assert {*metrics, plot["xAxis"]} - of_trainings <= logged
        assert (
            {plot["groupBy"].removesuffix(".value")} <= configured if "groupBy" in plot else of_trainings >= {*metrics}
        )
    pictures = {key.removesuffix("._type") for key in logged if key.startswith("pictures/") and key.endswith("._type")}
    shown = {key for panel in panels("Media Browser", "Pictures") for key in panel["mediaKeys"]}
    assert pictures
    assert pictures <= shown
    assert {key for key in shown if "image_" in key} <= pictures
    check_groups(json.loads((tmp_path / "out" / "result.json").read_text()))


def check_groups(record: dict[str, Any]) -> None:
    """Jobs that differ in their seed only are one group, those that differ in mu only one line, all others apart."""
    series, at_mu = groups(record, "seed", record["seed"])
    assert groups(record, "seed", 1) == (series, at_mu)
    assert groups(record, "mu", 3)[0] == series
    assert groups(record, "mu", 3)[1] != at_mu
    others = {"model.filters": 5, "model.name": "own", "model._target_": "mine.Net", "data": "mnist"}
    others |= {"protocol.name": "described, control=live", "config.randomize": "all", "config.trainer.max_epochs": 7}
    assert len({series, *(groups(record, path, value)[0] for path, value in others.items())}) == 1 + len(others)


def groups(record: dict[str, Any], path: str, value: object) -> tuple[str, str]:
    """What a job is grouped by that differs in one entry of its record."""
    changed, updates = copy.deepcopy(record), []
    *folders, key = path.split(".")
    at = changed
    for folder in folders:
        at = at[folder]
    at[key] = value
    run = MagicMock()
    run.config.update = updates.append
    Run(run).log_result(changed, ([], []))
    return updates[0]["series"], updates[0]["series_at_mu"]


def test_what_it_shows_of_sweeps_is_named() -> None:
    (charts,) = panels("Media Browser", "Sweeps as a whole")
    assert charts["mediaKeys"] == [f"charts/{name}" for name in run.CHARTS]
    tables = json.dumps(panels("Weave", "Sweeps as a whole"))
    assert all(f'"{name}"' in tables for name in run.TABLES)


@pytest.mark.parametrize("mode", [None, "offline"])
def test_without_a_login_the_command_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    assert dashboard.main([]) == 0
    out, err = capsys.readouterr()
    assert not err
    for hint in ("wandb login", "wandb sync wandb/offline-run-*", "wandb leet"):
        assert hint in out
    assert len(out.splitlines()) <= 5


def test_the_command_saves_the_dashboard(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    assert dashboard.main(["--project", "mine"]) == 0
    out, _ = capsys.readouterr()
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("somebody", "mine")
    (url,) = out.splitlines()
    assert url.startswith(f"{os.environ['WANDB_BASE_URL']}/somebody/mine?nw=")
    assert '"ablation/selected"' in view["spec"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "permission denied"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:1", "WANDB_HTTP_TIMEOUT": "1"}, "http://127.0.0.1:1"),
        ({"WANDB_API_KEY": "short"}, "WANDB_API_KEY"),
    ],
    ids=["another's entity", "no server", "no key"],
)
def test_a_failure_of_the_command_is_one_line(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dashboard.main(["--entity", "another"]) == 1
    out, err = capfd.readouterr()
    assert not out
    (line,) = err.splitlines()
    assert line.startswith("the dashboard could not be saved: ")
    assert said in line


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The folder of a sweep whose name W&B would not take for an artifact."""
    folder = tmp_path / "sweep, mu=1"
    folder.mkdir()
    (folder / "results.csv").write_text("job\n0\n")
    Figure(figsize=(1, 1)).savefig(folder / "accuracy_drop.png")
    return folder


def summarise(sweep: Path, **changed: Any) -> None:
    given = {"tables": {"jobs": ROWS}, "charts": {"accuracy_drop": sweep / "accuracy_drop.png"}}
    given["curves"] = {
        "keras_cnn": [{"mu": 10.0, "intact": 0.95, "selected": 0.5}, {"mu": 20.0, "intact": 0.95, "selected": 0.1}]
    }
    given |= {"files": [sweep / "results.csv"], "summary": {"tipping_mu/keras_cnn": 61.5}}
    options = config.Tracking(enabled=True, project="tipping", dir=str(sweep.parent))
    run.summarise(sweep, **({"tracking": options} | given | changed))


def test_a_sweep_is_summarised_in_a_run_of_its_own(sweep: Path) -> None:
    summarise(sweep)
    entries, run = inspected(sweep.parent)
    (start,) = (entry["run"] for entry in entries if entry["type"] == "run")
    assert (start["run_group"], start["job_type"]) == (sweep.name, "summary")
    assert start["display_name"] == f"{sweep.name}/summary"
    summary = {k: v for entry in entries if entry["type"] == "summary" for k, v in entry["summary"]["update"].items()}
    assert summary["tipping_mu/keras_cnn"] == 61.5
    assert summary["jobs.nrows"] == len(ROWS)
    history = [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    over_seeds = [item for item in history if "mu" in item]
    assert [(one["mu"], one["over_seeds/selected/keras_cnn"]) for one in over_seeds] == [(10, 0.5), (20, 0.1)]
    assert all(one["over_seeds/intact/keras_cnn"] == 0.95 for one in over_seeds)
    (table,) = run.rglob("jobs*.table.json")
    assert json.loads(table.read_text()) == {
        "columns": ["job", "model", "mu", "intact", "certified", "random", "overlap", "dead"],
        "data": [
            ["0", "keras_cnn", 10, 0.95, True, "0.9 0.8", None, None],
            ["1", "matconvnet", 100, None, None, None, None, 3],
        ],
    }
    chart = (run / "files" / summary["charts/accuracy_drop.path"]).read_bytes()
    assert chart == (sweep / "accuracy_drop.png").read_bytes()
    (artifact,) = (entry["artifact"] for entry in entries if entry.get("artifact", {}).get("type") == "report")
    assert artifact["name"] == "sweep-mu-1-report"
    assert [file["path"] for file in artifact["manifest"]["contents"]] == ["results.csv"]
    assert next(entry["exit"] for entry in entries if entry["type"] == "exit").get("exit_code", 0) == 0

    sync = [str(Path(sys.executable).parent / "wandb"), "sync", "--dry-run", str(run)]
    done = subprocess.run(sync, capture_output=True, text=True, check=True, env={**os.environ, "WANDB_SILENT": "false"})
    assert "Would sync 1 run" in done.stdout + done.stderr


def test_a_sweep_without_numbers_or_files_is_summarised_too(sweep: Path) -> None:
    summarise(sweep, tables={"jobs": []}, curves={}, charts={}, files=[], summary={})
    entries, _ = inspected(sweep.parent)
    assert not [entry for entry in entries if entry.get("artifact", {}).get("type") == "report"]


@pytest.mark.parametrize("by", ["option", "environment"])
def test_nothing_is_made_with_tracking_off(sweep: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    options = config.Tracking(enabled=by == "environment", project="tipping", dir=str(sweep.parent))
    before = sorted(sweep.parent.rglob("*"))
    summarise(sweep, tracking=options)
    assert sorted(sweep.parent.rglob("*")) == before


def test_a_failing_summary_is_said_once(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    summarise(sweep, charts={"accuracy_drop": sweep / "missing.png"}, files=[sweep / "missing.csv"])
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (line,) = warnings
    assert line.startswith("W&B failed, and this job goes on without it: ")
    assert "missing.png" in line
    entries, _ = inspected(sweep.parent)
    assert any(entry["type"] == "exit" for entry in entries), "the run is closed"


def test_a_summary_without_wandb_is_said_once(
    sweep: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    summarise(sweep)
    assert [record.getMessage() for record in caplog.records] == ["W&B could not start offline: division by zero"]
