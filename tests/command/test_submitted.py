"""Jobs that submitit runs in processes of this machine; those on Slurm are in tests/cluster/."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import children, command, findings, leftovers, run, started

from tipping.command.submitted import Queue

LOCAL = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
LONG = ["mu=5", "seed=0,1", "trainer.max_epochs=40", "visualize=off"]  # enough to be cut short


def workers(folder: Path, process: subprocess.Popen[str]) -> list[int]:
    """The processes of two jobs, once both train."""
    while sum("training" in path.read_text() for path in (folder / "sweep" / ".submitit").glob("*/*.out")) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    controllers = children(process.pid, "submitit.local._local")
    return [worker for one in controllers for worker in children(one, "submitit.core._submit")]


@pytest.mark.cluster
def test_a_sweep_goes_on_without_a_job_that_is_killed(tmp_path: Path) -> None:
    given = command(tmp_path / "local", *LONG, *LOCAL)
    with started(given) as process:
        os.kill(workers(tmp_path / "local", process)[0], signal.SIGKILL)
        _, err = process.communicate()
    assert process.returncode == 1
    (made,) = findings(tmp_path / "local")
    lost = 1 - int(made)
    (line,) = (line for line in err.splitlines() if "failed" in line)
    assert line.startswith(f"job {lost} (seed={lost}) failed: lost; the same command again does what is left (")
    assert "Traceback" not in err
    done = run(given)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "local" / "sweep" / ".submitit").glob("*/*_submitted.pkl"))) == 3
    assert run(command(tmp_path / "alone", *LONG)).returncode == 0
    assert findings(tmp_path / "local") == findings(tmp_path / "alone")


@pytest.mark.parametrize("key", [True, False], ids=["Ctrl+C", "terminated"])
def test_a_command_that_is_stopped_stops_its_jobs(tmp_path: Path, key: bool) -> None:
    with started(command(tmp_path, *LONG, *LOCAL, "trainer.max_epochs=5000")) as process:
        jobs = workers(tmp_path, process)
        if key:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        _, err = process.communicate(timeout=600)
    assert process.returncode == 128 + (signal.SIGINT if key else signal.SIGTERM)
    assert "Traceback" not in err
    assert not [job for job in jobs if Path(f"/proc/{job}").exists()]
    assert not findings(tmp_path)
    assert not leftovers(tmp_path)


def test_without_slurm_there_are_no_jobs_for_it(run_script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    code, _, err = run_script("interpret", "mu=1", "hydra/launcher=submitit_slurm", multirun=True)
    assert code == 1
    assert err.strip() == "hydra/launcher=submitit_slurm: there is no sbatch here; give it where Slurm is"


def test_a_job_that_slurm_no_longer_lists_has_ended() -> None:
    queue = Queue()
    for job in ("7_0", "7_1", "7_10", "8", "9"):
        queue.register_job(job)
    queue._info_dict = queue.read_info(b"7_0|RUNNING\n7_1|NODE_FAIL\n8|PENDING\n9|CONFIGURING\n12|CANCELLED\n")
    ended = [job for job in queue._registered if queue.is_done(job, mode="cache")]
    assert sorted(ended) == ["7_1", "7_10"]
