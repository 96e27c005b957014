"""Searches that outlive workers killed while they write, half-written lines and locks that someone holds."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from tipping.errors import InputError
from tipping.tipping_points import Bracketing
from tipping.tipping_points.study import EXCESS, BracketingSampler, known, open_study, work

FAR_OFF = 300  # seconds after which what hangs is ended
WORKER = """
import os, sys, time
from pathlib import Path
from tipping.command.stopping import Stop
from tipping.tipping_points import Bracketing
from tipping.tipping_points.study import EXCESS, BracketingSampler, open_study, work

Stop().listen()
storage, folder, hangs_at = sys.argv[1] or None, Path(sys.argv[2]), int(sys.argv[3])
written, kept = [], os.fsync

def fsync(number):  # within an append, which holds the lock
    kept(number)
    written.append(number)
    if len(written) == hangs_at:
        print("writing", flush=True)
        time.sleep(1000)

def evaluate(chosen):
    print("evaluating", flush=True)
    while (folder / "wait").exists():
        time.sleep(0.01)
    time.sleep(0.02)
    return abs(80 - chosen["mu"]), {EXCESS: 80 - chosen["mu"]}

os.fsync = fsync
print("opening", flush=True)
study = open_study(storage, folder)
work(study, {"mu": (10, 1000)}, evaluate, lambda _: BracketingSampler(Bracketing(10, 1000)), folder, 40)
"""
FOLDER = Path("found") / "network"  # relative, as by default
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """End what a test that fails leaves running."""
    yield
    while STARTED:
        STARTED.pop().kill()


def start(place: Path, hangs_at: int = 0, storage: str = "") -> subprocess.Popen[str]:
    """A worker of the search in a folder below a place."""
    (place / FOLDER).mkdir(parents=True, exist_ok=True)
    given = [sys.executable, "-c", WORKER, storage, str(FOLDER), str(hangs_at)]
    worker = forked.Popen(given, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    STARTED.append(worker)
    return worker


def says(process: subprocess.Popen[str], word: str) -> None:
    """Wait until a worker says a word."""
    assert process.stdout
    for line in process.stdout:
        if line.strip() == word:
            return
    pytest.fail(f"ended before {word}: {process.communicate()}")


def evaluated_once(folder: Path) -> optuna.Study:
    """The study of a search that is finished: each mu is evaluated once, and each line of the journal is whole."""
    study = open_study(None, folder)
    finished = [trial.params["mu"] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(set(finished)) == len(finished) > 5
    assert Bracketing(10, 1000).brackets(known(study))[0].at == pytest.approx(80, rel=0.01)
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    text = (folder / "study.log").read_text()
    assert text.endswith("\n")
    assert all(json.loads(line) for line in text.splitlines())
    return study


@pytest.mark.parametrize("hangs_at", [1, 6])
def test_workers_go_on_where_one_was_killed_while_it_wrote(tmp_path: Path, hangs_at: int) -> None:
    killed = start(tmp_path, hangs_at)
    says(killed, "writing")
    others = [start(tmp_path) for _ in range(3)]
    for worker in others:
        says(worker, "opening")
    killed.kill()
    killed.communicate()
    ends = [worker.communicate(timeout=FAR_OFF) for worker in others]
    assert [worker.returncode for worker in others] == [0, 0, 0], ends
    evaluated_once(tmp_path / FOLDER)


def test_a_lock_that_an_older_version_left_behind_keeps_no_one_out(tmp_path: Path) -> None:
    worker_before = tmp_path / FOLDER
    worker_before.mkdir(parents=True)
    (worker_before / "study.log.lock").symlink_to(FOLDER / "study.log")  # from here it leads nowhere
    worker = start(tmp_path)
    _, err = worker.communicate(timeout=FAR_OFF)
    assert worker.returncode == 0, err
    evaluated_once(tmp_path / FOLDER)


def search(folder: Path, trials: int = 40) -> optuna.Study:
    """A worker in this process."""
    study = open_study(None, folder)

    def evaluate(chosen: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        return abs(80 - chosen["mu"]), {EXCESS: 80 - chosen["mu"]}

    work(study, {"mu": (10, 1000)}, evaluate, lambda _: BracketingSampler(Bracketing(10, 1000)), folder, trials)
    return study


def test_a_half_written_last_line_is_cut_off_wherever_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    search(tmp_path, trials=1)
    journal = tmp_path / "study.log"
    *lines, last = whole = journal.read_bytes().splitlines(keepends=True)
    for end in range(1, len(last)):
        journal.write_bytes(b"".join(lines) + last[:end])
        caplog.clear()
        open_study(None, tmp_path)
        kept = whole if end == len(last) - 1 else lines  # but for its end it was whole
        assert journal.read_bytes().startswith(b"".join(kept))
        assert all(json.loads(line) for line in journal.read_text().splitlines())
        assert ("half-written" in caplog.text) == (kept is lines)
    search(tmp_path)
    evaluated_once(tmp_path)


@pytest.mark.parametrize("torn", [b'{"op_code":4,"wor', b"\0" * 10_000, b'{"a":"' + b"long" * 5000, b"\xff\xfe"])
def test_a_line_torn_while_others_work_is_cut_off_before_the_next(tmp_path: Path, torn: bytes) -> None:
    study = search(tmp_path, trials=2)
    with (tmp_path / "study.log").open("ab") as file:
        file.write(torn)
    trial = study.ask()
    trial.suggest_float("mu", 10, 1000, log=True)
    assert [one.number for one in open_study(None, tmp_path).trials] == [0, 1, 2]
    study.tell(trial, state=TrialState.FAIL)
    search(tmp_path)
    evaluated_once(tmp_path)


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Write the beginning and fail where a file would grow longer, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("more", [0, 10, 100])
def test_a_search_goes_on_when_a_full_disk_has_room_again(tmp_path: Path, more: int) -> None:
    study = search(tmp_path, trials=2)
    size = (tmp_path / "study.log").stat().st_size
    with files_at_most(size + more), pytest.raises(OSError, match="too large"):
        for _ in range(10):
            study.ask()
    search(tmp_path)
    evaluated_once(tmp_path)


@pytest.mark.parametrize("damage", [b'{"op_code":4,"wor{"op_code":4}\n', b"\xff\xfe\n", b"17\n", b"{}\n", b"\n"])
def test_a_damaged_line_in_the_middle_is_said_in_one_line(tmp_path: Path, damage: bytes) -> None:
    study = search(tmp_path, trials=2)
    journal = tmp_path / "study.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], damage, *lines[3:]]))
    with pytest.raises(InputError) as error:
        open_study(None, tmp_path)
    assert str(error.value).startswith(f"{journal}: line 4 is damaged; move the file away")
    assert len(str(error.value).splitlines()) == 1
    journal.write_bytes(b"".join([*lines, damage, *lines[-1:]]))  # while a search has it open
    with pytest.raises(InputError, match=f"line {len(lines) + 1} is damaged"):
        work(study, {"mu": (10, 1000)}, lambda _: (0.0, {}), lambda _: optuna.samplers.RandomSampler(), tmp_path, 9)


def test_a_journal_stays_where_it_was_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "found").mkdir()
    monkeypatch.chdir(tmp_path)
    study = open_study(None, Path("found"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    study.ask()
    assert len(open_study(None, tmp_path / "found").trials) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def ended_by(worker: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a worker, which ends."""
    time.sleep(0.5)  # let it come to what it waits for
    worker.send_signal(number)
    _, err = worker.communicate(timeout=FAR_OFF)
    assert worker.returncode == 128 + number, err
    assert err == f"stopped by {number.name}\n"


SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@SIGNALS
@pytest.mark.parametrize("lock", ["network/study.flock", "storage.lock", "network/ask.lock"])
def test_a_signal_ends_a_search_that_waits_for_a_lock(tmp_path: Path, lock: str, number: signal.Signals) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    with FileLock(tmp_path / "found" / lock):
        worker = start(tmp_path)
        says(worker, "opening")
        ended_by(worker, number)
    search(tmp_path / FOLDER)
    evaluated_once(tmp_path / FOLDER)


@SIGNALS
@pytest.mark.parametrize("finished", [False, True])
def test_a_signal_ends_an_evaluation_that_cannot_be_told(
    tmp_path: Path, finished: bool, number: signal.Signals
) -> None:
    """While it evaluates, or waits to tell, another worker holds the journal and does not answer."""
    wait = tmp_path / FOLDER / "wait"
    wait.parent.mkdir(parents=True)
    wait.touch()
    worker = start(tmp_path)
    says(worker, "evaluating")
    with FileLock(tmp_path / FOLDER / "study.flock"):
        if finished:
            wait.unlink()
        ended_by(worker, number)
    states = [trial.state for trial in search(tmp_path / FOLDER).trials]
    assert states.count(TrialState.FAIL) == 1, "the one that was stopped"
    evaluated_once(tmp_path / FOLDER)


@SIGNALS
def test_a_signal_ends_a_search_whose_database_is_silent(tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("psycopg2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(FAR_OFF)
        port = server.getsockname()[1]
        worker = start(tmp_path, storage=f"postgresql+psycopg2://nobody@127.0.0.1:{port}/studies")
        connection, _ = server.accept()
        with connection:
            ended_by(worker, number)
