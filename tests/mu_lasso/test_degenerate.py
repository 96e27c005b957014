"""Both solvers where filters are dead, duplicate or collinear, and where the bound does not bind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import feasible
from toy_problems import SOLVERS, Solver, degenerate, degenerate_problems, problem_of

from tipping.mu_lasso import MuLassoProblem, homotopy, project_l1_ball, spg
from tipping.mu_lasso.active_set import descend
from tipping.mu_lasso.solution import certify


@SOLVERS
def test_dead_filters_are_never_selected(problem: MuLassoProblem, solve: Solver) -> None:
    dead = problem.dead_F()
    assert dead.sum() == 6
    solution = solve(problem, [20.0, 1e4])
    assert not (solution.weights_MFC[:, dead] != 0).any()
    assert solution.certified_MC.all()


@SOLVERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_duplicates_are_said_to_leave_a_choice(problem: MuLassoProblem, solve: Solver, dtype: torch.dtype) -> None:
    problem = problem.to(dtype)
    once = solve(problem, [8.0])
    assert once.unique_MC.all() or dtype == torch.float32  # whose gap may leave it in doubt
    chosen = int(once.weights_MFC[0, :, 0].abs().argmax())
    order = torch.tensor([*range(47), chosen], device=problem.gram_FF.device)
    twice = MuLassoProblem(problem.gram_FF[order][:, order], problem.cross_FC[order], problem.label_sq_C)
    solution = solve(twice, [8.0])
    assert solution.certified_MC.all()
    exact = [p.to(torch.float64).objective(s.weights_MFC.double()) for p, s in ((twice, solution), (problem, once))]
    assert torch.allclose(*exact, rtol=1e-12 if dtype == torch.float64 else 1e-5)
    assert not solution.unique_MC[0][once.weights_MFC[0, chosen] != 0].any()
    if dtype == torch.float64:
        assert torch.equal(solution.unique_MC[0], once.weights_MFC[0, chosen] == 0)


@pytest.mark.parametrize(
    ("size", "mu", "apart", "unique"),
    [
        (1.0, 0.5, 1e-3, True),
        (1e-3, 500.0, 1e-10, False),  # a relative difference of 1e-7 between the gradients
        (1.0, 0.9999, 1e-9, False),  # or one that changes the objective by less than 1e-8
    ],
)
def test_duplicates_that_only_rounding_tells_apart_leave_a_choice(
    size: float, mu: float, apart: float, unique: bool
) -> None:
    both = torch.ones(2, 1, dtype=torch.float64)
    cross_FC = size * both - torch.tensor([[0.0], [apart]], dtype=torch.float64)
    problem = MuLassoProblem(size**2 * both @ both.T, cross_FC, both[0])
    solution = spg(problem, [mu])
    assert torch.equal(solution.weights_MFC[0, :, 0], mu * torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert solution.certified_MC.all()
    assert bool(solution.unique_MC) is unique


def test_weights_outside_the_ball_are_not_certified(problem: MuLassoProblem) -> None:
    mu_M, none = torch.tensor([8.0], dtype=torch.float64, device=problem.gram_FF.device), torch.zeros(1, 4)
    weights_MFC = spg(problem, [8.0]).weights_MFC
    for scale, inside in ((1, True), (1 + 1e-9, False)):
        solution = certify(problem, weights_MFC * scale, mu_M, 1e-3, none, {})
        assert (solution.certified_MC == inside).all()
        assert len(solution.stopped) == (0 if inside else 4)


@SOLVERS
def test_filters_that_explain_nothing_or_everything(solve: Solver, device: torch.device) -> None:
    """All filters dead; one filter that equals its label; a class without images."""
    labels = np.eye(3)[[0, 0, 1, 1]]
    dead = solve(problem_of(np.zeros((4, 2)), labels, device), [1.0])
    assert dead.certified_MC.all()
    assert dead.unique_MC.all()
    assert not dead.weights_MFC.any()
    assert not problem_of(np.zeros((4, 2)), labels, device).saturation().any()
    perfect = solve(problem_of(labels[:, :1], labels, device), [0.25, 5.0])
    assert np.allclose(perfect.weights_MFC[:, 0].cpu(), [[0.25, 0, 0], [1, 0, 0]])
    assert perfect.certified_MC.all()
    assert perfect.unique_MC.all()


@SOLVERS
def test_beyond_saturation_the_least_squares_minimum_is_reached(problem: MuLassoProblem, solve: Solver) -> None:
    solution = solve(problem, [1e4])
    gram, cross = problem.gram_FF.cpu().numpy(), problem.cross_FC.cpu().numpy()
    free = torch.as_tensor(np.linalg.lstsq(gram, cross, rcond=1e-12)[0], device=problem.gram_FF.device)
    assert (problem.saturation() < 1e4).all()
    assert solution.certified_MC.all()
    assert not solution.unique_MC.any(), "each layer sums to 1: null directions leave a choice"
    assert torch.allclose(problem.objective(solution.weights_MFC)[0], problem.objective(free), rtol=1e-7)


def test_the_path_ends_at_saturation(problem: MuLassoProblem) -> None:
    """Found by a linear program over the null directions, and at the end of the path."""
    saturation = problem.saturation()
    assert torch.allclose(homotopy(problem).saturation(), saturation, rtol=1e-6)
    assert torch.allclose(problem.to(torch.float32).saturation().double(), saturation, rtol=0.2)
    gaps = [spg(problem, [float(saturation[0]) * share]) for share in (0.99, 1.01)]
    norms = [float(solution.weights_MFC[0, :, 0].abs().sum()) for solution in gaps]
    assert norms[0] == pytest.approx(0.99 * float(saturation[0]), rel=1e-9), "still binding"
    assert problem.gradient(gaps[1].weights_MFC[0])[:, 0].abs().max() < 1e-6, "no longer"


def test_the_exact_descent_never_leaves_the_ball_or_raises_the_objective(
    problem: MuLassoProblem, rng: np.random.Generator
) -> None:
    twice = torch.arange(47, device=problem.gram_FF.device).repeat(2)  # every filter twice: a singular Gram matrix
    problem = MuLassoProblem(problem.gram_FF[twice][:, twice], problem.cross_FC[twice], problem.label_sq_C)
    for mu in torch.tensor([0.1, 10.0, 1000.0], dtype=torch.float64, device=twice.device):
        for _ in range(3):
            point = torch.as_tensor(rng.normal(size=(94, 4)) * 10.0 ** rng.integers(-3, 3, (1, 4)), device=mu.device)
            point = project_l1_ball(point, mu)
            lower = descend(problem, point, mu)
            assert (lower.abs().sum(0) <= mu * (1 + 1e-14)).all()
            assert (problem.objective(lower) <= problem.objective(point)).all()


def repeating(seed: int, images: int, layers: int, width: int) -> MuLassoProblem:
    """Layers that see the same two factors, a little noisily, and each sum to 1: many nearly null directions."""
    rng = np.random.default_rng(seed)
    factors = rng.random((images, 2))
    maps = [factors @ rng.random((2, width)) + 0.02 * rng.random((images, width)) for _ in range(layers)]
    responses = np.concatenate([layer / layer.sum(1, keepdims=True) for layer in maps], 1)
    scores = responses @ rng.normal(size=(layers * width, 3))
    scores += 0.3 * scores.std() * rng.normal(size=scores.shape)
    return problem_of(responses, np.eye(3)[(scores - scores.mean(0)).argmax(1)])


@settings(max_examples=30)
@example(problem=repeating(50, 300, 5, 2), share=0.3)  # ends at a gap of 3e-5 without damped moves
@given(
    problem=st.builds(repeating, st.integers(0, 2**32 - 1), st.integers(50, 500), st.integers(2, 6), st.integers(2, 3)),
    share=st.floats(0.01, 1.2),
)
def test_layers_that_repeat_each_other_are_solved_exactly(problem: MuLassoProblem, share: float) -> None:
    mu = [share * float(problem.saturation().max())]
    ours, exact = spg(problem, mu, max_iterations=200), homotopy(problem).solution(mu)
    assert ours.certified_MC.all(), ours.stopped
    assert exact.certified_MC.all()
    assert torch.allclose(*(problem.objective(solution.weights_MFC) for solution in (ours, exact)), rtol=2e-8)


@settings(max_examples=100)
@example(
    problems=degenerate(142, 30, 6, 3, True, 3, 2, 2), mu=[2.001953125, 140.65156468233786, 0.25]
)  # needs refining
@example(
    problems=degenerate(26, 35, 8, 2, False, 1, 0, 1), mu=[5.0]
)  # breakpoints that rounding would put out of order
@given(problems=degenerate_problems, mu=st.lists(st.floats(0.01, 300), min_size=1, max_size=3))
def test_degenerate_problems_are_solved_to_the_same_minimum(
    problems: tuple[MuLassoProblem, MuLassoProblem], mu: list[float]
) -> None:
    """Copies and convex mixtures of filters add nothing: the minimum is that of the plain problem."""
    whole, plain = problems
    paths = [homotopy(p) for p in (whole, plain)]
    solutions = [spg(whole, mu), paths[0].solution(mu), spg(plain, mu), paths[1].solution(mu)]
    objectives = [
        p.objective(solution.weights_MFC) for p, solution in zip((whole, whole, plain, plain), solutions, strict=True)
    ]
    for solution, objective in zip(solutions, objectives, strict=True):
        assert solution.certified_MC.all(), solution.stopped
        assert feasible(solution, mu)
        # each is within a gap of 1e-8 max(f, 1) of the same minimum
        assert torch.allclose(objective, objectives[0], rtol=2e-8, atol=2e-8)
    assert all((np.diff(path.mu_K) >= 0).all() for path in (*paths[0].classes, *paths[1].classes))
    assert not (solutions[0].weights_MFC[:, whole.dead_F()] != 0).any()
    assert torch.equal(solutions[0].unique_MC, solutions[1].unique_MC)
    for m, c in solutions[0].unique_MC.nonzero().tolist():
        one, other = (solution.weights_MFC[m, :, c] for solution in solutions[:2])
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * mu[m])
        clear = one.abs() > 1e-6 * mu[m]  # a weight within rounding of zero may go either way
        face = torch.as_tensor(paths[0].classes[c].face(mu[m])).double()
        assert torch.equal(one.sign()[clear], other.sign()[clear])
        assert torch.equal(one.sign()[clear], face[clear]), "the path itself, before any descent, has this face"
