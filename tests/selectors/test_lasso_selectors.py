"""Selectors by the mu-lasso, beside scikit-learn's path, the other solver, and a general optimiser."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from oracles import library_path
from scipy.optimize import minimize
from toy_responses import CLASSES, DEAD, TWINS, given_responses, observed, told_by

from tipping.errors import InputError
from tipping.mu_lasso import spg
from tipping.selectors import Evidence, score

NAMES = ("mu_lasso", "mu_lasso_path", "mu_lasso_contribution", "mu_lasso_positive")
MU = 5.0


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return observed(mu=MU)


def without_twins(values: np.ndarray) -> np.ndarray:
    """Values by filter, one for both twins, which share theirs as rounding has it."""
    return np.delete(values, TWINS[1], 0)


def merged(values: np.ndarray) -> np.ndarray:
    """Values by filter, in which one twin has those of both."""
    values = values.copy()
    values[TWINS[0]] += values[TWINS[1]]
    return without_twins(values)


def test_strength_is_that_of_the_other_solver(evidence: Evidence) -> None:
    expected = spg(evidence.responses.problem, [MU], tolerance=1e-12).weights_MFC[0].abs().numpy()
    assert np.allclose(merged(score("mu_lasso", evidence).values), merged(expected), atol=1e-5)
    assert expected.any()


def test_filters_enter_where_they_enter_scikit_learns_path(evidence: Evidence) -> None:
    """Without twins, which scikit-learn's path does not take."""
    _, responses_NR, labels_N = evidence.responses
    single = told_by(np.delete(responses_NR, TWINS[1], 1), labels_N, [17], mu=MU)
    first_F = np.full(17, np.inf)
    for c in range(CLASSES):
        mu_B, weights_FB = library_path(single.responses.problem, c)
        for f in range(17):
            if weights_FB[f].any():
                first_F[f] = min(first_F[f], mu_B[np.flatnonzero(weights_FB[f])[0] - 1])
    found_F = score("mu_lasso_path", single).values
    assert np.allclose(found_F, 1 / (1 + first_F), atol=1e-5)
    assert not found_F[DEAD].any()
    assert (found_F == 1).sum() <= CLASSES
    assert (found_F[found_F > 0] < 1 / (1 + MU)).any(), "beyond mu too"
    with_twins_F = score("mu_lasso_path", evidence).values
    assert np.allclose(without_twins(with_twins_F)[: TWINS[0]], found_F[: TWINS[0]], atol=1e-5)
    assert with_twins_F[TWINS].max() == pytest.approx(found_F[TWINS[0]], abs=1e-5)


def test_contribution_is_weight_times_mean_response(evidence: Evidence) -> None:
    _, responses_NR, labels_N = evidence.responses
    weights = spg(evidence.responses.problem, [MU], tolerance=1e-12).weights_MFC[0].numpy()
    expected = np.zeros_like(weights)
    for c in range(CLASSES):
        for f in range(18):
            expected[f, c] = sum(abs(weights[f, c] * x) for x in responses_NR[labels_N == c, f].tolist())
            expected[f, c] /= (labels_N == c).sum()
    found = score("mu_lasso_contribution", evidence).values
    assert np.allclose(merged(found), merged(expected), atol=1e-5)
    assert not found[:, CLASSES:].any()


@pytest.mark.parametrize("mu", [0.5, 5.0, 1e4])
def test_positive_weights_are_those_of_a_general_optimiser(mu: float) -> None:
    evidence = observed(mu=mu)
    _, responses_NR, labels_N = evidence.responses
    live = [f for f in range(18) if f not in (*DEAD, TWINS[1])]
    x_NV = responses_NR[:, live].astype(float)
    found = merged(score("mu_lasso_positive", evidence).values)
    binding = 0
    for c in range(CLASSES):
        norm_V = np.linalg.norm(x_NV, axis=0)
        unit_NV, l_N = x_NV / norm_V, (labels_N == c).astype(float)
        settings = {
            "jac": lambda u, x=unit_NV, y=l_N: x.T @ (x @ u - y),
            "bounds": [(0, None)] * len(live),
            "constraints": {
                "type": "ineq",
                "fun": lambda u, n=norm_V: mu - (u / n).sum(),
                "jac": lambda _, n=norm_V: -1 / n,
            },
            "options": {"ftol": 1e-15, "maxiter": 10_000},
        }
        best = minimize(
            lambda u, x=unit_NV, y=l_N: 0.5 * ((x @ u - y) ** 2).sum(), np.zeros(len(live)), method="SLSQP", **settings
        )
        expected_V = best.x / norm_V
        assert np.allclose(
            found[[f - (f > TWINS[1]) for f in live], c], expected_V, atol=1e-5 * max(1, expected_V.max())
        )
        binding += expected_V.sum() > mu * (1 - 1e-6)
    assert (binding > 0) == (mu < 1e4)
    assert (found >= 0).all()
    assert not found[:, CLASSES:].any()


@pytest.mark.parametrize("name", NAMES)
def test_dead_filters_score_nothing(evidence: Evidence, name: str) -> None:
    scores = score(name, evidence)
    assert not scores.values[DEAD].any()
    assert (scores.overall_F > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_measured_twice_counts_at_both_places(name: str) -> None:
    twice = observed(maps="all", mu=MU)
    place_R = twice.filters.filter_R
    alone = told_by(twice.responses.responses_NR, twice.responses.labels_N, [len(place_R)], mu=MU)
    given_responses(alone, twice.responses)  # not rounded to float32 once more
    of_each_R = score(name, alone).overall_F
    together = max if name == "mu_lasso_path" else sum
    assert np.allclose(score(name, twice).overall_F, [together(of_each_R[place_R == f]) for f in range(18)])


def test_a_path_in_circles_is_refused_in_one_line(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    room = import_module("tipping.mu_lasso.homotopy")  # whose name in the wing's face is that of its function
    monkeypatch.setattr(room, "LONGEST_PATH", 0)
    with pytest.raises(InputError, match="the path of the mu-lasso cannot be followed: ties lead"):
        score("mu_lasso_path", evidence)
