"""The search on curves whose crossings are known, beside TPE, and with several workers."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from tipping.errors import InputError
from tipping.mu_lasso import MuLassoProblem, homotopy
from tipping.tipping_points import Bracketing, breakpoints
from tipping.tipping_points.study import EXCESS, BracketingSampler, known, open_study, work

Curve = Callable[[float], float]
optuna.logging.set_verbosity(optuna.logging.WARNING)


def logistic(middle: float, steepness: float) -> Curve:
    return lambda mu: 0.1 + 0.88 / (1 + (mu / middle) ** steepness)


def step(at: float) -> Curve:
    return lambda mu: 0.98 if mu < at else 0.1


def noisy(curve: Curve, seed: int) -> Curve:
    """With the noise of 10,000 test images, the same at each mu."""
    return lambda mu: curve(mu) + np.random.default_rng((seed, int(mu * 1e9))).normal(0, 0.003)


def bumps(*edges: float) -> Curve:
    """High before the first edge, low up to the second, and so on."""
    return lambda mu: 0.1 if sum(mu >= edge for edge in edges) % 2 else 0.98


MONOTONE = {
    **{
        f"logistic {m} {k}": (logistic(m, k), m) for m, k in ((12, 3), (35, 1.5), (80, 8), (260, 2), (611, 5), (900, 4))
    },
    **{f"step {at}": (step(at), at) for at in (10.5, 47, 100.5, 333, 640, 987)},
    **{f"noisy {m}": (noisy(logistic(m, 6), seed), m) for seed, m in enumerate((15, 70, 410))},
}
# of curves that the level lies midway of, 0.54
SEVERAL = {
    "down, up, down": (bumps(20, 90, 400), [20, 90, 400]),
    "a dip": (bumps(60, 250), [60, 250]),
}
NEVER = {"flat": lambda mu: 0.98, "late": logistic(5000, 4), "early": logistic(2, 6)}
LEVEL = 0.54


def searched(curve: Curve, sampler: optuna.samplers.BaseSampler, trials: int = 40) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        excess = curve(trial.suggest_float("mu", 10, 1000, log=True)) - LEVEL
        trial.set_user_attr(EXCESS, excess)
        return abs(excess)

    stop = [sampler.stop_when_finished] if isinstance(sampler, BracketingSampler) else []
    study.optimize(objective, n_trials=trials, callbacks=stop)
    return study


@pytest.mark.parametrize("name", MONOTONE)
def test_a_crossing_is_found_to_a_hundredth_in_12_evaluations(name: str) -> None:
    curve, truth = MONOTONE[name]
    bracketing = Bracketing(10, 1000)
    found = known(searched(curve, BracketingSampler(bracketing)))
    assert len(found) <= 12
    assert bracketing.finished(found)
    # where noise of 0.3 % crosses a slope that takes 1 % in mu for 1.3 %, the curve itself crosses several times
    brackets = bracketing.brackets(found)
    assert len(brackets) == 1 or "noisy" in name
    assert min(abs(bracket.at / truth - 1) for bracket in brackets) < 0.01
    assert all(bracket.high / bracket.low <= math.exp(0.01) * (1 + 1e-9) for bracket in brackets)


@pytest.mark.parametrize("name", SEVERAL)
def test_every_crossing_that_the_grid_shows_is_found(name: str) -> None:
    curve, truth = SEVERAL[name]
    bracketing = Bracketing(10, 1000)
    found = bracketing.brackets(known(searched(curve, BracketingSampler(bracketing))))
    assert [bracket.at for bracket in found] == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("name", NEVER)
def test_where_nothing_crosses_the_grid_is_enough(name: str) -> None:
    bracketing = Bracketing(10, 1000)
    found = known(searched(NEVER[name], BracketingSampler(bracketing)))
    assert len(found) == 5
    assert bracketing.brackets(found) == []


def test_tpe_with_twice_the_evaluations_is_ten_times_further_off() -> None:
    ours, theirs = [], []
    for seed, (curve, truth) in enumerate(MONOTONE.values()):
        bracketing = Bracketing(10, 1000)
        found = known(searched(curve, BracketingSampler(bracketing)))
        ours.append(min(abs(math.log(bracket.at / truth)) for bracket in bracketing.brackets(found)))
        study = searched(curve, optuna.samplers.TPESampler(seed=seed), 2 * len(found))
        drawn = known(study)
        above = max((mu for mu, excess in drawn.items() if excess > 0), default=10)
        below = min((mu for mu, excess in drawn.items() if excess <= 0), default=1000)
        best = math.sqrt(above * below)  # kinder than its best trial, which on a step is any
        theirs.append(min(abs(math.log(at / truth)) for at in (best, study.best_params["mu"])))
    assert np.median(ours) <= np.median(theirs) / 10


def test_between_breakpoints_it_ends_at_neighbouring_supports(rng: np.random.Generator) -> None:
    for _ in range(20):
        breakpoints = np.sort(10 * 100 ** rng.random(400))
        tips = int(rng.integers(1, 399))
        evaluated: list[float] = []

        def curve(mu: float, breakpoints: np.ndarray = breakpoints, tips: int = tips) -> float:
            passed = int(np.searchsorted(breakpoints, mu))
            evaluated.append(mu)  # noqa: B023
            return 0.98 - 0.3 * passed / 400 - (0.45 if passed > tips else 0)

        bracketing = Bracketing(10, 1000, breakpoints=breakpoints.tolist())
        brackets = bracketing.brackets(known(searched(curve, BracketingSampler(bracketing))))
        assert [bracket.at for bracket in brackets] == [breakpoints[tips]]
        assert brackets[0].low < breakpoints[tips] < brackets[0].high
        assert sum(brackets[0].low < one < brackets[0].high for one in breakpoints) == 1
        assert len(evaluated) <= 14, "five of the grid, and log2 of the 400"
        passed = np.searchsorted(breakpoints, evaluated)
        assert len(set(passed.tolist())) == len(passed), "no set of filters twice"


def test_at_the_level_a_network_has_tipped() -> None:
    found = Bracketing(10, 1000, 3).brackets({10.0: 0.4, 100.0: 0.0, 1000.0: -0.4})
    assert [bracket[:2] for bracket in found] == [(10, 100)]


def test_interpolation_takes_fewer_evaluations_than_halving() -> None:
    """On a straight line in ln mu, with a thousand supports between two of the grid."""
    evaluated: list[float] = []

    def line(mu: float) -> float:
        evaluated.append(mu)
        return 1.0 - math.log(mu / 10) / math.log(100)

    edges = np.geomspace(10.001, 999, 4000).tolist()
    searched(line, BracketingSampler(Bracketing(10, 1000, breakpoints=edges)))
    assert len(evaluated) - 5 <= 6, "halving 1,000 takes ten"


def test_a_search_may_end_before_neighbouring_supports() -> None:
    edges = np.geomspace(10.001, 999, 4000).tolist()
    found, evaluations = {}, []
    for precision in (0.0, 0.05):
        bracketing = Bracketing(10, 1000, precision=precision, breakpoints=edges)
        found[precision] = known(searched(MONOTONE["step 333"][0], BracketingSampler(bracketing)))
        (bracket,) = bracketing.brackets(found[precision])
        assert bracket.low <= 333 <= bracket.high
        evaluations.append(len(found[precision]))
        assert precision == 0 or bracket.high / bracket.low <= math.exp(precision)
    assert evaluations[0] > evaluations[1]


def test_workers_do_not_evaluate_the_same() -> None:
    curve, truth = MONOTONE["logistic 80 8"]
    bracketing, found, waiting = Bracketing(10, 1000), {}, []
    rounds = 0
    while not bracketing.finished(found):
        while len(waiting) < 4 and (mu := bracketing.next(found, waiting)) is not None:
            assert mu not in waiting
            assert mu not in found
            assert 10 <= mu <= 1000
            waiting.append(mu)
        found |= {mu: curve(mu) - LEVEL for mu in waiting}
        waiting.clear()
        rounds += 1
    assert bracketing.brackets(found)[0].at == pytest.approx(truth, rel=0.01)
    assert rounds <= 6, "four at once: two for the grid, then a fifth of the bracket each time"


def test_a_worker_waits_where_only_what_others_evaluate_is_of_use() -> None:
    bracketing = Bracketing(10, 1000, breakpoints=[20, 50, 90, 200, 400])
    found = {mu: 400 - mu for mu in bracketing.first if mu < 30 or mu > 400}
    waiting: list[float] = []
    while (mu := bracketing.next(found, waiting)) is not None:
        waiting.append(mu)
    assert len(found) + len(waiting) <= 6, "each set of filters once"


def test_what_other_workers_evaluate_is_left_to_them() -> None:
    sampler = BracketingSampler(Bracketing(10, 1000))
    study = optuna.create_study(sampler=sampler)
    asked = [study.ask().suggest_float("mu", 10, 1000, log=True) for _ in range(5)]
    assert sorted(asked) == pytest.approx([10, 31.62, 100, 316.2, 1000], rel=1e-3)


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
    curve, truth = MONOTONE["logistic 80 8"]
    evaluated: list[float] = []
    with ThreadPoolExecutor(3) as pool:
        studies = list(pool.map(lambda _: worked(tmp_path, curve, evaluated), range(3)))
    assert len(set(evaluated)) == len(evaluated), "nothing twice"
    found = known(studies[0])
    assert set(found) == set(evaluated)
    assert Bracketing(10, 1000).brackets(found)[0].at == pytest.approx(truth, rel=0.01)
    assert {trial.state for trial in studies[0].trials} == {TrialState.COMPLETE}


def test_workers_together_make_no_more_trials_than_asked(tmp_path: Path) -> None:
    evaluated: list[float] = []
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: worked(tmp_path, MONOTONE["logistic 80 8"][0], evaluated, trials=7), range(3)))
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
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=600)
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


def test_breakpoints_are_where_the_relevant_filters_change(problem: MuLassoProblem) -> None:
    path = homotopy(problem, 40.0)
    filter_R = np.arange(47) // 2  # two responses to a filter
    found = breakpoints(path, filter_R, 1.0)
    assert found == sorted(found)
    edges = [1.0, *found, 40.0]
    middles = [math.sqrt(low * high) for low, high in pairwise(edges)]
    relevant = []
    for mu in middles:
        weights_RC = path.weights([mu])[0].cpu().numpy()
        relevant.append(frozenset(filter_R[(abs(weights_RC) > 0).any(1)].tolist()))
    assert all(one != other for one, other in pairwise(relevant)), "each changes them"
    for (low, high), filters in zip(pairwise(edges), relevant, strict=True):
        for mu in np.geomspace(low * 1.001, high * 0.999, 3) if high > low * 1.01 else ():
            weights_RC = path.weights([mu])[0].cpu().numpy()
            assert frozenset(filter_R[(abs(weights_RC) > 0).any(1)].tolist()) == filters, "and nothing between does"


def test_breakpoints_that_rounding_parts_are_one() -> None:
    def of_class(*mu: float) -> SimpleNamespace:
        mu_K = torch.tensor(mu, dtype=torch.float64)
        return SimpleNamespace(mu_K=mu_K, filter_K=torch.arange(len(mu)), sign_K=torch.ones(len(mu)))

    path: Any = SimpleNamespace(classes=[of_class(2.0, 2.0 * (1 + 1e-12), 5.0)], largest_mu=10.0)
    assert breakpoints(path, np.arange(3), 1.0) == [2.0, 5.0]


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
