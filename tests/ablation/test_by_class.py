from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from tipping.ablation import accuracy_by_class, class_drops, confusion, fall_to


def test_accuracies_and_confusion_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    labels_N = rng.integers(4, size=60)
    predictions_AN = rng.integers(6, size=(3, 60)).astype(np.uint8)  # bytes, as jobs keep them
    accuracy_AC = accuracy_by_class(predictions_AN, labels_N.astype(np.uint8), 6)
    for predictions_N, accuracy_C in zip(predictions_AN, accuracy_AC, strict=True):
        expected = recall_score(labels_N, predictions_N, labels=range(4), average=None)
        assert accuracy_C[:4].tolist() == expected.tolist()
        assert np.isnan(accuracy_C[4:]).all()
        counts_CC = confusion(predictions_N, labels_N.astype(np.uint8), 6)
        assert counts_CC.tolist() == confusion_matrix(labels_N, predictions_N, labels=range(6)).tolist()


def test_labels_of_many_classes_do_not_overflow() -> None:
    counts_CC = confusion(np.array([299], dtype=np.uint16), np.array([250], dtype=np.uint8), 300)
    assert np.argwhere(counts_CC).tolist() == [[250, 299]]


def test_a_class_falls_to_the_class_that_most_of_its_wrong_images_are_given() -> None:
    counts_CC = np.array([[7, 1, 2], [0, 4, 0], [3, 3, 0]])
    assert fall_to(counts_CC) == {0: (2, 0.2), 2: (0, 0.5)}


def test_drops_by_plain_loops(rng: np.random.Generator) -> None:
    """Labels are unbalanced, so that a mean over images of the other classes would be another."""
    labels_N, labels_M = (
        rng.choice(4, size=90, p=[0.1, 0.2, 0.3, 0.4]),
        rng.choice([0, 1, 3], size=70, p=[0.1, 0.3, 0.6]),
    )
    drop_DN, drop_DM = rng.integers(-1, 2, size=(3, 90)), rng.integers(-1, 2, size=(3, 70))
    drops = class_drops(1, labels_N, drop_DN, labels_M, drop_DM)
    own = [np.mean([drop_DN[d, n] for n in range(90) if labels_N[n] == 1]) for d in range(3)]
    others = [
        np.mean([np.mean([drop_DM[d, m] for m in range(70) if labels_M[m] == other]) for other in (0, 3)])
        for d in range(3)
    ]
    assert drops.own_class
    assert drops.collateral
    assert drops.specificity
    assert np.isclose(drops.own_class.mean, np.mean(own), rtol=1e-12)
    assert np.isclose(drops.collateral.mean, np.mean(others), rtol=1e-12)
    assert np.isclose(drops.specificity.mean, np.mean(own) - np.mean(others), rtol=1e-12)
    for one in drops:
        assert one
        assert one.low < one.mean < one.high


def test_what_has_no_images_has_no_drop() -> None:
    labels_N, none = np.array([0, 0, 2]), np.zeros((1, 3), dtype=int)
    assert class_drops(1, labels_N, none, labels_N, none)[::2] == (None, None)
    assert class_drops(1, labels_N, none, labels_N, none).collateral is not None
    assert class_drops(0, labels_N, none, labels_N[:2], none[:, :2])[1:] == (None, None)
    assert class_drops(0, labels_N, none, labels_N[:2], none[:, :2]).own_class is not None


@pytest.mark.parametrize(
    ("lost", "gained", "own", "other"), [(0.3, 0.1, 40, 60), (0.02, 0.0, 50, 50), (0.9, 0.0, 30, 80)]
)
def test_intervals_hold_the_drop_in_95_percent_of_cases(lost: float, gained: float, own: int, other: int) -> None:
    """1,000 simulations: class 0 loses and gains with these probabilities, classes 1 and 2 with half of them. The true
    coverage of such intervals is 94 to 98 %, as published for a single pair of proportions; the simulation's error is
    0.7 %."""
    rng = np.random.default_rng(0)
    labels_N = np.repeat([0, 1, 2], [own, other, other])
    lost_N, gained_N = (np.where(labels_N == 0, p, p / 2) for p in (lost, gained))
    truths = np.array([lost - gained, (lost - gained) / 2, (lost - gained) / 2])
    hit = np.zeros(3)
    for _ in range(1000):
        draw_N = rng.random(len(labels_N))
        drop_DN = np.where(draw_N < lost_N, 1, np.where(draw_N > 1 - gained_N, -1, 0))[None]
        drops = class_drops(0, labels_N, drop_DN, labels_N, drop_DN)
        hit += [one is not None and one.low <= truth <= one.high for one, truth in zip(drops, truths, strict=True)]
    assert (hit >= 930).all(), hit


def test_intervals_widen_with_the_spread_of_draws() -> None:
    labels_N = np.repeat([0, 1], 200)
    alike = np.tile((np.arange(400) % 2)[None], (4, 1))
    apart = np.array([np.zeros(400), np.ones(400), np.ones(400), np.zeros(400)])
    narrow, wide = (class_drops(0, labels_N, drop_DN, labels_N, drop_DN).own_class for drop_DN in (alike, apart))
    assert narrow
    assert wide
    assert narrow.mean == wide.mean == 0.5
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
