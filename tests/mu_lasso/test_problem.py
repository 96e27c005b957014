"""The mu-lasso problem by its definition, its saturation, its checks, and the projection by bisection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import project_by_bisection
from toy_problems import problem_of

from tipping.mu_lasso import MuLassoProblem, homotopy, project_l1_ball, spg
from tipping.mu_lasso import problem as problems

NAN, INF = float("nan"), float("inf")


def test_objective_and_gradient_follow_their_definition(rng: np.random.Generator, device: torch.device) -> None:
    responses, labels = rng.random((30, 5)), np.eye(3)[rng.integers(3, size=30)]
    weights = rng.normal(size=(5, 3))
    problem = problem_of(responses, labels, device)
    residual = responses @ weights - labels
    on_device = torch.as_tensor(weights, device=device)
    assert np.allclose(problem.objective(on_device).cpu(), (residual**2).sum(0) / 2, rtol=1e-12)
    assert np.allclose(problem.gradient(on_device).cpu(), responses.T @ residual, rtol=1e-12)


def test_the_gap_is_the_linear_maximum_over_the_ball(rng: np.random.Generator, device: torch.device) -> None:
    """max over the ball of gᵀ(w − v) is reached at a corner: try them all."""
    responses, labels, mu = rng.random((30, 5)), np.eye(3)[rng.integers(3, size=30)], 2.5
    weights = rng.normal(size=(5, 3))
    weights *= mu / np.abs(weights).sum(0)
    residual = responses @ weights - labels
    gradient = responses.T @ residual
    corners = np.concatenate([mu * np.eye(5), -mu * np.eye(5)])
    gap = [max((gradient[:, c] @ (weights[:, c] - corner)) for corner in corners) for c in range(3)]
    expected = gap / np.maximum((residual**2).sum(0) / 2, 1)
    problem = problem_of(responses, labels, device)
    given = problem.relative_gap(torch.as_tensor(weights, device=device), torch.tensor(mu, device=device))
    assert np.allclose(given.cpu(), expected, rtol=1e-12)


def test_parts_streamed_or_added_make_the_whole(rng: np.random.Generator, device: torch.device) -> None:
    responses, labels = rng.random((31, 5)), np.eye(3)[rng.integers(3, size=31)]
    cuts = [slice(0, 11), slice(11, 12), slice(12, 31)]
    batches = [(torch.as_tensor(responses[cut], device=device), torch.as_tensor(labels[cut])) for cut in cuts]
    batches = [(x, y.to(device)) for x, y in batches]
    streamed = MuLassoProblem.stream(iter(batches))
    added = MuLassoProblem.stream(batches[:1]) + MuLassoProblem.stream(batches[1:])
    for problem in (streamed, added):
        assert np.allclose(problem.gram_FF.cpu(), responses.T @ responses, rtol=1e-13)
        assert np.allclose(problem.cross_FC.cpu(), responses.T @ labels, rtol=1e-13)
        assert np.allclose(problem.label_sq_C.cpu(), labels.sum(0))


def test_float32_responses_are_summed_in_float64(rng: np.random.Generator) -> None:
    responses, labels = rng.random((1000, 3)).astype(np.float32), np.ones((1000, 1), np.float32)
    problem = problem_of(responses, labels)
    exact = responses.astype(np.float64)
    assert problem.gram_FF.dtype == torch.float64
    assert np.allclose(problem.gram_FF, exact.T @ exact, rtol=1e-13)


def test_sums_in_float32_are_rounded_once_a_batch(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "ROWS", 2)
    responses, labels = rng.random((60, 5)), np.eye(3)[rng.integers(3, size=60)]
    batches = [(torch.as_tensor(responses[i::6]), torch.as_tensor(labels[i::6])) for i in range(6)]
    problem = MuLassoProblem.stream(batches, torch.float32)
    assert {problem.gram_FF.dtype, problem.cross_FC.dtype, problem.label_sq_C.dtype} == {torch.float32}
    # each of six sums, none over the last, is rounded to half a unit in its last place
    assert np.allclose(problem.gram_FF, responses.T @ responses, rtol=6 * 2**-24, atol=0)
    assert not np.allclose(problem.gram_FF, responses.T @ responses, rtol=2**-30, atol=0)


def test_blocks_of_rows_make_the_same_problem(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    responses = rng.random((30, 7))
    whole = problem_of(responses, np.ones((30, 1)))
    monkeypatch.setattr(problems, "ROWS", 3)
    parts = problem_of(responses, np.ones((30, 1)))
    assert torch.equal(whole.gram_FF, parts.gram_FF)
    assert torch.equal(parts.gram_FF, parts.gram_FF.T)
    norm = np.linalg.norm(responses, axis=0)
    for problem in (whole, parts):
        gram, norms = problem.normalised()
        assert np.allclose(gram, (responses / norm).T @ (responses / norm), rtol=1e-13)
        assert np.allclose(norms, norm, rtol=1e-13)


def test_a_matrix_that_is_not_symmetric_far_down_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "ROWS", 2)
    gram = torch.eye(5, dtype=torch.float64)
    gram[4, 3] = 0.1
    with pytest.raises(ValueError, match="gram_FF must be symmetric"):
        MuLassoProblem(gram, torch.zeros(5, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))


def test_saturation_is_the_norm_of_the_least_solution(rng: np.random.Generator, device: torch.device) -> None:
    responses = rng.normal(size=(40, 6))
    labels = np.eye(2)[rng.integers(2, size=40)]
    unique = problem_of(responses, labels, device)
    least_squares = np.linalg.lstsq(responses, labels, rcond=None)[0]
    assert np.allclose(unique.saturation().cpu(), np.abs(least_squares).sum(0), rtol=1e-9)
    # a copy at half the size can only cost more; one at twice the size takes over the weight at half the norm
    scaled = np.concatenate([responses, responses[:, :1] / 2, responses[:, 1:2] * 2, 0 * responses[:, :1]], 1)
    cheaper = np.abs(least_squares).sum(0) - np.abs(least_squares[1]) / 2
    problem = problem_of(scaled, labels, device)
    assert np.allclose(problem.saturation().cpu(), cheaper, rtol=1e-9)
    assert np.allclose(homotopy(problem).saturation().cpu(), cheaper, rtol=1e-9)


def test_from_saturation_on_the_weights_stay_the_same(rng: np.random.Generator, device: torch.device) -> None:
    problem = problem_of(rng.normal(size=(40, 6)), np.eye(2)[rng.integers(2, size=40)], device)
    saturation = problem.saturation()
    at, under, over = (spg(problem, [float(saturation[0]) * share]) for share in (1, 0.999, 50))
    assert torch.allclose(at.weights_MFC[0, :, 0], over.weights_MFC[0, :, 0], rtol=1e-9)
    assert float(over.weights_MFC[0, :, 0].abs().sum()) == pytest.approx(float(saturation[0]), rel=1e-9)
    assert not torch.allclose(at.weights_MFC[0, :, 0], under.weights_MFC[0, :, 0], rtol=1e-5)
    assert all(bool(solution.certified_MC.all()) for solution in (at, under, over))


GRAM, CROSS, LABEL = torch.eye(3).double(), torch.ones(3, 2).double(), torch.ones(2).double()


@pytest.mark.parametrize(
    ("gram", "cross", "label", "message"),
    [
        (GRAM[:2], CROSS, LABEL, "gram_FF must be square, got shape"),
        (GRAM[0], CROSS, LABEL, "gram_FF must be square, got shape"),
        (GRAM + CROSS[:, :1] * torch.arange(3), CROSS, LABEL, "gram_FF must be symmetric"),
        (-GRAM, CROSS, LABEL, "gram_FF must be positive semidefinite"),
        (1 - GRAM, CROSS, LABEL, "gram_FF must be positive semidefinite"),  # a diagonal of 0 beside entries of 1
        (1.9 * GRAM - 0.9, CROSS, LABEL, "gram_FF must be positive semidefinite"),  # though each pair is possible
        (GRAM, 2 * CROSS, LABEL, "cross_FC must consist of products"),
        (GRAM, 0 * CROSS, -LABEL, "cross_FC must consist of products"),
        (GRAM * NAN, CROSS, LABEL, "gram_FF must be finite"),
        (GRAM.int(), CROSS, LABEL, r"gram_FF must be of type torch\.float64 or torch\.float32"),
        (GRAM, CROSS[:2], LABEL, r"cross_FC must have shape \(3, classes\)"),
        (GRAM, CROSS[:, 0], LABEL, r"cross_FC must have shape \(3, classes\)"),
        (GRAM, CROSS * INF, LABEL, "cross_FC must be finite"),
        (GRAM, CROSS.float(), LABEL, "cross_FC must be of gram_FF's type and device"),
        (GRAM, CROSS.to("meta"), LABEL, "cross_FC must be of gram_FF's type and device"),
        (GRAM, CROSS, LABEL[:1], r"label_sq_C must have shape \(2,\)"),
        (GRAM, CROSS, LABEL * NAN, "label_sq_C must be finite"),
    ],
)
def test_what_is_no_problem_is_refused(
    gram: torch.Tensor, cross: torch.Tensor, label: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        MuLassoProblem(gram, cross, label)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "batches must hold"),
        ([(torch.full((2, 3), NAN), torch.ones(2, 1))], "responses_NF must be finite, got .* in batch 0"),
        (
            [(torch.ones(2, 3), torch.ones(2, 1)), (torch.full((2, 3), INF), torch.ones(2, 1))],
            "responses_NF .* batch 1",
        ),
        ([(torch.ones(2, 3), torch.full((2, 1), NAN))], "labels_NC must be finite"),
        ([(torch.ones(2, 3), torch.ones(3, 1))], "labels_NC must have a row for each image"),
        ([(torch.ones(2, 3), torch.ones(2, 1, device="meta"))], "labels_NC must stay on one device, got meta"),
        ([(torch.ones(2, 3), torch.ones(2))], "labels_NC must have a row for each image"),
        ([(torch.ones(2, 3), torch.ones(2, 1)), (torch.ones(2, 4), torch.ones(2, 1))], "must keep their columns"),
    ],
)
def test_batches_that_make_no_problem_are_refused(batches: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MuLassoProblem.stream(batches)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.float64 or torch\.float32, got torch\.float16"):
        MuLassoProblem(GRAM, CROSS, LABEL).to(torch.float16)


def test_problems_of_other_types_or_shapes_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="the same shape and type"):
        MuLassoProblem(GRAM, CROSS, LABEL) + MuLassoProblem(GRAM, CROSS, LABEL).to(torch.float32)
    with pytest.raises(ValueError, match="the same shape and type"):
        MuLassoProblem(GRAM, CROSS, LABEL) + MuLassoProblem(GRAM, CROSS[:, :1], LABEL[:1])


points = arrays(float, (7, 2), elements=st.floats(-1e3, 1e3, width=32))
radii = st.floats(1e-3, 1e4)


@given(point=points, first=radii, second=radii)
def test_projection_agrees_with_bisection_each_column_with_its_radius(
    point: np.ndarray, first: float, second: float
) -> None:
    radius = np.array([first, second])
    projected = project_l1_ball(torch.as_tensor(point), torch.as_tensor(radius)).numpy()
    rounding = 1e-12 * max(1, np.abs(point).max())
    for c in (0, 1):
        assert np.allclose(projected[:, c], project_by_bisection(point[:, c], radius[c]), rtol=0, atol=rounding)
        if np.abs(point[:, c]).sum() > radius[c]:
            assert np.abs(projected[:, c]).sum() == pytest.approx(radius[c], abs=rounding), "exactly on the sphere"
        else:
            assert np.array_equal(projected[:, c], point[:, c]), "points of the ball stay"
    again = project_l1_ball(torch.as_tensor(projected), torch.as_tensor(radius)).numpy()
    assert np.allclose(again, projected, rtol=0, atol=rounding), "idempotent"


@given(one=points, other=points, radius=radii)
def test_projection_moves_no_two_points_apart(one: np.ndarray, other: np.ndarray, radius: float) -> None:
    ball = torch.tensor(radius, dtype=torch.float64)
    projected = [project_l1_ball(torch.as_tensor(point), ball).numpy() for point in (one, other)]
    apart = np.linalg.norm(projected[0] - projected[1], axis=0)
    assert (apart <= np.linalg.norm(one - other, axis=0) + 1e-9).all()


def test_projection_of_a_far_point_stays_in_the_ball(rng: np.random.Generator) -> None:
    point = torch.as_tensor(rng.normal(size=(20, 3)) * [1e8, 1e13, 1e18])
    projected = project_l1_ball(point, torch.tensor(1e-3, dtype=torch.float64))
    assert (projected.abs().sum(0) <= 1e-3 * (1 + 1e-14)).all()


def test_projection_batches_over_leading_dimensions(rng: np.random.Generator, device: torch.device) -> None:
    point, radius = rng.normal(size=(3, 40, 5)), rng.uniform(0.1, 10, size=(3, 5))
    point[0, 5:10] = point[0, :5]  # ties
    point[1, :, 2] = 0
    projected = project_l1_ball(torch.as_tensor(point, device=device), torch.as_tensor(radius, device=device))
    for m in range(3):
        for c in range(5):
            expected = project_by_bisection(point[m, :, c], radius[m, c])
            assert np.allclose(projected[m, :, c].cpu(), expected, rtol=0, atol=1e-12)
            assert np.array_equal(projected[m, :, c].cpu() != 0, expected != 0), "exact zeros"
