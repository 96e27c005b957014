"""Selectors by probes, each beside another way to the same numbers, on a small network with all that is awkward."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize
from scipy.special import digamma
from scipy.stats import f_oneway
from toy_responses import CLASSES, DEAD, TWINS, observed, told_by

from tipping.errors import InputError
from tipping.selectors import SELECTORS, Evidence, probes, score

PROBES = ("anova", "class_selectivity", "mutual_information", "l1_logistic", "group_lasso", "nnls")
LIVE = [f for f in range(18) if f not in DEAD]


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return observed()


def of_classes(evidence: Evidence) -> list[np.ndarray]:
    """The responses to each class, in float64."""
    _, responses_NR, labels_N = evidence.responses
    return [responses_NR[labels_N == c].astype(float) for c in range(CLASSES)]


def scaled(evidence: Evidence) -> np.ndarray:
    responses_NF = evidence.responses.responses_NR.astype(float)[:, LIVE]
    return (responses_NF - responses_NF.mean(0)) / responses_NF.std(0)


def test_anova_is_f_by_another_library(evidence: Evidence) -> None:
    expected = [f_oneway(*(one[:, f] for one in of_classes(evidence))).statistic for f in LIVE]
    scores_F = score("anova", evidence).values
    assert np.allclose(scores_F[LIVE], expected, rtol=1e-6)
    assert min(expected) > 0


def test_class_selectivity_by_its_definition(evidence: Evidence) -> None:
    scores_F = score("class_selectivity", evidence).values
    for f in LIVE:
        *rest, most = sorted(float(np.mean(one[:, f])) for one in of_classes(evidence))
        mean = sum(rest) / len(rest)
        assert scores_F[f] == pytest.approx((most - mean) / (most + mean), abs=1e-6)


def test_mutual_information_by_counting_neighbours(evidence: Evidence) -> None:
    """Ross's estimate by all distances between images."""
    labels_N = evidence.responses.labels_N
    size_N = np.bincount(labels_N)[labels_N]
    scores_F = score("mutual_information", evidence).values
    for z_N, found in zip(scaled(evidence).T, scores_F[LIVE], strict=True):
        far_NN = np.abs(z_N[:, None] - z_N)
        same_NN = np.where(labels_N[:, None] == labels_N, far_NN, np.inf)
        third_N = np.sort(same_NN, 1)[:, 3]  # the first is the image itself
        within_N = (far_NN < third_N[:, None] - 1e-9).sum(1)
        estimate = digamma(len(z_N)) + digamma(3) - digamma(size_N).mean() - digamma(within_N).mean()
        assert found == pytest.approx(max(0, estimate), abs=1e-5)


def test_l1_logistic_is_the_minimum_by_another_method(evidence: Evidence) -> None:
    """With weights p − q of p, q ≥ 0, the penalty is smooth, and L-BFGS-B takes the bounds."""
    z_NV = np.column_stack([scaled(evidence), np.ones(300)])
    weights_FC = score("l1_logistic", evidence).values
    for c in range(CLASSES):
        signed_NV = z_NV * np.where(evidence.responses.labels_N == c, 1, -1)[:, None]

        def objective(pq: np.ndarray, signed_NV: np.ndarray = signed_NV) -> tuple[float, np.ndarray]:
            margin_N = signed_NV @ np.subtract(*np.split(pq, 2))
            pull_V = -(signed_NV / (1 + np.exp(margin_N))[:, None]).mean(0)
            return np.logaddexp(0, -margin_N).mean() + 1e-3 * pq.sum(), np.r_[pull_V, -pull_V] + 1e-3

        options = {"maxiter": 100_000, "maxfun": 1_000_000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}
        start, bounds = np.full(2 * z_NV.shape[1], 0.1), [(0, None)] * (2 * z_NV.shape[1])
        best = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        expected_V = np.subtract(*np.split(best.x, 2))[:-1]
        twins = [LIVE.index(f) for f in TWINS]  # which share a weight as they like
        others = np.delete(np.arange(len(LIVE)), twins)
        found_V = weights_FC[LIVE, c]
        assert np.allclose(found_V[others], np.abs(expected_V[others]), atol=1e-5 * np.abs(expected_V).max())
        assert found_V[twins].sum() == pytest.approx(np.abs(expected_V[twins].sum()), abs=1e-5)
    assert not weights_FC[:, CLASSES:].any()


def test_group_lasso_by_descents_block_by_block(evidence: Evidence) -> None:
    """On responses without twins, which enter together: only one of them would here."""
    z_NV, labels_N = scaled(evidence), evidence.responses.labels_N
    onehot_NC = np.eye(CLASSES)[labels_N] - np.eye(CLASSES)[labels_N].mean(0)
    z_NV = np.delete(z_NV, LIVE.index(TWINS[1]), 1)
    gram, cross = z_NV.T @ z_NV, z_NV.T @ onehot_NC
    weights, largest = np.zeros_like(cross), np.linalg.norm(cross, axis=1).max()
    entered, pulls = np.full(len(cross), -1), [np.linalg.norm(cross, axis=1)]
    lambdas = largest * np.exp(np.linspace(0, np.log(0.02), 40))
    for k, lambda_ in enumerate(lambdas[1:], 1):
        change = 1.0
        while change > 1e-10:
            before = weights.copy()
            for f in range(len(gram)):
                rest = cross[f] - gram[f] @ weights + gram[f, f] * weights[f]
                weights[f] = max(0, 1 - lambda_ / np.linalg.norm(rest)) * rest / gram[f, f]
            change = np.abs(weights - before).max()
        entered[(entered < 0) & weights.any(1)] = k
        pulls.append(np.linalg.norm(cross - gram @ weights, axis=1))
    ends, expected = np.append(lambdas, 0), []
    for f, k in enumerate(np.where(entered < 0, 40, entered)):
        expected.append((ends[k] + (ends[k - 1] - ends[k]) * pulls[k - 1][f] / ends[k - 1]) / largest)
    scores_F = score("group_lasso", evidence).values
    kept = [f for f in LIVE if f != TWINS[1]]
    assert np.allclose(scores_F[kept], expected, atol=1e-5)
    assert scores_F[TWINS[0]] == pytest.approx(scores_F[TWINS[1]], abs=1e-5)
    assert (entered > 0).sum() > 5
    assert (entered < 0).any()


def test_non_negative_least_squares_on_the_responses_themselves(evidence: Evidence) -> None:
    _, responses_NR, labels_N = evidence.responses
    unit_NV = responses_NR[:, LIVE] / np.linalg.norm(responses_NR[:, LIVE].astype(float), axis=0)
    found_FC = score("nnls", evidence).values
    for c in range(CLASSES):
        best = lsq_linear(unit_NV, labels_N == c, bounds=(0, np.inf), method="bvls", tol=1e-14)
        merged, expected = found_FC[LIVE, c].copy(), best.x.copy()
        for weights in (merged, expected):
            weights[LIVE.index(TWINS[0])] += weights[LIVE.index(TWINS[1])]
            weights[LIVE.index(TWINS[1])] = 0
        assert np.allclose(merged, expected, atol=1e-5 * expected.max())
    assert not found_FC[:, CLASSES:].any()
    assert (found_FC >= 0).all()


@pytest.mark.parametrize("name", PROBES)
def test_dead_filters_score_nothing_and_live_ones_something(evidence: Evidence, name: str) -> None:
    scores = score(name, evidence)
    assert SELECTORS[name].family == "probes"
    assert not scores.overall_F[DEAD].any()
    assert (scores.overall_F > 0).any()
    if name not in ("nnls", "l1_logistic"):
        tolerance = 0.01 if name == "mutual_information" else 1e-5  # their rounding is not the same
        assert scores.overall_F[TWINS[0]] == pytest.approx(scores.overall_F[TWINS[1]], rel=tolerance)


@pytest.mark.parametrize("name", PROBES)
def test_one_class_is_refused(name: str) -> None:
    alone = told_by(np.random.default_rng(0).random((30, 5)), np.full(30, 2), [2, 3])
    with pytest.raises(InputError, match="all images are of class 2: give images of two classes") as error:
        score(name, alone)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ("class_selectivity", "nnls")])
def test_responses_that_never_vary_are_refused(name: str) -> None:
    """As those of layers of one filter each are."""
    still = told_by(np.ones((30, 2)), np.arange(30) % 3, [1, 1])
    with pytest.raises(InputError, match="no filter's response varies"):
        score(name, still)


def test_a_perfect_filter_is_the_first_and_finite() -> None:
    """One that is constant within each class, where the variance between them is all there is."""
    rng, labels_N = np.random.default_rng(0), np.arange(60) % 3
    evidence = told_by(np.column_stack([rng.random(60), 0.1 + labels_N, rng.random(60) + labels_N]), labels_N, [3])
    for name in PROBES:
        assert score(name, evidence).overall_F.argmax() == 1 or name in ("nnls", "class_selectivity"), name
    assert score("anova", evidence).values[1] > 1e12


def test_many_perfect_filters_tie() -> None:
    """Rounding leaves some a variance within classes of less than 0."""
    rng, labels_N = np.random.default_rng(0), np.arange(61) % 3
    evidence = told_by(np.column_stack([rng.random((3, 20))[labels_N], rng.random(61)]), labels_N, [21])
    scores_F = score("anova", evidence).values
    assert (scores_F[:20] == 1e15).all()
    assert 0 < scores_F[20] < 100


def test_what_varies_by_rounding_alone_is_constant() -> None:
    rng, labels_N = np.random.default_rng(0), np.arange(60) % 3
    still_N = 1 / 3 + 3e-8 * labels_N
    assert np.ptp(still_N.astype(np.float32)) > 0
    evidence = told_by(np.column_stack([rng.random(60), still_N]), labels_N, [2])
    for name in ("anova", "mutual_information", "l1_logistic", "group_lasso"):
        assert score(name, evidence).overall_F[1] == 0, name


def test_slow_probes_take_images_evenly_spread(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SLOW", 101)
    _, responses_NR, labels_N = evidence.responses
    rows = [int(2.99 * i + 1e-9) for i in range(101)]
    few = told_by(responses_NR[rows], labels_N[rows], [6, 6, 6])
    for name in ("mutual_information", "l1_logistic"):
        expected_F = score(name, few).overall_F
        assert np.allclose(score(name, evidence).overall_F, expected_F, rtol=1e-6, atol=1e-9)


def test_a_filter_measured_twice_has_the_sum_of_its_scores(evidence: Evidence) -> None:
    twice = observed(maps="all")
    assert len(twice.filters.filter_R) == 36
    before_after = told_by(twice.responses.responses_NR, twice.responses.labels_N, [36])
    of_each_R = score("anova", before_after).values
    expected_F = [of_each_R[twice.filters.filter_R == f].sum() for f in range(18)]
    assert np.allclose(score("anova", twice).values, expected_F)
