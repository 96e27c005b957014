"""Sweeps on a real Slurm of one node: jobs that are cancelled, a node that fails, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import command, findings, leftovers, run
from servers import Slurm, slurm, wait_until

pytestmark = pytest.mark.cluster
ON_SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]
SWEEP = ["mu=5", "seed=0,1,2", "trainer.max_epochs=40", "visualize=off"]  # a job takes seconds, enough to be cut short


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the sweep finds in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(command(folder, *SWEEP))
    assert done.returncode == 0, done.stderr
    assert len(findings(folder)) == 3
    return findings(folder)


@contextmanager
def started(cluster: Slurm, given: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    own = {**cluster.environment, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(given, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def ended(cluster: Slurm, given: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    with started(cluster, given, **environment) as process:
        out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(given, process.returncode, out, err)


def training(process: subprocess.Popen[str], folder: Path, number: int) -> str:
    """The id of a job that trains, waited for."""

    def found() -> list[Path]:
        assert process.poll() is None, "the command has ended"
        logs = (folder / "sweep" / ".submitit").glob(f"*_{number}/*_log.out")
        return [path for path in logs if "training" in path.read_text()]

    wait_until(found)
    return found()[0].parent.name


def submitted(folder: Path) -> int:
    return len(list((folder / "sweep" / ".submitit").glob("*/*_submitted.pkl")))


def complete(cluster: Slurm, folder: Path, given: list[str], undisturbed: dict[str, Any], left: int) -> None:
    """The same command again makes what is left, and nothing else."""
    before, made = submitted(folder), {name: path_time(folder, name) for name in findings(folder)}
    assert len(made) == 3 - left
    assert all(undisturbed[job] == one for job, one in findings(folder).items())
    assert not leftovers(folder)
    done = ended(cluster, given)
    assert done.returncode == 0, done.stderr
    assert findings(folder) == undisturbed
    assert submitted(folder) == before + left
    assert {name: path_time(folder, name) for name in made} == made
    assert len((folder / "sweep" / "results.csv").read_text().splitlines()) == 4


def path_time(folder: Path, name: str) -> int:
    return (folder / "sweep" / name / "result.json").stat().st_mtime_ns


def test_a_sweep_finds_what_one_process_does(cluster: Slurm, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    done = ended(cluster, command(tmp_path, *SWEEP, *ON_SLURM, tracking="wandb"), WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert findings(tmp_path) == undisturbed
    assert len((tmp_path / "sweep" / "results.csv").read_text().splitlines()) == 4
    assert (tmp_path / "sweep" / "report.html").is_file()
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 4, "three jobs, and the sweep"


def test_a_job_that_is_cancelled(cluster: Slurm, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    given = command(tmp_path, *SWEEP, *ON_SLURM)
    with started(cluster, given) as process:
        job = training(process, tmp_path, 1)
        cluster.ask("scancel", job)
        _, err = process.communicate(timeout=600)
    logs = tmp_path / "sweep" / ".submitit" / job
    lost = f"job 1 (seed=1) failed: lost, CANCELLED; the same command again does what is left ({logs})"
    assert lost in err.splitlines()
    assert err.count("failed") == 1
    assert "Traceback" not in err
    assert process.returncode == 1
    assert "stopped by SIGTERM" in (logs / f"{job}_0_log.err").read_text(), "it ends in order"
    complete(cluster, tmp_path, given, undisturbed, left=1)


def test_a_node_that_fails(cluster: Slurm, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """Slurm gives up the two jobs that ran there, and runs the third when the node is back."""
    given = command(tmp_path, *SWEEP, *ON_SLURM, "+hydra.launcher.additional_parameters.no-requeue=true")
    with started(cluster, given) as process:
        for number in (0, 1):
            training(process, tmp_path, number)
        cluster.fail()
        cluster.repair()
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    lost = [line for line in err.splitlines() if "failed: lost, NODE_FAIL" in line]
    assert [line.split(" failed")[0] for line in lost] == ["job 0 (seed=0)", "job 1 (seed=1)"]
    assert "Traceback" not in err
    complete(cluster, tmp_path, given, undisturbed, left=2)


def test_jobs_of_a_node_that_fails_are_queued_again(
    cluster: Slurm, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """As Slurm does unless told otherwise: the same command need not be given again."""
    with started(cluster, command(tmp_path, *SWEEP, *ON_SLURM)) as process:
        for number in (0, 1):
            training(process, tmp_path, number)
        cluster.fail()
        cluster.repair()
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert findings(tmp_path) == undisturbed


def test_a_command_that_is_stopped_cancels_its_jobs(cluster: Slurm, tmp_path: Path) -> None:
    with started(cluster, command(tmp_path, *SWEEP, *ON_SLURM, "trainer.max_epochs=5000")) as process:
        training(process, tmp_path, 0)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    wait_until(lambda: not cluster.queue())
    assert not findings(tmp_path)
    assert not leftovers(tmp_path)


def test_a_job_that_fails_says_why(cluster: Slurm, tmp_path: Path) -> None:
    done = ended(cluster, command(tmp_path, "mu=5,-1", "visualize=off", *ON_SLURM))
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if "failed" in line)
    assert line.startswith("job 1 (mu=-1) failed: mu=-1.0: ")
    assert "Traceback" not in done.stderr
    assert list(findings(tmp_path)) == ["0"]


def test_a_job_near_its_time_limit(cluster: Slurm, tmp_path: Path) -> None:
    """Slurm tells it so by a signal, up to a minute earlier than asked; sent here once an epoch is trained: what is
    raised while Lightning is loaded, some library may swallow."""
    limit = ["trainer.max_epochs=5000", "curve.every_n_epochs=1", "hydra.launcher.timeout_min=5"]
    given = [one.replace("interpret.py", "train.py") for one in command(tmp_path, "visualize=off", *ON_SLURM, *limit)]
    with started(cluster, given) as process:
        logs = tmp_path / "sweep" / ".submitit"
        wait_until(lambda: any("epoch 1:" in path.read_text() for path in logs.glob("*/*.out")))
        cluster.ask("scancel", "--signal=USR2", *cluster.queue())
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "job 0 () failed: it took too long; give more hydra.launcher.timeout_min" in err
    assert "Traceback" not in err
    assert not findings(tmp_path)
    assert not leftovers(tmp_path)


def test_what_slurm_does_not_take_is_one_line(cluster: Slurm, tmp_path: Path) -> None:
    done = ended(cluster, command(tmp_path, "mu=5", *ON_SLURM, "hydra.launcher.partition=none"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("hydra.launcher: the jobs cannot be submitted: ")
    assert "nvalid partition name" in line


def test_a_job_computes_on_the_processors_it_was_given(cluster: Slurm, tmp_path: Path) -> None:
    for number, processors in enumerate((1, min(os.cpu_count() or 1, 2))):
        given = [f"hydra.launcher.cpus_per_task={processors}", f"seed={number}"]
        done = ended(
            cluster,
            command(tmp_path / str(number), "mu=5", "visualize=off", ON_SLURM[0], *given),
            OMP_NUM_THREADS=str(os.cpu_count()),
        )
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / str(number) / "sweep" / "0" / "result.json").read_text())
        assert f" {processors} threads" in record["device"]
