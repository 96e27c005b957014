"""W&B's server is gone, slow or dies: no job is lost by it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from running import command, findings, run, started


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


class Given(NamedTuple):
    """A sweep that is logged to a server."""

    folder: Path
    server: Server
    process: subprocess.Popen[str]

    def ended(self) -> str:
        """Wait for its end, without failure: what it has printed."""
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        assert len(findings(self.folder)) == 2
        return out + err


@pytest.fixture(scope="module")
def sweeps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Given]]:
    """Begin sweeps beside servers that fail, all together, as they mostly wait."""
    servers = {"hangs up": Server(0), "gone": Server(0), "dies": Server(5)}  # two of a log-in, three of a run's start
    if request.config.getoption("--long"):
        servers["silent"] = Server(0, 600)
    few = {"WANDB_X_GRAPHQL_RETRY_MAX": "1"}  # of the three by default, each waits for twice as long
    own = {"gone": few, "hangs up": few, "silent": {}}
    own["dies"] = {**few, "WANDB_INIT_TIMEOUT": "600", "WANDB_FINISH_TIMEOUT": "5"}
    given = {}
    with ExitStack() as stack:
        for name, server in servers.items():
            stack.enter_context(server)
            if name != "gone":
                threading.Thread(target=server.serve_forever, daemon=True).start()
                stack.callback(server.shutdown)
            else:
                server.server_close()
            folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
            line = command(folder, "mu=1,5", "visualize=off", tracking="wandb")
            environment = {**server.environment, **own[name], "HOME": str(folder)}
            given[name] = Given(folder, server, stack.enter_context(started(line, **environment)))
        yield given


@pytest.mark.parametrize("name", ["hangs up", "gone", pytest.param("silent", marks=pytest.mark.long)])
def test_a_server_that_is_gone_hangs_up_or_is_silent_costs_no_job(sweeps: dict[str, Given], name: str) -> None:
    folder, server, _ = sweeps[name]
    said = sweeps[name].ended()
    assert bool(server.asked) == (name != "gone")
    assert said.count("W&B could not start online") == 1, "the jobs after the first do not wait"
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3, "two jobs, and the sweep"


def test_a_server_that_dies_in_mid_run_costs_no_job_and_the_rest_stays_on_disk(sweeps: dict[str, Given]) -> None:
    folder, server, _ = sweeps["dies"]
    said = sweeps["dies"].ended()
    assert len(server.asked) > 5, said
    begun_online = min((folder / "wandb").glob("run-*"))
    assert f"wandb sync {begun_online}" in said
    assert said.count("W&B could not start online") == 1
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 2, "the second job, and the sweep"
    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(begun_online)]
    entries = map(json.loads, run(inspect).stdout.splitlines())
    history = [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    (selected,) = (metrics["ablation/selected"] for metrics in history if "ablation/selected" in metrics)
    assert selected == findings(folder)["0"][0]["accuracy"]["selected"]
