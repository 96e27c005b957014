"""Jobs that are stopped while they train."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import forked
import pytest
from running import children, inspected, script


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order_and_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    options = ["-m", "mu=2,5", "model.filters=4", "model.depth=2", "trainer.max_epochs=100000"]
    options += [f"store.dir={tmp_path / 'store'}"]
    options += [f"tracking.dir={tmp_path}", f"hydra.sweep.dir={tmp_path / 'out'}"]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    job = forked.Popen(
        script("interpret", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    while not any(b"train/loss" in path.read_bytes() for path in tmp_path.rglob("run-*.wandb")):  # written now and then
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
        if any(tmp_path.rglob("run-*.wandb")):  # it trains for as long as that takes: mostly, let others work
            job.send_signal(signal.SIGSTOP)
            time.sleep(0.4)
            job.send_signal(signal.SIGCONT)
    job.send_signal(number)
    time.sleep(0.2)
    job.send_signal(number)  # an impatient user must not cut the end short
    _, err = job.communicate(timeout=600)
    assert job.returncode == 128 + number
    assert f"stopped by {number.name}" in err
    missing = "no whole result.json of job 0; the same command again runs what is left"
    assert f"{tmp_path / 'out'}: {missing}" in err.splitlines(), "what there is of the sweep is gathered"
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))
    entries, _ = inspected(tmp_path)
    assert any("train/loss" in entry["history"]["item"] for entry in entries if entry["type"] == "history")
    assert next(entry["exit"] for entry in entries if entry["type"] == "exit")["exit_code"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_reaches_the_processes_that_read_images_too_is_said_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As from a terminal: all processes of the job get it."""
    options = ["data=digits", "data.memory=0", "data.workers=2", "model.filters=4", "model.depth=2", "tracking=off"]
    options += [
        "trainer.batch_size=1",
        "trainer.max_epochs=100000",
        f"store.dir={tmp_path / 'store'}",
        f"hydra.run.dir={tmp_path / 'out'}",
    ]
    job = forked.Popen(
        script("interpret", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(readers := children(job.pid, "python")) < 2:
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    time.sleep(0.5)  # in the midst of an epoch
    os.killpg(job.pid, number)
    _, err = job.communicate(timeout=600)
    assert (job.returncode, err.splitlines()) == (128 + number, [f"stopped by {number.name}"])
    assert not any(Path(f"/proc/{reader}").exists() for reader in readers)
