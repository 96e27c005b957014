from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tipping import models
from tipping.ablation import ablated, ablated_accuracies, drop_curve
from tipping.callbacks import AccuracyDropCurve
from tipping.classifier import accuracy, evaluate
from tipping.data import Dataset, Split
from tipping.mu_lasso import Solution
from tipping.selection import Selection, random_orders


def without(model: nn.Module, filters: list[int]) -> nn.Module:
    """The slow way for a network of ReLUs: all of the filter's weights, and its bias, are set to zero."""
    model = copy.deepcopy(model)
    index = models.filter_index(model)
    with torch.no_grad():
        for f in filters:
            layer = model.get_submodule(index.layers[index.layer_F[f]])
            layer.weight[index.channel_F[f]] = 0
            layer.bias[index.channel_F[f]] = 0
    return model


@pytest.mark.parametrize("filters", [[0], [17], [2, 3, 8, 12, 13], [*range(6)], [*range(18)], []])
def test_ablated_filters_give_nothing(model: nn.Module, split: Split, filters: list[int]) -> None:
    expected = without(model, filters)(split.images_NCHW)
    with ablated(model, np.array(filters, dtype=int)):
        result = model(split.images_NCHW)
    assert torch.allclose(result, expected, atol=1e-6)  # float32 sums in another order
    if filters:
        assert not torch.allclose(result, model(split.images_NCHW), atol=1e-4)


def test_the_model_is_as_before_also_after_an_exception(model: nn.Module, split: Split) -> None:
    before, state = model(split.images_NCHW), copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="on purpose"), ablated(model, np.array([0, 7])):
        raise RuntimeError("on purpose")
    assert torch.equal(model(split.images_NCHW), before)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_ablation_nests(model: nn.Module, split: Split) -> None:
    with ablated(model, np.array([0])):
        once = model(split.images_NCHW)
        with ablated(model, np.array([7])):
            twice = model(split.images_NCHW)
        assert torch.equal(model(split.images_NCHW), once)
    assert torch.allclose(twice, without(model, [0, 7])(split.images_NCHW), atol=1e-6)


def test_ablation_reaches_linear_convolutions_before_their_pooling() -> None:
    model = models.build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)
    images = torch.rand(5, 1, 28, 28)
    with ablated(model, np.array([3, 25, 80])):
        result = model(images)
    assert torch.allclose(result, without(model, [3, 25, 80])(images), atol=1e-6)


def test_accuracy_counts_hits(model: nn.Module, split: Split) -> None:
    hits = [int(model(image[None]).argmax() == label) for image, label in zip(*split_parts(split), strict=True)]
    assert accuracy(model, split) == sum(hits) / len(split)


def split_parts(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return split.images_NCHW, split.labels_N


def teacher(model: nn.Module, split: Split) -> Split:
    """The images labelled by the network itself, so that accuracy starts at 1 and ablation shows."""
    return Split(split.images_NCHW, model(split.images_NCHW).argmax(1))


def test_drop_curve_is_the_accuracy_of_each_prefix(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    index = models.filter_index(model)
    order_K = np.array([6, 0, 13, 7, 1, 8, 14])
    controls = random_orders(order_K, index.layer_F, seed=0, mu=1.0, draws=2)
    curve = drop_curve(model, split, order_K, controls, points=4)
    assert curve.removed == [0, 2, 4, 5, 7]
    assert curve.selected[0] == 1
    assert curve.selected[-1] < 0.9
    for order, accuracies in zip([order_K, *controls], [curve.selected, *curve.random], strict=True):
        for count, value in zip(curve.removed, accuracies, strict=True):
            assert value == accuracy(without(model, order[:count].tolist()), split)


def test_a_curve_without_relevant_filters_is_one_point(model: nn.Module, split: Split) -> None:
    nothing = np.array([], dtype=int)
    curve = drop_curve(model, split, nothing, [nothing], points=4)
    assert (curve.removed, len(curve.selected), len(curve.random[0])) == ([0], 1, 1)
    assert ablated_accuracies(model, split, [nothing]) == curve.selected


def test_the_callback_draws_the_curve_at_the_end_of_a_test(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    order_K = np.array([6, 0, 13])
    none = torch.zeros(0)
    selection = Selection(
        np.zeros((18, 10)), order_K, [order_K[::-1].copy()], Solution(none, none, none, none, none, {})
    )
    callback = AccuracyDropCurve(lambda _: selection, split, points=3)
    assert evaluate(model, Dataset("teacher", split, split), callbacks=[callback]) == 1
    assert callback.curves == {0: drop_curve(model, split, order_K, [order_K[::-1]], 3)}
