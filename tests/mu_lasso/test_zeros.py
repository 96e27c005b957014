"""Exact zeros, beside exact rational arithmetic: the filters that count as relevant where filters tie."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import exact_minimum
from toy_problems import SOLVERS, Solver, follow, problem_of

from tipping.mu_lasso import MuLassoProblem, spg
from tipping.mu_lasso.zeros import without_rounding


def signs(weights: torch.Tensor) -> list[int]:
    return [int(sign) for sign in weights.sign()]


@SOLVERS
@pytest.mark.parametrize(
    ("gram", "cross", "mu", "exact"),
    [
        ([[5, 1], [1, 1]], [1, 1], 0.5, [0, 0.5]),  # at w = (0, t) both gradients are t − 1
        ([[5, 1], [1, 1]], [1, 1], 10, [0, 1]),
        ([[9, 1, 4], [1, 13, 2], [4, 2, 6]], [-3, -1, -4], 0.5, [0, 0, -0.5]),
        ([[8, 0, -2], [0, 9, -8], [-2, -8, 9]], [-2, 1, 1], 3, [0, 1, 1]),
    ],
)
def test_a_filter_tied_all_along_whose_weight_is_zero_is_not_relevant(
    gram: list[list[int]], cross: list[int], mu: float, exact: list[float], solve: Solver, device: torch.device
) -> None:
    gram_FF, cross_F = (torch.tensor(numbers, dtype=torch.float64, device=device) for numbers in (gram, cross))
    solution = solve(MuLassoProblem(gram_FF, cross_F[:, None], 9 * torch.ones_like(cross_F[:1])), [mu])
    assert solution.certified_MC.all()
    assert signs(solution.weights_MFC[0, :, 0]) == np.sign(exact).tolist()
    assert solution.weights_MFC[0, :, 0].tolist() == pytest.approx(exact, rel=1e-12)


MUS = [Fraction(1, 10**6), Fraction(1, 8), Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(3), Fraction(10)]


@st.composite
def tied(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Small whole numbers, which tie often; copies of columns; or a problem twice, whose filters change in pairs."""
    filters, images, number = draw(st.integers(1, 4)), draw(st.integers(1, 6)), st.integers(-2, 2)
    rows = st.lists(st.lists(number, min_size=filters, max_size=filters), min_size=images, max_size=images)
    responses = np.array(draw(rows))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=images, max_size=images)))
    kind = draw(st.sampled_from(["plain", "copy", "twice"]))
    if kind == "copy":
        return np.c_[responses, responses[:, 0] * draw(st.sampled_from([1, -1, 2]))], labels
    if kind == "twice" and filters < 4:
        return np.kron(np.eye(2, dtype=int), responses), np.r_[labels, labels]
    return responses, labels


FLIPPED = np.array([[1, 2, -1], [0, 1, 2], [2, 0, 1]]), np.array([1, 0, 0])


@settings(max_examples=100)
@example(problem=(np.array([[1, 1], [0, 0], [2, 0]]), np.array([1, 0, 0])), scales=(1.0, 1.0), positive=False)
@example(
    problem=(np.kron(np.eye(2, dtype=int), FLIPPED[0]), np.r_[FLIPPED[1], FLIPPED[1]]),
    scales=(0.1, 0.7),
    positive=False,
)
@given(
    problem=tied(),
    scales=st.tuples(st.sampled_from([1.0, 2.0**-28, 0.1, 1 / 7, 1e5 / 3]), st.sampled_from([1.0, 0.1, 0.7])),
    positive=st.booleans(),
)
def test_the_relevant_filters_are_those_of_rational_arithmetic(
    problem: tuple[np.ndarray, np.ndarray], scales: tuple[float, float], positive: bool
) -> None:
    """Scales but 1 round the numbers, which ties must outlive."""
    (responses, labels), (x, y) = problem, scales
    scaled = problem_of(responses * x, labels[:, None] * y).non_negative(positive)
    mu = [float(one) * y / x for one in MUS]
    gram, cross = (responses.T @ responses).tolist(), (responses.T @ labels).tolist()
    exact_M = [exact_minimum(gram, cross, exact_mu, positive) for exact_mu in MUS]
    for solution in (spg(scaled, mu), follow(scaled, mu)):
        for m, (exact_mu, exact) in enumerate(zip(MUS, exact_M, strict=True)):
            if exact is not None:
                assert signs(solution.weights_MFC[m, :, 0]) == [(w > 0) - (w < 0) for w in exact], float(exact_mu)
                found = solution.weights_MFC[m, :, 0] * x / y
                assert found.tolist() == pytest.approx([float(w) for w in exact], rel=1e-6, abs=1e-9)


@SOLVERS
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-11, 1e-13])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e4])
def test_small_weights_that_are_not_rounding_stay(solve: Solver, size: float, scale: float) -> None:
    """G = I and q = (2, 1 + 2 s): with mu = 1 the weights are (1 − s, s)."""
    gram_FF = torch.eye(2, dtype=torch.float64) * scale**2
    cross_FC = torch.tensor([[2.0], [1 + 2 * size]], dtype=torch.float64) * scale
    solution = solve(MuLassoProblem(gram_FF, cross_FC, torch.tensor([9.0], dtype=torch.float64)), [1 / scale])
    assert (solution.weights_MFC[0, :, 0] * scale).tolist() == pytest.approx([1 - size, size], rel=1e-2)


@SOLVERS
def test_small_weights_of_strong_filters_stay(solve: Solver) -> None:
    """A filter with responses a million times as strong needs a weight a million times as small."""
    gram_FF = torch.diag(torch.tensor([1.0, 1e24], dtype=torch.float64))
    cross_FC = torch.tensor([[1.0], [1e12]], dtype=torch.float64)
    solution = solve(MuLassoProblem(gram_FF, cross_FC, torch.tensor([9.0], dtype=torch.float64)), [10.0])
    assert solution.weights_MFC[0, :, 0].tolist() == pytest.approx([1, 1e-12], rel=1e-9)


def test_weights_that_the_minimum_needs_stay_though_each_alone_is_small(device: torch.device) -> None:
    """Two copies share a small weight: one of them may leave, and the other takes its share."""
    gram_FF = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.float64, device=device)
    cross_FC = torch.tensor([[2.0], [1 + 4e-9], [1 + 4e-9]], dtype=torch.float64, device=device)
    problem = MuLassoProblem(gram_FF, cross_FC, torch.tensor([9.0], dtype=torch.float64, device=device))
    shared = torch.tensor([[1 - 2e-9], [1e-9], [1e-9]], dtype=torch.float64, device=device)
    left = without_rounding(problem, shared, torch.tensor(1.0, dtype=torch.float64, device=device))
    assert sorted(left[1:, 0].tolist()) == pytest.approx([0, 2e-9], rel=1e-6, abs=0)


def test_the_duality_gap_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the errors thought a billion times as large, a filter that the minimum needs would stay all the same."""
    monkeypatch.setattr(sys.modules["tipping.mu_lasso.zeros"], "SLACK", 1e10)
    test_small_weights_that_are_not_rounding_stay(spg, 1e-9, 1.0)


@SOLVERS
def test_weights_of_rounding_leave_where_dependent_filters_leave_a_choice(solve: Solver) -> None:
    """Ten filters explain six images: each move of the others errs along the directions that change nothing."""
    rows = ["0111100121201", "1101000021112", "2011001001022", "1122202122112", "1111201212012", "0121110122201"]
    responses, labels = np.array([list(map(float, row)) for row in rows]), np.array([[1.0], [1], [0], [0], [1], [1]])
    solution = solve(problem_of(responses, labels), [2.0**-20, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0, 10.0])
    assert solution.certified_MC.all()
    for weights_FC in solution.weights_MFC:
        sizes = weights_FC[weights_FC != 0].abs()
        assert sizes.min() > 1e-6 * sizes.max()


@SOLVERS
def test_classes_without_images_change_nothing_and_are_not_solved(
    solve: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    responses_NR = torch.rand(60, 8, generator=draw, dtype=torch.float64)
    labels_N = torch.randint(0, 3, (60,), generator=draw)
    factored: list[int] = []
    plain = torch.linalg.cholesky_ex

    def counting(gram_BKK: torch.Tensor) -> Any:
        factored.append(len(gram_BKK))
        return plain(gram_BKK)

    few, many = (
        MuLassoProblem.stream([(responses_NR, torch.nn.functional.one_hot(labels_N, classes).double())])
        for classes in (3, 500)
    )
    expected = solve(few, [0.5, 5.0])
    monkeypatch.setattr(torch.linalg, "cholesky_ex", counting)
    found = solve(many, [0.5, 5.0])
    torch.testing.assert_close(found.weights_MFC[:, :, :3], expected.weights_MFC, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.unique_MC[:, :3], expected.unique_MC)
    assert not found.weights_MFC[:, :, 3:].any()
    assert found.certified_MC.all()
    assert sum(factored) < 200, "two mu of 497 classes without images are not factored one by one"
