"""What may go wrong around a sweep: killed processes, a full or read-only disk, a server that is slow or gone, clocks
that jump. What is there afterwards is whole and right, and the same command again makes the rest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from running import ROOT, SMALL, SWEEP, TWO_WORKERS, children, command, findings, leftovers, run


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sweep where nothing goes wrong, on one worker: its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(command(folder, *SWEEP))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def undisturbed(alone: Path) -> dict[str, Any]:
    """Read what it finds."""
    found = findings(alone)
    assert len(found) == 4
    assert found["0"][1]["weights"] != found["3"][1]["weights"]
    return found


def test_workers_do_not_matter(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    done = run(command(tmp_path, *SWEEP, *TWO_WORKERS))
    assert done.returncode == 0, done.stderr
    assert findings(tmp_path) == undisturbed


def files_of(folder: Path) -> int:
    """Count them, also such as are being written."""
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.long)])
def test_a_sweep_that_is_killed_loses_nothing(
    tmp_path: Path, alone: Path, undisturbed: dict[str, Any], times: int
) -> None:
    """Kill all of its processes at once, a random while after a random number of its files: every record that is there
    is whole and right."""
    draw, kills, rounds = random.Random(0), 0, 0
    folder = tmp_path / "0"
    while kills < times:
        rounds += 1
        process = forked.Popen(
            command(folder, *SWEEP, *TWO_WORKERS),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        files = draw.randint(before := files_of(folder), max(before, files_of(alone)))
        while process.poll() is None and files_of(folder) < files:
            time.sleep(0.02)
        try:
            process.wait(draw.uniform(0, 1))  # seconds
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
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
    process = forked.Popen(
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
        f"{tmp_path / 'sweep'}: no whole result.json of job 0, 1; the same command again runs what is left",
    ]
    assert not findings(tmp_path)


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


def test_sweeps_begun_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    given = [sys.executable, str(ROOT / "interpret.py"), "-m", *SMALL, "tracking=off", "visualize=off", "mu=1"]
    started = [forked.Popen(given, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
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
