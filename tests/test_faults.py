"""What may go wrong around a sweep: killed processes, a full or read-only disk, a server that is slow or gone, clocks
that jump. What is there afterwards is whole and right, and the same command again makes the rest."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

SMALL = [
    "data=digits",
    "model.filters=4",
    "model.depth=2",
    "trainer.max_epochs=2",
    "protocol.draws=2",
    "curve.points=2",
]
SMALL += ["curve.images=100", "visualize.images=1", "visualize.filters_per_class=1"]
SWEEP = ["seed=0,1", "mu=1,5"]
HALF = ["mu=1,5"]  # its first two jobs
TWO_WORKERS = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
TIMES = {"seconds": 0, "ended": 0, "made": 0, "pictures": 0}  # pictures are drawn when all else is written


def command(folder: Path, *options: str, tracking: str = "off") -> list[str]:
    places = [f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}", f"tracking.dir={folder}"]
    return [sys.executable, str(ROOT / "interpret.py"), "-m", *SMALL, *places, f"tracking={tracking}", *options]


def run(given: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(given, capture_output=True, text=True, env=own, check=False)


def findings(folder: Path) -> dict[str, Any]:
    """All that the jobs of a sweep found, but for times: each record with its arrays, each of which can be read."""
    found = {}
    for path in sorted((folder / "sweep").glob("*/result.json")):
        record, arrays = json.loads(path.read_text()) | TIMES, {}
        for name in ("selection", "predictions"):
            with np.load(path.with_name(f"{name}.npz"), allow_pickle=False) as held:
                arrays |= {key: held[key].tolist() for key in held}
        record["config"] |= {"store": "", "tracking": ""}
        found[path.parent.name] = (record, arrays)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the sweep finds when nothing goes wrong, on one worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(command(folder, *SWEEP))
    assert done.returncode == 0, done.stderr
    found = findings(folder)
    assert len(found) == 4
    assert found["0"][1]["weights"] != found["3"][1]["weights"]
    return found


@pytest.fixture(scope="module")
def half(undisturbed: dict[str, Any]) -> dict[str, Any]:
    """What half of it finds."""
    return {job: undisturbed[job] for job in ("0", "1")}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_workers_do_not_matter(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    done = run(command(tmp_path, *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"))
    assert done.returncode == 0, done.stderr
    assert findings(tmp_path) == undisturbed


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.long)])
def test_a_sweep_that_is_killed_loses_nothing(tmp_path: Path, undisturbed: dict[str, Any], times: int) -> None:
    """All of its processes at once, at random moments: every record that is there is whole and right."""
    draw, kills, rounds = random.Random(0), 0, 0
    folder = tmp_path / "0"
    while kills < times:
        rounds += 1
        begun = time.monotonic()
        process = subprocess.Popen(
            command(folder, *SWEEP, *TWO_WORKERS),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            process.wait(draw.uniform(3, 25))  # seconds; the start takes the first few
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, f"after {time.monotonic() - begun:.0f} s"
        found = findings(folder)
        assert all(undisturbed[job] == one for job, one in found.items())
        if process.returncode == 0:
            assert found == undisturbed
            folder = tmp_path / str(rounds)
    done = run(command(folder, *SWEEP, *TWO_WORKERS))
    assert done.returncode == 0, done.stderr
    assert findings(folder) == undisturbed


def test_a_worker_that_is_killed_is_one_line(tmp_path: Path) -> None:
    """As the system does when memory is short."""
    process = subprocess.Popen(
        command(tmp_path, *SWEEP, *TWO_WORKERS, "trainer.max_epochs=2000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    begun = [tmp_path / "sweep" / job / ".hydra" / "overrides.yaml" for job in ("0", "1")]
    while not all(path.exists() for path in begun):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(children(process.pid, "LokyProcess")[0], signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.splitlines() == [
        "a worker was killed, perhaps for want of memory; the same command again does what is left",
        f"no readable result.json of this version: job 0, 1 of {tmp_path / 'sweep'}",
    ]
    assert not findings(tmp_path)


def children(parent: int, name: str) -> list[int]:
    """Processes started by another, of which the command line has a name."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_text()
            above = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if above == parent and name in line:
            found.append(int(path.name))
    return found


def test_workers_share_the_cores(tmp_path: Path) -> None:
    given = command(tmp_path, "mu=1,5", "visualize=off", *TWO_WORKERS)
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert subprocess.run(given, capture_output=True, env=free, check=True).returncode == 0
    devices = [json.loads(path.read_text())["device"] for path in (tmp_path / "sweep").glob("*/result.json")]
    assert all(device.startswith(f"cpu, {max(1, len(os.sched_getaffinity(0)) // 2)} threads") for device in devices)


def test_memory_that_is_short_is_one_line(tmp_path: Path) -> None:
    """Where the system refuses to give it."""
    limited = 'ulimit -v 6000000; exec "$@"'  # KiB; the program itself maps about half of it
    given = command(tmp_path, "mu=1", "model.filters=20000", "visualize=off")
    done = run(["bash", "-c", limited, "bash", *given])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "memory" in done.stderr
    assert not leftovers(tmp_path)


# ---- disks


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own in a folder."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("place", "kibibytes"), [("store", 30), ("store", 200), ("sweep", 60)])
def test_a_full_disk_is_one_line_a_job(tmp_path: Path, half: dict[str, Any], place: str, kibibytes: int) -> None:
    with mounted(tmp_path / place, f"size={kibibytes}k"):
        done = run(command(tmp_path, *HALF))
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert any(line.startswith("job 0 (") for line in lines)
        assert all(str(tmp_path / place) in line for line in lines if "No space" in line)
        assert not leftovers(tmp_path)
        assert all(half[job] == one for job, one in findings(tmp_path).items())
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path / place)], check=True)
        again = run(command(tmp_path, *HALF))
        assert again.returncode == 0, again.stderr
        assert findings(tmp_path) == half


@pytest.mark.parametrize("place", ["store", "sweep"])
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, place: str) -> None:
    with mounted(tmp_path / place, "ro"):
        done = run(command(tmp_path, "mu=1", "visualize=off"))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert str(tmp_path / place) in done.stderr
    assert not findings(tmp_path)


# ---- clocks


def test_sweeps_begun_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    given = [sys.executable, str(ROOT / "interpret.py"), "-m", *SMALL, "tracking=off", "visualize=off", "mu=1"]
    started = [subprocess.Popen(given, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    found = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "interpret").glob("*/0/result.json")]
    assert sorted(record["made"]["network"] for record in found) == [False, True], "one waited for the other"


def test_a_clock_that_jumps_back_changes_nothing(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, real = iter(range(10**9, 0, -(10**6))), time.time
    monkeypatch.setattr(time, "time", lambda: float(next(now, real())))
    code, _, err = run_script("interpret", "mu=1")
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert all(seconds >= 0 for seconds in record["seconds"].values())
    assert "done before" in run_script("interpret", "mu=1")[1]


# ---- Weights & Biases


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
