"""Accuracy as filters go, against that of each prefix."""

from __future__ import annotations

import numpy as np
from oracles import accuracy, without
from torch import nn
from toys import filters_of

from tipping.ablation import DropCurve, accuracies, drop_curve, evaluate_ablations
from tipping.data import Dataset, Split
from tipping.experiment.callbacks import AccuracyDropCurve
from tipping.network.training import evaluate
from tipping.selection import Candidates, Draws, draw_controls


def teacher(model: nn.Module, split: Split) -> Split:
    """The images labelled by the network itself, so that accuracy starts at 1 and ablation shows."""
    return Split(split.images_NCHW, model(split.images_NCHW).argmax(1))


def test_drop_curve_is_the_accuracy_of_each_prefix(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    order_K, rest = np.array([6, 0, 13, 7, 1, 8, 14]), np.zeros(18)
    candidates = Candidates(filters_of(model).index.layer_F, rest > 0, rest, rest, rest == 0)
    drawn = draw_controls(order_K, candidates, 1.0, Draws(2))
    curve = drop_curve(filters_of(model), split, order_K, drawn, points=4)
    assert curve.removed == [0, 2, 4, 5, 7]
    assert curve.selected[0] == 1
    assert curve.selected[-1] < 0.9
    orders, lines = [order_K, order_K[::-1], *drawn], [curve.selected, curve.weakest, *curve.random]
    for order, line, predictions_PN in zip(orders, lines, curve.predictions_OPN, strict=True):
        assert line == accuracies(predictions_PN, split.labels_N)
        for count, value in zip(curve.removed, line, strict=True):
            assert value == accuracy(without(model, order[:count].tolist()), split)


def test_the_ends_of_a_curve_are_had_from_predictions_at_hand(model: nn.Module, split: Split) -> None:
    order_K, drawn = np.array([4, 0, 9]), [np.array([1, 2, 12]), np.array([5, 0, 8])]
    intact_N, *without = evaluate_ablations(filters_of(model), split, [np.array([], dtype=int), order_K, *drawn])
    found = DropCurve.of_ends(intact_N, np.array(without), split.labels_N, len(order_K))
    measured = drop_curve(filters_of(model), split, order_K, drawn, points=1)
    assert found == measured
    assert np.array_equal(found.predictions_OPN, measured.predictions_OPN)


def test_a_curve_without_relevant_filters_is_one_point(model: nn.Module, split: Split) -> None:
    nothing = np.array([], dtype=int)
    curve = drop_curve(filters_of(model), split, nothing, [nothing], points=4)
    assert (curve.removed, len(curve.selected), len(curve.random[0])) == ([0], 1, 1)
    assert curve.selected == [accuracy(model, split)]


def test_the_callback_draws_the_curve_at_the_end_of_a_test(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    order_K = np.array([6, 0, 13])
    measured: dict[int, DropCurve] = {}
    callback = AccuracyDropCurve(
        lambda model: drop_curve(filters_of(model), split, order_K, [order_K[::-1].copy()], points=3),
        lambda curve, epoch: measured.update({epoch: curve}),
    )
    assert evaluate(model, Dataset("teacher", split, split, tuple("0123456789")), callbacks=[callback]) == 1
    assert measured == {0: drop_curve(filters_of(model), split, order_K, [order_K[::-1]], 3)}
