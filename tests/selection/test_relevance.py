from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toy_problems import problem_of, responses_like

from tipping.data import Split
from tipping.mu_lasso import MuLassoProblem, homotopy, spg
from tipping.network import Filters
from tipping.selection import Draws, explainable, select_each, strongest_first
from tipping.selection.relevance import by_filter, explained, masses, select


def chain(sizes: list[int], places: list[int]) -> Filters:
    """A chain of dense layers of those sizes; the responses are of these layers, some more than once."""
    model = nn.Sequential(*(nn.Linear(1, size) for size in sizes))
    sites = {str(layer): str(layer) for layer in range(len(sizes))}
    return Filters.at(model, sites, classes=3, maps=tuple((str(layer), str(layer)) for layer in places))


def test_strongest_first_among_the_chosen_ties_in_order() -> None:
    strength_F = np.array([0.0, 4, 3, 5, 4])
    assert strongest_first(strength_F, np.array([True, True, True, False, True])).tolist() == [1, 4, 2, 0]
    assert strongest_first(strength_F, np.zeros(5, dtype=bool)).tolist() == []


def test_a_filter_has_the_sum_of_its_responses() -> None:
    assert by_filter(np.arange(7.0), chain([2, 3], [0, 1, 0])).tolist() == [0 + 5, 1 + 6, 2, 3, 4]


def test_mass_is_the_sum_of_a_response_over_images(rng: np.random.Generator, device: torch.device) -> None:
    responses = responses_like(rng, images=50, sizes=[4, 6, 4], dead=1)
    responses[7, :4] = 0  # an image to which a layer gives nothing
    problem = problem_of(responses, np.ones((50, 1)), device)
    assert np.allclose(masses(problem, chain([4, 6], [0, 1, 0])), responses.sum(0), rtol=1e-12)


def test_explained_is_r_squared(rng: np.random.Generator, device: torch.device) -> None:
    from sklearn.metrics import r2_score

    responses = responses_like(rng, images=90, sizes=[5, 6])
    onehot_NC = np.eye(4)[rng.integers(3, size=90)]  # nobody is of the last class
    problem = problem_of(responses, onehot_NC, device)
    weights_RC = spg(problem, [2.0]).weights_MFC[0].cpu().numpy()
    expected = r2_score(onehot_NC[:, :3], responses @ weights_RC[:, :3], multioutput="raw_values")
    assert np.allclose(explained(problem, weights_RC), [*expected, 0], atol=1e-10)


@pytest.mark.parametrize("sizes", [[3, 4], [8, 9, 8]])
def test_noise_explains_as_much_as_simulated(sizes: list[int]) -> None:
    """Least squares on responses that the labels do not depend on, 2,000 times: the largest R² of three classes stays
    under the bound in 95 % of cases, up to the error of the simulation (0.5 %) and Bonferroni's slack."""
    rng = np.random.default_rng(0)
    under = 0
    for _ in range(2000):
        responses = responses_like(rng, 60, sizes)
        labels = np.eye(3)[rng.integers(3, size=60)]
        residual = labels - responses @ np.linalg.lstsq(responses, labels, rcond=None)[0]
        shares_C, noise = explainable(problem_of(responses, labels))
        assert np.allclose(shares_C, 1 - (residual**2).sum(0) / ((labels - labels.mean(0)) ** 2).sum(0), atol=1e-8)
        under += shares_C.max() <= noise
    assert 0.94 < under / 2000 < 0.97


def test_with_as_many_responses_as_images_noise_explains_all(rng: np.random.Generator, device: torch.device) -> None:
    _, noise = explainable(problem_of(rng.random((10, 12)), np.eye(2)[rng.integers(2, size=10)], device))
    assert noise == 1


def test_filters_of_all_maps_measures_each_filter_at_each_place(model: nn.Module, split: Split) -> None:
    everywhere = Filters.of(model, split[:1].images_NCHW, maps="all")
    assert everywhere.maps[:3] == (("conv1", "conv1"), ("conv1", "relu1"), ("conv2", "conv2"))
    expected = [range(6), range(6), range(6, 12), range(6, 12), range(12, 18), range(12, 18)]
    assert everywhere.filter_R.tolist() == [f for place in expected for f in place]
    dense = Filters.of(model, split[:1].images_NCHW, dense=True, sites="conv")
    assert [layer for layer, _ in dense.maps] == ["conv1", "conv2", "conv3", "dense1", "dense2"]
    assert dense.ablatable_F.tolist() == [True] * 18 + [False] * 256


SOLVERS = {"spg": spg, "homotopy": lambda problem, mu: homotopy(problem, max(mu)).solution(mu)}


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_selections_at_several_mu_are_those_at_each(solver: str, problem: MuLassoProblem) -> None:
    """In any order of mu, and with each one's own controls."""
    own = chain([12, 20, 15], [0, 1, 2])
    mus = [9.0, 1.0, 3.0]
    several = select_each(problem, own, mus, solver=SOLVERS[solver], draws=Draws(match="norm", seed=3))
    for mu, found in zip(mus, several, strict=True):
        alone = select(problem, own, mu, solver=SOLVERS[solver], draws=Draws(match="norm", seed=3))
        assert np.allclose(found.weights_RC, alone.weights_RC, rtol=1e-6, atol=1e-9)  # gaps of 1e-8 leave no more
        assert np.array_equal(found.weights_RC != 0, alone.weights_RC != 0)
        assert found.order_K.tolist() == alone.order_K.tolist()
        assert [control.tolist() for control in found.controls] == [control.tolist() for control in alone.controls]
        assert found.solution.certified_MC.shape == (1, 4)
        assert bool(found.solution.certified_MC.all())
        assert found.solution.stopped == {}
    assert len({len(found.order_K) for found in several}) == 3


def test_what_stopped_a_column_stays_with_its_mu(rng: np.random.Generator, device: torch.device) -> None:
    responses = responses_like(rng, images=300, sizes=[12, 10])
    problem = problem_of(responses, np.eye(3)[rng.integers(3, size=300)], device)
    solution = spg(problem, [5.0, 20.0], tolerance=1e-30, max_iterations=1)
    assert {m for m, _ in solution.stopped} == {0, 1}
    assert all("mu = 20" in why for why in solution.at(1).stopped.values())
    assert {m for m, _ in solution.at(1).stopped} == {0}
    assert torch.equal(solution.at(1).weights_MFC, solution.weights_MFC[1:])


def test_responses_without_the_constants_explain_at_most_as_much_as_with_them(rng: np.random.Generator) -> None:
    """Raw responses need not sum to the same for all images."""
    raw, labels = rng.random((300, 8)), np.eye(3)[rng.integers(3, size=300)]
    shares_C, noise = explainable(problem_of(raw, labels))
    more_C, same = explainable(problem_of(np.c_[raw, np.ones(300)], labels))
    assert noise == same
    assert (shares_C <= more_C).all()
    _, less = explainable(problem_of(raw / raw.sum(1, keepdims=True), labels))
    assert less < noise
