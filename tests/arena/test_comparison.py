"""Comparisons of selectors over networks, beside counting all exchanges, and other libraries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from tipping.arena import Difference, corrected, paired_difference, rank_correlation, shared


def test_a_paired_difference_is_that_of_student_and_of_all_exchanges(rng: np.random.Generator) -> None:
    first, second = rng.normal(0.3, 1, size=(2, 7)) + rng.normal(size=7)
    found = paired_difference(first, second)
    differences = first - second
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), rtol=1e-9)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=7)]
    extreme = np.mean([abs(mean) >= abs(differences.mean()) * (1 - 1e-12) for mean in means])
    assert found.p == pytest.approx(extreme)
    assert found.mean == pytest.approx(differences.mean())


def test_five_networks_that_agree_have_the_smallest_p_there_is() -> None:
    assert paired_difference([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]).p == pytest.approx(2 / 2**5)


def test_one_network_has_no_interval_and_equal_ones_differ_by_nothing() -> None:
    alone = paired_difference([0.5], [0.25])
    assert alone.mean == 0.25
    assert np.isnan([alone.low, alone.high, alone.p]).all()
    assert paired_difference([1, 2], [1, 2])[:4] == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="one at least"):
        paired_difference([], [])


def test_corrected_p_values_are_those_of_holm() -> None:
    raw = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": np.nan}
    found = corrected({name: Difference(0, 0, 0, p) for name, p in raw.items()})
    # by hand: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which is under the one before
    expected = {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    assert {name: found[name].corrected for name in expected} == pytest.approx(expected)
    assert np.isnan(found["e"].corrected)
    assert corrected({"a": Difference(0, 0, 0, 0.7), "b": Difference(0, 0, 0, 0.9)})["a"].corrected == 1


def test_rank_correlation_and_shared_filters(rng: np.random.Generator) -> None:
    first, second = rng.integers(5, size=(2, 30)).astype(float)
    expected = np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1]
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert np.isnan(rank_correlation(first, np.ones(30)))
    assert shared(np.array([2, 4, 3, 5, 1]), np.array([4, 5, 2, 3, 1]), 2) == (0.5, 0.4)


def test_selectors_share_by_chance_where_their_scores_tie(rng: np.random.Generator) -> None:
    """Ties in the order of the network would make two selectors that tell nothing choose the same filters."""
    assert shared(np.ones(10), np.zeros(10), 3) == pytest.approx((0.3, 0.3))
    first, second = rng.integers(3, size=(2, 12)).astype(float)
    drawn = [
        len(np.intersect1d(*(np.lexsort((rng.random(12), -score))[:5] for score in (first, second)))) / 5
        for _ in range(4000)
    ]
    assert shared(first, second, 5)[0] == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / np.sqrt(4000))
