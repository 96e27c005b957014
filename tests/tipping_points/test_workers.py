"""Workers that share the study of a search: trials, kills, failures, and storages that are shared or lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import forked
import optuna
import pytest
from optuna.trial import TrialState

from tipping.errors import InputError
from tipping.tipping_points import Bracketing
from tipping.tipping_points.study import EXCESS, BracketingSampler, known, open_study, work

Curve = Callable[[float], float]
LEVEL = 0.54
optuna.logging.set_verbosity(optuna.logging.WARNING)


def falling(mu: float) -> float:
    """The accuracy at mu, which is at the level at mu = 80."""
    return 0.1 + 0.88 / (1 + (mu / 80) ** 8)


def running(study: optuna.Study, mu: float) -> optuna.Trial:
    """A trial of another worker's."""
    study.enqueue_trial({"mu": mu})
    trial = study.ask()
    assert trial.suggest_float("mu", 10, 1000, log=True) == mu
    return trial


def end(study: optuna.Study, trial: optuna.Trial, excess: float) -> None:
    trial.set_user_attr(EXCESS, excess)
    study.tell(trial, abs(excess))


def test_what_ends_between_two_looks_is_not_evaluated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = BracketingSampler(Bracketing(10, 1000))
    study = optuna.create_study(sampler=sampler)
    trial, looks, kept = running(study, 10.0), [], optuna.Study.get_trials

    def ends_after_the_first(self: optuna.Study, *args: Any, **kwargs: Any) -> Any:
        found = kept(self, *args, **kwargs)
        looks.append(1)
        if len(looks) == 1:
            end(study, trial, 0.4)
        return found

    monkeypatch.setattr(optuna.Study, "get_trials", ends_after_the_first)
    assert sampler.choose(study)
    assert study.ask().suggest_float("mu", 10, 1000, log=True) == pytest.approx(31.62, rel=1e-3)


def test_a_mu_once_chosen_is_evaluated_though_others_finish_the_search() -> None:
    """Else the middle of the range would be, perhaps for the second time."""
    sampler = BracketingSampler(Bracketing(10, 1000, grid=3, precision=0.5))
    study = optuna.create_study(sampler=sampler)
    for mu, excess in ((10.0, 0.4), (100.0, 0.3), (1000.0, -0.4)):
        end(study, running(study, mu), excess)
    last = running(study, 900.0)
    assert sampler.choose(study)
    end(study, last, 0.1)
    assert sampler.bracketing.finished(known(study))
    assert study.ask().suggest_float("mu", 10, 1000, log=True) == pytest.approx(300)


def worked(folder: Path, curve: Curve, evaluated: list[float], trials: int = 40) -> optuna.Study:
    """A worker of a study in a folder."""
    bracketing = Bracketing(10, 1000)
    study = open_study(None, folder)

    def evaluate(chosen: dict[str, float]) -> tuple[float, dict[str, float]]:
        evaluated.append(chosen["mu"])
        time.sleep(0.02)
        excess = curve(chosen["mu"]) - LEVEL
        return abs(excess), {EXCESS: excess}

    work(study, {"mu": (10, 1000)}, evaluate, lambda _: BracketingSampler(bracketing), folder, trials)
    return study


def test_workers_share_a_study(tmp_path: Path) -> None:
    evaluated: list[float] = []
    with ThreadPoolExecutor(3) as pool:
        studies = list(pool.map(lambda _: worked(tmp_path, falling, evaluated), range(3)))
    assert len(set(evaluated)) == len(evaluated), "nothing twice"
    found = known(studies[0])
    assert set(found) == set(evaluated)
    assert Bracketing(10, 1000).brackets(found)[0].at == pytest.approx(80, rel=0.01)
    assert {trial.state for trial in studies[0].trials} == {TrialState.COMPLETE}


def test_workers_together_make_no_more_trials_than_asked(tmp_path: Path) -> None:
    evaluated: list[float] = []
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: worked(tmp_path, falling, evaluated, trials=7), range(3)))
    assert len(evaluated) == 7


KILLED = """
import os, sys
from pathlib import Path
from tipping.tipping_points import Bracketing
from tipping.tipping_points.study import EXCESS, BracketingSampler, open_study, work

folder, seen = Path(sys.argv[1]), []
study = open_study(None, folder)

def evaluate(chosen):
    seen.append(chosen["mu"])
    if len(seen) == 4:
        os.kill(os.getpid(), 9)
    return abs(80 - chosen["mu"]), {EXCESS: 80 - chosen["mu"]}

work(study, {"mu": (10, 1000)}, evaluate, lambda _: BracketingSampler(Bracketing(10, 1000)), folder, 40)
"""


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    done = forked.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -9
    evaluated: list[float] = []
    study = worked(tmp_path, lambda mu: LEVEL + 80 - mu, evaluated)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.FAIL) == 1, "the one that was killed"
    assert TrialState.RUNNING not in states
    finished = [trial.params["mu"] for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(set(finished)) == len(finished)
    assert len(evaluated) == len(finished) - 3, "three were finished before"
    assert Bracketing(10, 1000).brackets(known(study))[0].at == pytest.approx(80, rel=0.01)
    again: list[float] = []
    worked(tmp_path, lambda mu: LEVEL + 80 - mu, again)
    assert again == []


def test_a_failed_evaluation_is_told_and_not_swallowed(tmp_path: Path) -> None:
    def broken(mu: float) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        worked(tmp_path, broken, [])
    study = open_study(None, tmp_path)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_a_trial_that_has_just_ended_is_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at what runs and the look at its lock, it may be told."""
    study = open_study(None, tmp_path)
    trial = study.ask()
    trial.suggest_float("mu", 10, 1000)
    running = study.get_trials(states=(TrialState.RUNNING,))
    trial.set_user_attr(EXCESS, 0.1)
    study.tell(trial, 0.1)
    kept = optuna.Study.get_trials
    looks: list[int] = []

    def once_late(self: optuna.Study, *args: Any, **kwargs: Any) -> Any:
        looks.append(1)
        return running if len(looks) == 1 else kept(self, *args, **kwargs)

    monkeypatch.setattr(optuna.Study, "get_trials", once_late)
    sampler = BracketingSampler(Bracketing(10, 1000))
    work(study, {"mu": (10, 1000)}, lambda _: (0.0, {EXCESS: 0.0}), lambda _: sampler, tmp_path, 1)
    assert [one.state for one in kept(study)] == [TrialState.COMPLETE]


def test_workers_open_a_new_storage_at_once(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: open_study(f"sqlite:///{tmp_path / 's.db'}", tmp_path / "network"), range(4)))
    assert {study.study_name for study in opened} == {"network"}


def test_a_study_of_a_shared_storage_belongs_to_its_folder(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    for name in ("one", "two"):
        (tmp_path / name / "study").mkdir(parents=True)
    open_study(storage, tmp_path / "one" / "study")
    open_study(storage, tmp_path / "one" / "study")
    with pytest.raises(InputError, match="go on in that folder"):
        open_study(storage, tmp_path / "two" / "study")


def test_a_study_belongs_to_the_weights_it_searched(tmp_path: Path) -> None:
    open_study(None, tmp_path, weights="one")
    open_study(None, tmp_path, weights="one")
    with pytest.raises(InputError, match="other weights"):
        open_study(None, tmp_path, weights="two")


def test_a_storage_that_is_lost_is_said_in_one_line(tmp_path: Path) -> None:
    database = tmp_path / "studies.db"
    study = open_study(f"sqlite:///{database}", tmp_path)

    def lose(chosen: dict[str, float]) -> tuple[float, dict[str, float]]:
        database.write_bytes(b"no database " * 1000)
        return 0.0, {EXCESS: 0.0}

    sampler = BracketingSampler(Bracketing(10, 1000))
    with pytest.raises(InputError, match=r"search.storage: lost \(.*database.*\); start the command again"):
        work(study, {"mu": (10, 1000)}, lose, lambda _: sampler, tmp_path, 5)
