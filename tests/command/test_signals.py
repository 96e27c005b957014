"""Jobs that are stopped while they train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from running import children, inspected, script, started


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


READING = """
import os, signal, threading, time
from multiprocessing.process import BaseProcess
import torch
from tipping.command import line
from tipping.data.streams import Rows, Streamed

command, forks, start = os.getpid(), [], BaseProcess.start

def stop():
    if len(forks) == 2:
        os.killpg(0, signal.SIGTERM)
        while {threads} and os.getpid() == command and line.Sweep.stop.code is None:
            time.sleep(0.01)

def start_and_stop(process):
    start(process)
    stop()

def read():
    for _ in range({threads}):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if "{moment}" == "after_start":
        BaseProcess.start = start_and_stop
    else:
        os.register_at_fork(**{{"{moment}": stop}})
    os.register_at_fork(before=lambda: forks.append(1))  # called first, as it is the last one
    images = Streamed.from_dataset(Rows(torch.zeros(300, 1, 4, 4)), "images", workers=2)
    for _ in images.batches(10):
        time.sleep(0.1)
    while True:
        time.sleep(0.1)

line.run(read)
"""


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("moment", ["before", "after_in_parent", "after_in_child", "after_start"])
def test_a_signal_may_come_while_the_processes_that_read_images_begin(moment: str, threads: int) -> None:
    """Where Python ignores exceptions, or a DataLoader is half made; another thread may be the one that gets it."""
    program = READING.format(moment=moment, threads=threads)
    with started([sys.executable, "-c", program]) as process:
        _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "stopped by SIGTERM\n")
