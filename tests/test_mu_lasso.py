"""The solver against certificates, scikit-learn, bisection and a stored exact solution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import problem_of, responses_like
from sklearn.linear_model import lars_path_gram

from tipping.mu_lasso import MuLassoProblem, project_l1_ball, spg
from tipping.mu_lasso.face import minimize_on_face

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "mulasso_matconvnet_570.npz"


@pytest.fixture
def problem(rng: np.random.Generator, device: torch.device) -> MuLassoProblem:
    responses = responses_like(rng, images=400, sizes=[12, 20, 15], dead=2)
    scores = responses @ rng.normal(size=(47, 4))
    scores += 0.3 * scores.std() * rng.normal(size=scores.shape)
    labels = np.eye(4)[(scores - scores.mean(0)).argmax(1)]
    return problem_of(responses, labels, device)


def exact_path(problem: MuLassoProblem, c: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's exact path of one class: L1 norms and weights (F, steps)."""
    gram, cross = problem.gram_FF.cpu().numpy(), problem.cross_FC[:, c].cpu().numpy()
    live = np.flatnonzero(gram.diagonal())  # scikit-learn's path does not take zero columns
    _, _, path = lars_path_gram(
        Xy=cross[live], Gram=gram[np.ix_(live, live)], n_samples=1, method="lasso", alpha_min=1e-9
    )
    weights = np.zeros((len(gram), path.shape[1]))
    weights[live] = path
    return np.abs(weights).sum(0), weights


@pytest.mark.parametrize("mu", [0.5, 8.0, 50.0, 200.0])
def test_spg_is_certified_and_agrees_with_the_exact_path(problem: MuLassoProblem, mu: float) -> None:
    solution = spg(problem, [mu])
    assert solution.certified_MC.all()
    assert (solution.relative_gap_MC <= 1e-8).all()
    assert (solution.weights_MFC.abs().sum(1) <= mu * (1 + 1e-9)).all()
    objective_C = problem.objective(solution.weights_MFC)[0].cpu().numpy()
    for c in range(4):
        norms, weights = exact_path(problem, c)
        assert norms[-1] > mu, "the reference path must reach this mu"
        exact = np.array([np.interp(mu, norms, weight) for weight in weights])
        reference = problem.objective(torch.as_tensor(exact, device=problem.gram_FF.device)[:, None].expand(-1, 4))
        # both are exact minima up to rounding; the certificate bounds ours by 1e-8 max(f, 1)
        assert objective_C[c] == pytest.approx(float(reference[c]), abs=2e-8 * max(1, objective_C[c]))
        support = solution.weights_MFC[0, :, c].cpu().numpy() != 0
        assert np.array_equal(support, np.abs(exact) > 1e-9)


def test_the_exact_step_never_leaves_the_ball_or_raises_the_objective(
    problem: MuLassoProblem, rng: np.random.Generator
) -> None:
    twice = torch.cat([problem.gram_FF] * 2)  # every filter twice: a singular Gram matrix
    problem = MuLassoProblem(torch.cat([twice] * 2, dim=1), torch.cat([problem.cross_FC] * 2), problem.label_sq_C)
    mu = torch.tensor([[0.1], [10.0], [1000.0]], dtype=torch.float64, device=twice.device)
    wanted = torch.ones(3, 4, dtype=torch.bool)
    for _ in range(5):
        point = torch.as_tensor(rng.normal(size=(3, 94, 4)) * 10.0 ** rng.integers(-3, 3, (3, 1, 4)), device=mu.device)
        point = project_l1_ball(point, mu)
        better = minimize_on_face(problem, point, mu, wanted)
        assert (better.abs().sum(1) <= mu * (1 + 1e-14)).all()
        assert (problem.objective(better) <= problem.objective(point)).all()
        assert (better * point >= 0).all(), "no weight changes its sign"


def test_spg_solves_every_mu_and_class_as_it_solves_each_alone(problem: MuLassoProblem) -> None:
    together = spg(problem, [1.0, 5.0])
    for m, mu in enumerate([1.0, 5.0]):
        alone = spg(problem, [mu])
        # two points within a gap of 1e-8 of the same minimum
        objectives = problem.objective(together.weights_MFC[m]), problem.objective(alone.weights_MFC[0])
        assert torch.allclose(*objectives, rtol=0, atol=2e-8 * float(problem.label_sq_C.max()))


def test_dead_filters_are_never_selected(problem: MuLassoProblem) -> None:
    dead = problem.dead_F()
    assert dead.sum() == 6
    assert not (spg(problem, [20.0]).weights_MFC[0].cpu().numpy()[dead] != 0).any()


def test_beyond_saturation_the_least_squares_minimum_is_reached(problem: MuLassoProblem) -> None:
    solution = spg(problem, [1e4])
    gram, cross = problem.gram_FF.cpu().numpy(), problem.cross_FC.cpu().numpy()
    free = torch.as_tensor(np.linalg.lstsq(gram, cross, rcond=1e-12)[0], device=problem.gram_FF.device)
    assert free.abs().sum(0).max() < 1e4
    assert solution.certified_MC.all()
    assert torch.allclose(problem.objective(solution.weights_MFC)[0], problem.objective(free), rtol=1e-7)


def test_stopping_early_is_said(problem: MuLassoProblem) -> None:
    solution = spg(problem, [20.0], max_iterations=1)
    assert not solution.certified_MC.all()
    assert (solution.certified_MC == (solution.relative_gap_MC <= 1e-8)).all()
    assert solution.iterations == 1


@pytest.mark.parametrize("mu", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_mu_is_refused(problem: MuLassoProblem, mu: float) -> None:
    with pytest.raises(ValueError, match="mu must be finite and over 0"):
        spg(problem, [mu])


def test_gap_bounds_the_distance_to_the_minimum(problem: MuLassoProblem, rng: np.random.Generator) -> None:
    mu = torch.tensor([[3.0]], dtype=torch.float64, device=problem.gram_FF.device)
    minimum = problem.objective(spg(problem, [3.0]).weights_MFC)
    for _ in range(20):
        point = torch.as_tensor(rng.normal(size=(1, 47, 4)), device=problem.gram_FF.device)
        point = project_l1_ball(point, mu)
        objective = problem.objective(point)
        gap = problem.relative_gap(point, mu) * objective.clamp(min=1)
        assert (gap >= objective - minimum - 1e-6).all()


def test_objective_and_gradient_follow_their_definition(rng: np.random.Generator) -> None:
    responses, labels = rng.random((30, 5)), np.eye(3)[rng.integers(3, size=30)]
    weights = rng.normal(size=(5, 3))
    problem = problem_of(responses[:11], labels[:11]) + problem_of(responses[11:], labels[11:])
    residual = responses @ weights - labels
    assert np.allclose(problem.objective(torch.as_tensor(weights)), (residual**2).sum(0) / 2)
    assert np.allclose(problem.gradient(torch.as_tensor(weights)), responses.T @ residual)


def project_by_bisection(point: np.ndarray, radius: float) -> np.ndarray:
    if np.abs(point).sum() <= radius:
        return point
    low, high = 0.0, np.abs(point).max()
    for _ in range(200):
        level = (low + high) / 2
        if np.maximum(np.abs(point) - level, 0).sum() > radius:
            low = level
        else:
            high = level
    return np.sign(point) * np.maximum(np.abs(point) - high, 0)


def test_projection_agrees_with_bisection(rng: np.random.Generator, device: torch.device) -> None:
    points = rng.normal(size=(3, 40, 5)) * rng.choice([0.01, 1, 100], size=(3, 1, 5))
    points[0, 5:10] = points[0, :5]  # ties
    points[1, :, 2] = 0
    radius = rng.uniform(0.1, 10, size=(3, 5))
    projected = project_l1_ball(torch.as_tensor(points, device=device), torch.as_tensor(radius, device=device))
    result = projected.cpu().numpy()
    for m in range(3):
        for c in range(5):
            expected = project_by_bisection(points[m, :, c], radius[m, c])
            assert np.allclose(result[m, :, c], expected, atol=1e-12 * max(1, np.abs(points[m, :, c]).max()))
            inside = np.abs(points[m, :, c]).sum() <= radius[m, c]
            assert inside or np.abs(result[m, :, c]).sum() == pytest.approx(radius[m, c], rel=1e-12)
    again = project_l1_ball(projected, torch.as_tensor(radius, device=device) * (1 + 1e-12))
    assert torch.equal(again, projected)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference problem lies beside the repository only in CI")
@pytest.mark.parametrize("mu", [10.0, 100.0, pytest.param(500.0, marks=pytest.mark.long)])
def test_real_responses_give_the_stored_exact_solution(mu: float, device: torch.device) -> None:
    stored = np.load(REFERENCE)
    problem = MuLassoProblem(*(torch.as_tensor(stored[name], device=device) for name in ("gram", "cross", "label_sq")))
    m = int(np.flatnonzero(stored["mu"] == mu)[0])
    solution = spg(problem, [mu])
    assert solution.certified_MC.all()
    objective_C = problem.objective(solution.weights_MFC)[0].cpu().numpy()
    assert np.allclose(objective_C, stored["objective"][m], rtol=1e-9)
    assert np.array_equal(solution.weights_MFC[0].cpu().numpy() != 0, stored["weights"][m] != 0)
