"""The search on curves whose crossings are known, beside TPE; and the breakpoints that it searches."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from tipping.mu_lasso import MuLassoProblem, homotopy
from tipping.tipping_points import Bracketing, breakpoints
from tipping.tipping_points.study import EXCESS, BracketingSampler, known

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
