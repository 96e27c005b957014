"""Both solvers against certificates, each other, scikit-learn and a stored exact solution."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import feasible, library_path
from toy_problems import SOLVERS, Solver

from tipping.mu_lasso import MuLassoProblem, homotopy, spg
from tipping.mu_lasso.spg import gradient_steps

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "mulasso_matconvnet_570.npz"


@SOLVERS
@pytest.mark.parametrize("mu", [0.5, 8.0, 50.0, 200.0])
def test_certified_and_equal_to_the_path_of_scikit_learn(problem: MuLassoProblem, solve: Solver, mu: float) -> None:
    solution = solve(problem, [mu])
    assert solution.certified_MC.all()
    assert (solution.relative_gap_MC <= 1e-8).all()
    assert (solution.relative_gap_MC == problem.relative_gap(solution.weights_MFC, torch.tensor(mu))).all()
    assert feasible(solution, [mu])
    assert not solution.stopped
    for c in range(4):
        norms, weights = library_path(problem, c)
        assert norms[-1] > mu, "the reference path must reach this mu"
        exact = np.array([np.interp(mu, norms, weight) for weight in weights])
        # the paths carry rounding errors of the size of the condition number, some 1e6, times 1e-16
        assert np.allclose(solution.weights_MFC[0, :, c].cpu(), exact, rtol=0, atol=1e-8 * mu)
        assert np.array_equal(solution.weights_MFC[0, :, c].cpu() != 0, np.abs(exact) > 1e-8)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference problem lies beside the repository only in CI")
@SOLVERS
def test_real_responses_give_the_stored_exact_solution(solve: Solver, device: torch.device) -> None:
    stored = np.load(REFERENCE)
    problem = MuLassoProblem(*(torch.as_tensor(stored[name], device=device) for name in ("gram", "cross", "label_sq")))
    mu = stored["mu"].tolist()
    solution = solve(problem, mu)
    assert solution.certified_MC.all()
    assert solution.unique_MC.all()
    assert feasible(solution, mu)
    assert np.allclose(problem.objective(solution.weights_MFC).cpu(), stored["objective"], rtol=1e-9)
    assert np.array_equal(solution.weights_MFC.cpu().numpy() != 0, stored["weights"] != 0)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference problem lies beside the repository only in CI")
def test_the_path_of_real_responses_has_the_stored_faces_and_ends_at_saturation() -> None:
    """The path itself: `solution` would mend a wrong one by its descents."""
    stored = np.load(REFERENCE)
    problem = MuLassoProblem(*(torch.as_tensor(stored[name]) for name in ("gram", "cross", "label_sq")))
    path = homotopy(problem)
    for c, mine in enumerate(path.classes):
        for mu, weights_FC in zip(stored["mu"], stored["weights"], strict=True):
            assert np.array_equal(mine.face(mu), np.sign(weights_FC[:, c]))
    # two ways that share no step; the Gram matrix's condition number hides more than this
    assert torch.allclose(path.saturation(), problem.saturation(), rtol=1e-6)


@SOLVERS
def test_float32_is_certified_to_its_own_tolerance(problem: MuLassoProblem, solve: Solver) -> None:
    mu = [0.5, 8.0, 50.0, 200.0]
    solution = solve(problem.to(torch.float32), mu)
    assert solution.weights_MFC.dtype == torch.float32
    assert solution.certified_MC.all()
    assert feasible(solution, mu)
    # the certificate is that of the rounded weights, in float64
    exact = problem.to(torch.float32).to(torch.float64)
    gap = exact.relative_gap(solution.weights_MFC.double(), torch.tensor(mu, device=exact.gram_FF.device)[:, None])
    assert torch.equal(solution.relative_gap_MC, gap)
    assert (gap <= 1e-3).all()
    assert (gap > 1e-8).any(), "else float32 would deserve the tolerance of float64"


@pytest.mark.parametrize("block", [1, 64])
def test_breakpoints_and_supports_are_those_of_scikit_learn(
    problem: MuLassoProblem, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pivots gathered by the dozen, as on large problems, or all together."""
    monkeypatch.setattr(sys.modules["tipping.mu_lasso.homotopy"], "BLOCK", block)
    path = homotopy(problem)
    assert (path.saturation() > 200).all()
    for c, mine in enumerate(path.classes):
        norms, weights = library_path(problem, c)
        norms, weights = norms[norms < 300], weights[:, norms < 300]
        assert np.allclose(mine.mu_K[mine.mu_K < 300], norms, rtol=1e-6, atol=1e-9)
        assert mine.mu_K[0] == 0
        assert (np.diff(mine.mu_K) >= 0).all()
        supports = list(mine.supports())
        for k in range(len(norms) - 1):
            between = (weights[:, k] + weights[:, k + 1]) / 2
            between[np.abs(between) < 1e-9 * np.abs(between).max()] = 0  # left a little beside zero by rounding
            assert np.array_equal(supports[k], np.flatnonzero(between)), "the support between two breakpoints"
            mu = float(norms[k] + norms[k + 1]) / 2
            assert np.array_equal(mine.face(mu), np.sign(between)), "and its signs"
            if mine.sign_K[k]:
                assert not mine.face(mine.mu_K[k])[mine.filter_K[k]], "where it enters, a filter's weight is still 0"
        assert path.solution([50.0]).iterations_MC[0, c] == (norms < 50).sum()


def test_a_path_cut_short_is_the_beginning_of_the_whole(problem: MuLassoProblem) -> None:
    whole = homotopy(problem)
    for mu in (0.5, 8.0, 50.0, 200.0):
        part = homotopy(problem, largest_mu=mu)
        for long, short in zip(whole.classes, part.classes, strict=True):
            assert np.array_equal(short.mu_K, long.mu_K[long.mu_K <= mu])
            assert short.saturation == float("inf")
        assert torch.equal(part.weights([mu]), whole.weights([mu]))
        with pytest.raises(ValueError, match=f"mu must be at most {mu:g}"):
            part.weights([mu + 0.1])


def test_between_breakpoints_the_weights_are_linear_in_mu(problem: MuLassoProblem) -> None:
    path = homotopy(problem)
    for c in range(4):
        mu_K = path.classes[c].mu_K
        k = int(np.diff(mu_K).argmax())
        low, high = mu_K[k], mu_K[k + 1]
        ends, middle = path.weights([low, high]) if low else path.weights([high]), path.weights([(low + high) / 2])
        assert torch.allclose(middle[0, :, c], ends[..., c].sum(0) / 2, rtol=1e-8, atol=1e-8 * float(high))


def test_every_mu_and_class_together_as_each_alone(problem: MuLassoProblem) -> None:
    """Warm and cold starts, and other columns in the batch, change nothing."""
    mu = [50.0, 0.5, 8.0, 8.0]
    together = spg(problem, mu)
    for m, value in enumerate(mu):
        for c in range(4):
            alone = spg(problem.classes(torch.tensor([c])), [value])
            assert torch.allclose(together.weights_MFC[m, :, c], alone.weights_MFC[0, :, 0], rtol=1e-7, atol=1e-9)
            assert torch.equal(together.weights_MFC[m, :, c] != 0, alone.weights_MFC[0, :, 0] != 0)


@SOLVERS
def test_order_of_the_filters_changes_nothing(problem: MuLassoProblem, solve: Solver, rng: np.random.Generator) -> None:
    order = torch.as_tensor(rng.permutation(47), device=problem.gram_FF.device)
    shuffled = MuLassoProblem(problem.gram_FF[order][:, order], problem.cross_FC[order], problem.label_sq_C)
    weights, other = (solve(p, [8.0, 50.0]).weights_MFC for p in (problem, shuffled))
    assert torch.allclose(weights[:, order], other, rtol=1e-7, atol=1e-8)


@SOLVERS
def test_scaling_responses_labels_or_both_scales_the_weights(problem: MuLassoProblem, solve: Solver) -> None:
    weights = solve(problem, [8.0]).weights_MFC
    for x, y in ((10, 1), (1, 10), (0.1, 1)):  # responses and labels times x and y: w and mu times y / x
        scaled = MuLassoProblem(problem.gram_FF * x**2, problem.cross_FC * x * y, problem.label_sq_C * y**2)
        assert torch.allclose(solve(scaled, [8.0 * y / x]).weights_MFC * x / y, weights, rtol=1e-7, atol=1e-8)


def test_scaling_responses_labels_or_both_scales_the_path(problem: MuLassoProblem) -> None:
    saturation = homotopy(problem).saturation()
    for x, y in ((1e4, 1), (1, 1e4), (1e4, 1e4), (1e-4, 1e-4)):
        scaled = MuLassoProblem(problem.gram_FF * x**2, problem.cross_FC * x * y, problem.label_sq_C * y**2)
        assert torch.allclose(homotopy(scaled).saturation() * x / y, saturation, rtol=1e-6)


def test_gradient_steps_alone_come_near(problem: MuLassoProblem) -> None:
    mu = torch.tensor(3.0, dtype=torch.float64, device=problem.gram_FF.device)
    minimum = problem.objective(spg(problem, [3.0]).weights_MFC)[0]
    start = torch.zeros_like(problem.cross_FC)
    excess = [problem.objective(gradient_steps(problem, start, mu, steps)) - minimum for steps in (0, 30, 300)]
    assert (excess[1] < 0.1 * excess[0]).all()
    assert (excess[2] < 1e-2 * excess[0]).all()
    points = [gradient_steps(problem, start, mu, steps) for steps in range(30)]
    for before, after in itertools.pairwise(points):
        assert (after.abs().sum(0) <= 3 * (1 + 1e-14)).all()
        assert (problem.objective(after) <= problem.objective(before)).all(), "the line search is exact"


def test_gradient_steps_go_on_where_descents_stop(problem: MuLassoProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = spg(problem, [3.0]).weights_MFC
    monkeypatch.setattr(sys.modules["tipping.mu_lasso.spg"], "descend", lambda problem, weights_FC, mu: weights_FC)
    solution = spg(problem, [3.0], tolerance=1e-5)
    assert solution.certified_MC.all()
    assert (solution.iterations_MC > 0).all()
    assert torch.allclose(problem.objective(solution.weights_MFC), problem.objective(exact), rtol=2e-5)


def test_stopping_early_is_said_in_a_sentence(problem: MuLassoProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    solutions = {
        "rounding allows no lower objective": spg(problem, [20.0, 3.0], tolerance=1e-300),
        "exact descents went no further": homotopy(problem).solution([20.0, 3.0], tolerance=1e-300),
        "weights rounded to float32": spg(problem.to(torch.float32), [20.0, 3.0], tolerance=1e-300),
    }
    monkeypatch.setattr(sys.modules["tipping.mu_lasso.spg"], "descend", lambda problem, weights_FC, mu: weights_FC)
    solutions["max_iterations=7 gradient steps were taken"] = spg(problem, [20.0, 3.0], max_iterations=7)
    for reason, solution in solutions.items():
        assert not solution.certified_MC.all()
        assert not (solution.unique_MC & ~solution.certified_MC).any()
        assert set(solution.stopped) == {(m, c) for m, c in (~solution.certified_MC).nonzero().tolist()}
        for (m, c), sentence in solution.stopped.items():
            assert f"mu = {[20, 3][m]}, class {c}: stopped at a relative gap of" in sentence
            assert reason in sentence
    assert (solution.iterations_MC == 7).all()


@pytest.mark.parametrize("mu", [[0.0], [-1.0], [1, float("nan")], [float("inf")], [], 1.0, [[1.0]], None, ["a"]])
def test_bad_mu_is_refused(problem: MuLassoProblem, mu: list[float]) -> None:
    path = homotopy(problem, largest_mu=1)
    for solve in (lambda: spg(problem, mu), lambda: path.weights(mu), lambda: path.solution(mu)):
        with pytest.raises(ValueError, match="mu must be"):
            solve()


def test_bad_stopping_rules_are_refused(problem: MuLassoProblem) -> None:
    for tolerance in (0, -1e-8, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tolerance must be finite and over 0"):
            spg(problem, [1.0], tolerance=tolerance)
    with pytest.raises(ValueError, match="max_iterations must be at least 1"):
        spg(problem, [1.0], max_iterations=0)
    with pytest.raises(ValueError, match="largest_mu must be over 0"):
        homotopy(problem, largest_mu=-1)
