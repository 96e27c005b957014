"""W&B's server is gone, slow or dies: no job is lost by it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running import command, findings, run


class Server(ThreadingHTTPServer):
    """A stand-in: it takes all it is sent, until it is asked for the last time.

    Args:
        answers: how many requests it answers.
        silent: seconds before it hangs up, from then on.
    """

    daemon_threads = True

    def __init__(self, answers: int, silent: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers, self.silent = answers, silent
        self.asked: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """Of a user who is logged in there."""
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": "0" * 40}


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        if len(self.server.asked) > self.server.answers:
            time.sleep(self.server.silent)
            self.connection.close()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"data": {"viewer": {"id": "0", "entity": "one", "username": "one"}}}')

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts such servers."""
    started = []

    def start(*given: float) -> Server:
        started.append(Server(*given))
        threading.Thread(target=started[-1].serve_forever, daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("there", "silent"), [(True, 0.0), (False, 0.0), pytest.param(True, 600.0, marks=pytest.mark.long)]
)
def test_a_server_that_is_gone_hangs_up_or_is_silent_costs_no_job(
    serve, tmp_path: Path, there: bool, silent: float
) -> None:
    server = serve(0, silent)
    if not there:
        server.shutdown()
        server.server_close()
    done = run(command(tmp_path, "mu=1,5", "visualize=off", tracking="wandb"), **server.environment, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert bool(server.asked) == there
    assert (done.stdout + done.stderr).count("W&B could not start online") == 1, "the jobs after the first do not wait"
    assert len(findings(tmp_path)) == 2
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 3, "two jobs, and the sweep"


def test_a_server_that_dies_in_mid_run_costs_no_job_and_the_rest_stays_on_disk(serve, tmp_path: Path) -> None:
    server = serve(5)  # two of a log-in, three of the start of a run
    wait = {"WANDB_INIT_TIMEOUT": "5", "WANDB_FINISH_TIMEOUT": "5", "WANDB_X_GRAPHQL_RETRY_MAX": "1"}
    done = run(
        command(tmp_path, "mu=1,5", "visualize=off", tracking="wandb"), **server.environment, **wait, HOME=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert len(server.asked) > 5, done.stdout + done.stderr
    begun_online = min((tmp_path / "wandb").glob("run-*"))
    assert f"wandb sync {begun_online}" in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("W&B could not start online") == 1
    assert len(findings(tmp_path)) == 2
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2, "the second job, and the sweep"
    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(begun_online)]
    entries = map(json.loads, run(inspect).stdout.splitlines())
    history = [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    (selected,) = (metrics["ablation/selected"] for metrics in history if "ablation/selected" in metrics)
    assert selected == findings(tmp_path)["0"][0]["accuracy"]["selected"]
