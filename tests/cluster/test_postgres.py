"""A search by several workers, on a real PostgreSQL and on the file it takes by default; one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from running import ROOT, SMALL
from servers import postgres, wait_until

pytestmark = pytest.mark.cluster
SEARCH = [*SMALL, "tracking=off", "model.filters=16", "protocol.draws=200"]  # seconds a job


def worker(folder: Path, storage: str | None) -> subprocess.Popen[str]:
    places = [f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'search'}"]
    given = [sys.executable, str(ROOT / "sweeps" / "tipping_point.py"), *SEARCH, *places]
    given += [f"search.storage='{storage}'"] if storage else []
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(given, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def network(folder: Path) -> Path | None:
    """The folder of the network that is searched."""
    return next((path for path in (folder / "search").glob("keras_cnn*") if path.is_dir()), None)


def answer(folder: Path) -> dict[str, Any]:
    """What a search found, but for how many evaluations it took: that depends on what is known when one is chosen."""
    found = network(folder)
    assert found
    return json.loads((found / "search.json").read_text()) | {"evaluations": 0}


def study(folder: Path, storage: str | None) -> optuna.Study:
    found = network(folder)
    assert found
    held = storage or JournalStorage(JournalFileBackend(str(found / "study.log")))
    return optuna.load_study(study_name=found.name, storage=held)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one worker finds."""
    folder = tmp_path_factory.mktemp("alone")
    with worker(folder, None) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return answer(folder)


@pytest.fixture(params=["postgresql", "journal"])
def storage(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "journal":
        yield None
        return
    with postgres() as address:
        yield address


def held_by(process: subprocess.Popen[str], folder: Path) -> int | None:
    """The number of the trial of which a worker holds the lock; others but look whether it does."""
    trials = {str(path.stat().st_ino): int(path.stem) for path in folder.glob("search/*/locks/*.lock")}
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    numbers = [trials.get(place.split(":")[2]) for *_, owner, place, _, _ in held if owner == str(process.pid)]
    return next((number for number in numbers if number is not None), None)


def kill_one(
    workers: Sequence[subprocess.Popen[str]], folder: Path, storage: str | None
) -> subprocess.Popen[str] | None:
    """Kill a worker in the midst of an evaluation, if there is one."""
    for process in workers:
        if held_by(process, folder) is None:
            continue
        process.send_signal(signal.SIGSTOP)
        number = held_by(process, folder)
        if number is not None and study(folder, storage).trials[number].state == TrialState.RUNNING:
            process.kill()
            return process
        process.send_signal(signal.SIGCONT)
    return None


def test_four_workers_of_which_one_is_killed(storage: str | None, tmp_path: Path, alone: dict[str, Any]) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(tmp_path, storage)) for _ in range(4)]
        stack.callback(lambda: [process.kill() for process in workers])
        wait_until(lambda: list(tmp_path.glob("search/keras_cnn*/*/*/result.json")))
        killed = wait_until(lambda: kill_one(workers, tmp_path, storage))
        ends = [process.communicate(timeout=600) for process in workers]
    assert [process.returncode for process in workers if process is not killed] == [0, 0, 0], ends
    trials = study(tmp_path, storage).get_trials()
    assert sorted({trial.state for trial in trials}) == [TrialState.COMPLETE, TrialState.FAIL]
    (cut_short,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    finished = [trial.params["mu"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(set(finished)) == len(finished) > 5
    assert cut_short.params["mu"] in finished, "another has made it"
    assert answer(tmp_path) == alone
    assert alone["finished"]
    assert alone["crossings"]
