"""Where the bound binds, beside the saturation mu by a linear program, and grids between first and last mu."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_problems import SOLVERS, Solver, degenerate_problems, problem_of

from tipping.mu_lasso import MuLassoProblem, Reach, followed_quickly, homotopy, spg


@SOLVERS
@pytest.mark.parametrize("positive", [False, True])
def test_the_bound_binds_under_the_saturation_mu(problem: MuLassoProblem, solve: Solver, positive: bool) -> None:
    problem = problem.non_negative(positive)
    saturation_C = problem.saturation()
    mu = sorted({round(float(one) * share, 6) for one in saturation_C for share in (0.1, 0.8, 1.2, 10.0)})
    expected = torch.tensor(mu, device=saturation_C.device)[:, None] < saturation_C
    solution = solve(problem, mu)
    assert torch.equal(solution.binds_MC, expected)
    assert torch.equal(solution.at(len(mu) - 1).binds_MC, expected[-1:])
    assert expected.any()
    assert not expected.all()


@settings(max_examples=50)
@given(problems=degenerate_problems, share=st.floats(0.01, 3), positive=st.booleans())
def test_copies_and_dead_filters_change_nothing_of_what_binds(
    problems: tuple[MuLassoProblem, MuLassoProblem], share: float, positive: bool
) -> None:
    """Whether doubling mu lowers the minimum by more than the tolerance, tried out."""
    whole = problems[0].non_negative(positive)
    mu = max(0.01, share * float(whole.saturation().max()))
    path = homotopy(whole)
    lower = whole.objective(path.weights([mu])[0]) - whole.objective(path.weights([2 * mu])[0])
    for solution in (spg(whole, [mu]), path.solution([mu])):
        assert not (
            ~solution.binds_MC[0] & (lower > 3e-8 * whole.objective(solution.weights_MFC)[0].clamp(min=1))
        ).any()
        room = solution.weights_MFC[0].abs().sum(0) < mu * (1 - 1e-6)
        assert not (solution.binds_MC[0] & room).any()


def test_a_class_without_images_never_binds(rng: np.random.Generator) -> None:
    problem = problem_of(rng.random((30, 4)), np.eye(3)[rng.integers(2, size=30)])
    assert spg(problem, [1e-6]).binds_MC.tolist() == [[True, True, False]]


def test_the_grid_goes_from_the_first_change_to_saturation(problem: MuLassoProblem) -> None:
    reach = Reach.from_path(homotopy(problem))
    second = min(path.mu_K[path.mu_K > 0].min() for path in homotopy(problem).classes)
    assert reach.first == pytest.approx(second)
    assert reach.last == pytest.approx(float(problem.saturation().max()), rel=1e-6)
    grid = reach.grid(5)
    assert np.allclose(np.diff(np.log(grid)), np.log(reach.last / reach.first) / 4, atol=1e-3)
    assert [float(f"{mu:.4g}") for mu in grid] == grid
    assert len(reach.grid()) == 9
    few, none = spg(problem, [reach.first * 0.999]), spg(problem, [reach.last * 1.001])
    assert ((few.weights_MFC[0] != 0).sum(0) == 1).all(), "each class has its first filter only"
    assert (spg(problem, [reach.first * 1.01]).weights_MFC[0] != 0).sum() == 5, "and then one has a second"
    assert few.binds_MC.all()
    assert not none.binds_MC.any()


def test_one_filter_is_all_there_is(rng: np.random.Generator) -> None:
    reach = Reach.from_path(homotopy(problem_of(np.ones((4, 1)), np.eye(2)[[0, 0, 1, 0]])))
    assert (reach.first, reach.last) == pytest.approx((0.25, 0.75))
    assert Reach.from_path(homotopy(problem_of(np.zeros((4, 1)), np.eye(2)[[0, 0, 1, 0]]))).first == np.inf


def test_long_paths_are_not_quick() -> None:
    eye = torch.eye(2000, dtype=torch.float64)
    some = MuLassoProblem(eye, eye[:, :1], eye[0, :1])
    assert followed_quickly(some)
    assert not followed_quickly(some.classes(torch.zeros(10, dtype=torch.long)))
