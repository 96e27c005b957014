"""The non-negative mu-lasso by both solvers: conditions of its minimum, certificates, scikit-learn, its saturation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import feasible, library_path
from scipy.optimize import nnls
from sklearn.linear_model import Lasso
from toy_problems import SOLVERS, Solver, degenerate_problems, problem_of, responses_like

from tipping.mu_lasso import MuLassoProblem, homotopy, project_l1_ball, spg
from tipping.mu_lasso.solution import certify
from tipping.mu_lasso.spg import gradient_steps


def pairs(rng: np.random.Generator, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Responses, two of each layer dead, and labels that many of them speak for."""
    responses = responses_like(rng, images, sizes=[12, 20, 15], dead=2)
    scores = responses @ np.abs(rng.normal(size=(47, 4)))
    scores /= scores.mean(0)
    return responses, np.eye(4)[(scores + 0.01 * rng.random(scores.shape)).argmax(1)]


@pytest.fixture
def positive(rng: np.random.Generator, device: torch.device) -> MuLassoProblem:
    return problem_of(*pairs(rng), device).non_negative()


@SOLVERS
@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_equal_to_the_non_negative_path_of_scikit_learn(positive: MuLassoProblem, solve: Solver, mu: float) -> None:
    solution = solve(positive, [mu])
    assert solution.certified_MC.all()
    assert feasible(solution, [mu])
    for c in range(4):
        norms, weights = library_path(positive, c)
        assert norms[-1] > mu, "the reference path must reach this mu"
        exact = np.array([np.interp(mu, norms, weight) for weight in weights])
        assert np.allclose(solution.weights_MFC[0, :, c].cpu(), exact, rtol=0, atol=1e-8)
        assert np.array_equal(solution.weights_MFC[0, :, c].cpu() != 0, exact > 1e-8)
    signed = solve(positive.non_negative(False), [mu])
    assert (signed.weights_MFC < 0).any() or mu < 3, "else there would be nothing to show"


@SOLVERS
def test_equal_to_coordinate_descent_at_its_penalty(rng: np.random.Generator, solve: Solver) -> None:
    responses, labels = pairs(rng)
    problem = problem_of(responses, labels).non_negative()
    weights_FC = solve(problem, [1.0]).weights_MFC[0]
    penalty_C = problem.pull(problem.gradient(weights_FC)).amax(0)
    for c in range(4):
        lasso = Lasso(float(penalty_C[c]) / len(labels), fit_intercept=False, positive=True, tol=1e-15, max_iter=10**6)
        assert np.allclose(weights_FC[:, c], lasso.fit(responses, labels[:, c]).coef_, rtol=0, atol=1e-7)


def test_breakpoints_are_those_of_scikit_learn(positive: MuLassoProblem) -> None:
    path = homotopy(positive)
    for c, mine in enumerate(path.classes):
        norms, _ = library_path(positive, c)  # ends before the penalty is 0, where no further filter would enter
        assert (mine.sign_K >= 0).all()
        assert np.allclose(mine.mu_K, norms[: len(mine.mu_K)], rtol=1e-6, atol=1e-9)
        assert len(norms) - len(mine.mu_K) in (0, 1)
        assert mine.saturation >= norms[-1]


@SOLVERS
def test_beyond_saturation_it_is_non_negative_least_squares(rng: np.random.Generator, solve: Solver) -> None:
    responses, labels = pairs(rng)
    solution = solve(problem_of(responses, labels).non_negative(), [100.0])
    expected = np.array([nnls(responses, label)[0] for label in labels.T]).T
    assert solution.certified_MC.all()
    assert solution.unique_MC.all()
    assert np.allclose(solution.weights_MFC[0], expected, rtol=0, atol=1e-8 * expected.sum(0).max())


def test_saturation_is_the_sum_of_non_negative_least_squares(
    rng: np.random.Generator, positive: MuLassoProblem
) -> None:
    responses, labels = rng.normal(size=(40, 6)), np.eye(2)[rng.integers(2, size=40)]
    unique = problem_of(responses, labels).non_negative()
    sums = [nnls(responses, label)[0].sum() for label in labels.T]
    assert np.allclose(unique.saturation(), sums, rtol=1e-9)
    assert np.allclose(homotopy(unique).saturation(), sums, rtol=1e-9)
    # one at twice the size takes over the weight at half of it
    twice = problem_of(np.c_[responses, 2 * responses], labels).non_negative()
    assert np.allclose(twice.saturation(), np.array(sums) / 2, rtol=1e-9)
    assert np.allclose(homotopy(twice).saturation(), np.array(sums) / 2, rtol=1e-9)
    assert torch.allclose(homotopy(positive).saturation(), positive.saturation(), rtol=1e-6)
    # a tenth of the second filter minus a tenth of the third would do too, were it not for the minus
    cheaper = problem_of(np.array([[1.0, 10, 0], [0, 1, 1]]), np.array([[1.0], [0]]))
    assert cheaper.saturation().tolist() == pytest.approx([0.2])
    assert cheaper.non_negative().saturation().tolist() == pytest.approx([1])
    assert homotopy(cheaper.non_negative()).saturation().tolist() == pytest.approx([1])


def test_the_path_goes_on_beside_a_filter_that_is_the_opposite_of_another() -> None:
    """The gradient of the second is three times that of the first, and never lets it in."""
    problem = problem_of(np.array([[1.0, -3, 0], [0, 0, 1]]), np.array([[2.0], [1]])).non_negative()
    (path,) = homotopy(problem).classes
    assert path.filter_K.tolist() == [0, 2]
    assert path.mu_K.tolist() == pytest.approx([0, 1])
    assert path.saturation == pytest.approx(3)


@settings(max_examples=100)
@given(problems=degenerate_problems, mu=st.lists(st.floats(0.01, 300), min_size=1, max_size=3))
def test_conditions_of_karush_kuhn_and_tucker(problems: tuple[MuLassoProblem, MuLassoProblem], mu: list[float]) -> None:
    """Copies, mixtures and dead filters included: w ≥ 0, Σw ≤ mu, −g ≤ λ, and = λ where w > 0; λ = 0 in between."""
    whole, plain = (problem.non_negative() for problem in problems)
    best = plain.objective(spg(plain, mu).weights_MFC)
    for solution in (spg(whole, mu), homotopy(whole).solution(mu)):
        weights, certified = solution.weights_MFC, solution.certified_MC
        assert certified.all(), solution.stopped
        assert feasible(solution, mu)
        assert (weights >= 0).all()
        assert not weights[:, whole.dead_F()].any()
        assert torch.allclose(whole.objective(weights), best, rtol=2e-8, atol=2e-8)
        pull = -(whole.gram_FF @ weights - whole.cross_FC)
        multiplier = pull.amax(1).clamp(min=0)
        scale = torch.tensor(mu, dtype=torch.float64)[:, None] / whole.objective(weights).clamp(min=1)
        slack = (multiplier.unsqueeze(1) - pull) * weights / whole.objective(weights).clamp(min=1).unsqueeze(1)
        assert (slack <= 1e-8).all(), "a filter in use pulls as much as any"
        room = 1 - weights.sum(1) / torch.tensor(mu, dtype=torch.float64)[:, None]
        assert (multiplier * scale * room <= 1e-8).all(), "the multiplier is 0 unless the bound is reached"


@SOLVERS
def test_a_class_of_one_image_beside_one_of_none(rng: np.random.Generator, solve: Solver) -> None:
    responses, labels = pairs(rng)
    labels[:, 3], labels[5] = 0, [0, 0, 0, 1]
    problem = problem_of(responses, np.c_[labels, np.zeros(400)]).non_negative()
    solution = solve(problem, [0.5, 30.0])
    assert solution.certified_MC.all()
    assert solution.weights_MFC[:, :, 3].any()
    assert not solution.weights_MFC[:, :, 4].any()
    assert np.allclose(solution.weights_MFC[1, :, 3], nnls(responses, labels[:, 3])[0], atol=1e-8)


@SOLVERS
def test_filters_that_all_speak_against_a_class_have_no_weight(solve: Solver) -> None:
    gram_FF, cross_FC = torch.eye(2, dtype=torch.float64), torch.tensor([[-1.0, 0.5], [-0.5, -0.5]]).double()
    problem = MuLassoProblem(gram_FF, cross_FC, torch.tensor([9.0, 9.0]).double(), positive=True)
    solution = solve(problem, [3.0])
    assert solution.weights_MFC[0].tolist() == [[0, 0.5], [0, 0]]
    assert solution.certified_MC.all()
    assert solution.unique_MC.all()
    assert problem.saturation().tolist() == pytest.approx([0, 0.5])
    copies = MuLassoProblem(torch.ones_like(gram_FF), cross_FC[1:].expand(2, 2), problem.label_sq_C, positive=True)
    assert not solve(copies, [3.0]).weights_MFC.any()
    assert solve(copies, [3.0]).unique_MC.all(), "neither would do"


@SOLVERS
def test_copies_leave_a_choice(positive: MuLassoProblem, solve: Solver) -> None:
    assert solve(positive, [0.5]).unique_MC.all()
    chosen = int(solve(positive, [0.5]).weights_MFC[0, :, 0].argmax())
    order = torch.tensor([*range(47), chosen], device=positive.gram_FF.device)
    twice = MuLassoProblem(positive.gram_FF[order][:, order], positive.cross_FC[order], positive.label_sq_C, True)
    assert not solve(twice, [0.5]).unique_MC[0, 0]


def test_the_gap_is_the_largest_over_the_corners(rng: np.random.Generator) -> None:
    responses, labels, mu = rng.normal(size=(30, 5)), np.eye(3)[rng.integers(3, size=30)], 2.5
    weights = rng.random((5, 3))
    weights *= mu / weights.sum(0)
    residual = responses @ weights - labels
    corners = np.concatenate([mu * np.eye(5), np.zeros((1, 5))])
    gap = [max((responses.T @ residual)[:, c] @ (weights[:, c] - corner) for corner in corners) for c in range(3)]
    problem = problem_of(responses, labels).non_negative()
    found = problem.relative_gap(torch.as_tensor(weights), torch.tensor(mu))
    assert np.allclose(found, gap / np.maximum((residual**2).sum(0) / 2, 1), rtol=1e-12)


def test_negative_weights_are_not_certified(positive: MuLassoProblem) -> None:
    solution = spg(positive, [1.0])
    mu_M = torch.tensor([1.0], dtype=torch.float64, device=positive.gram_FF.device)
    weights_MFC = solution.weights_MFC.clone()
    weights_MFC[0, 0, 1] -= 1e-15  # of a dead filter, so that it changes nothing else
    assert certify(positive, weights_MFC, mu_M, 1e-8, solution.iterations_MC, {}).certified_MC.tolist() == [
        [True, False, True, True]
    ]


def test_gradient_steps_alone_come_near(positive: MuLassoProblem) -> None:
    mu = torch.tensor(3.0, dtype=torch.float64, device=positive.gram_FF.device)
    minimum = positive.objective(spg(positive, [3.0]).weights_MFC)[0]
    start = torch.zeros_like(positive.cross_FC)
    assert (gradient_steps(positive.non_negative(False), start, mu, 300) < 0).any()
    found = gradient_steps(positive, start, mu, 300)
    assert (found >= 0).all()
    excess, before = positive.objective(found) - minimum, positive.objective(start) - minimum
    assert (excess < 1e-2 * before).all()


@given(point=arrays(float, (7, 1), elements=st.floats(-1e3, 1e3, width=32)), radius=st.floats(1e-3, 1e4))
def test_projection_meets_the_conditions_of_the_nearest_point(point: np.ndarray, radius: float) -> None:
    """w = max(p − t, 0) with a t ≥ 0 that is 0 unless Σw = radius."""
    found = project_l1_ball(torch.as_tensor(point), radius, positive=True).numpy()[:, 0]
    low, high = 0.0, float(np.abs(point).max())
    for _ in range(200 if np.maximum(point, 0).sum() > radius else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > radius else (low, middle)
    assert np.allclose(found, np.maximum(point[:, 0] - low, 0), rtol=0, atol=1e-12 * max(1, np.abs(point).max()))


def test_non_negative_problems_stay_so(positive: MuLassoProblem) -> None:
    both = positive + positive
    for problem in (both, positive.to(torch.float32), positive.classes(torch.tensor([0]))):
        assert problem.positive
    with pytest.raises(ValueError, match="both be non-negative, or neither"):
        positive + positive.non_negative(False)
    assert not positive.non_negative(False).positive
