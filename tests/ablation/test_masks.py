"""Filters of a network that give nothing, by masks, beside weights set to zero."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from oracles import mean_activations_slowly, without
from torch import nn
from toys import OneReLU, filters_of

from tipping.ablation import ablated
from tipping.data import Split
from tipping.network import Filters, build
from tipping.selection import mean_activations


@pytest.mark.parametrize("filters", [[0], [17], [2, 3, 8, 12, 13], [*range(6)], [*range(18)], []])
def test_ablated_filters_give_nothing(model: nn.Module, split: Split, filters: list[int]) -> None:
    expected = without(model, filters)(split.images_NCHW)
    with ablated(filters_of(model), np.array(filters, dtype=int)):
        result = model(split.images_NCHW)
    assert torch.allclose(result, expected, atol=1e-6)  # float32 sums in another order
    if filters:
        assert not torch.allclose(result, model(split.images_NCHW), atol=1e-4)


def test_the_model_is_as_before_also_after_an_exception(model: nn.Module, split: Split) -> None:
    before, state = model(split.images_NCHW), copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="on purpose"), ablated(filters_of(model), np.array([0, 7])):
        raise RuntimeError("on purpose")
    assert torch.equal(model(split.images_NCHW), before)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_ablation_nests(model: nn.Module, split: Split) -> None:
    with ablated(filters_of(model), np.array([0])):
        once = model(split.images_NCHW)
        with ablated(filters_of(model), np.array([7])):
            twice = model(split.images_NCHW)
        assert torch.equal(model(split.images_NCHW), once)
    assert torch.allclose(twice, without(model, [0, 7])(split.images_NCHW), atol=1e-6)


def test_ablation_reaches_linear_convolutions_before_their_pooling() -> None:
    model = build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)
    images = torch.rand(5, 1, 28, 28)
    with ablated(filters_of(model), np.array([3, 25, 80])):
        result = model(images)
    assert torch.allclose(result, without(model, [3, 25, 80])(images), atol=1e-6)


def test_the_mean_takes_the_place_of_the_maps(model: nn.Module, split: Split) -> None:
    """Layer by layer in float64, with the definition of the mean and of the ablation."""
    filters = [2, 3, 8, 13]
    slow, exact = mean_activations_slowly(model, split), copy.deepcopy(model).double()
    value = mean_activations(filters_of(model), split)
    assert torch.allclose(value.double(), slow, rtol=1e-5)
    maps, layer = split.images_NCHW.double(), 0
    for name, module in exact.named_children():
        maps = module(maps)
        if name.startswith("relu"):
            for f in filters:
                if f // 6 == layer:
                    maps[:, f % 6] = slow[f]
            layer += 1
    with ablated(filters_of(model), np.array(filters), value=value):
        result = model(split.images_NCHW)
    assert torch.allclose(result.double(), maps, atol=1e-5)
    assert not torch.allclose(result, without(model, filters)(split.images_NCHW), atol=1e-4)


@pytest.mark.parametrize("filters", [[0], [7, 12, 13], [*range(18)]])
def test_first_input_channel_leaves_the_other_weights(model: nn.Module, split: Split, filters: list[int]) -> None:
    """What the report's Keras code did: kernel[:, :, 0, f] = 0 and bias[f] = 0."""
    changed, state = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for f in filters:
            layer = changed.get_submodule(f"conv{f // 6 + 1}")
            layer.weight[f % 6, 0], layer.bias[f % 6] = 0, 0
    parameters = list(model.parameters())
    with ablated(filters_of(model), np.array(filters), scope="first_input_channel"):
        assert torch.equal(model(split.images_NCHW), changed(split.images_NCHW))
        with ablated(filters_of(model), np.array([5]), scope="first_input_channel"):
            assert not model.conv1.weight[5].any()
        assert torch.equal(model(split.images_NCHW), changed(split.images_NCHW))
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True)), "an optimiser still knows them"
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        ablated(filters_of(model), np.array([1]), scope="first_input_channel"),
    ):
        raise RuntimeError("on purpose")
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


@pytest.mark.parametrize("filters", [[1], [6], [0, 3, 4, 8]])
def test_a_shared_activation_is_ablated_after_its_own_layer_only(split: Split, filters: list[int]) -> None:
    torch.manual_seed(0)
    model = OneReLU().to(split.images_NCHW.device)
    with ablated(filters_of(model), np.array(filters)):
        result = model(split.images_NCHW)
    assert torch.allclose(result, without(model, filters)(split.images_NCHW), atol=1e-6)


def test_a_pass_that_fails_leaves_nothing_to_the_next(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = OneReLU().to(split.images_NCHW.device)
    expected = without(model, [6])(split.images_NCHW)
    with ablated(filters_of(model), np.array([6])):
        monkeypatch.setattr(model.relu, "forward", lambda maps: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.relu(model.conv2(model.conv1(split.images_NCHW)))
        monkeypatch.undo()
        assert torch.allclose(model(split.images_NCHW), expected, atol=1e-6)


def test_neither_bias_nor_normalisation_brings_a_filter_back(split: Split) -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, module in {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "act": nn.Sigmoid()}.items():
        model.add_module(name, module)
    model.sites = {"conv": "act"}
    nn.init.uniform_(model.norm.bias, 1, 2)
    with ablated(filters_of(model.eval().to(split.images_NCHW.device)), np.array([1, 2])):
        maps = model(split.images_NCHW)
    assert not maps[:, [1, 2]].any()
    assert maps[:, [0, 3]].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gone": [18]}, "filters must be positions from 0 to 17"),
        ({"gone": [-1]}, "filters must be positions"),
        ({"gone": [0], "scope": "kernel"}, "scope must be one of filter, first_input_channel, got 'kernel'"),
        ({"gone": [0], "value": torch.zeros(18), "scope": "first_input_channel"}, "value must be None"),
        ({"gone": [0], "value": torch.zeros(17)}, "value must hold a finite number for each of the 18"),
        ({"gone": [0], "value": torch.full((18,), torch.nan)}, "value must hold a finite number"),
    ],
)
def test_what_is_no_ablation_is_refused(model: nn.Module, arguments: dict, message: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.raises(ValueError, match=message),
        ablated(filters_of(model), **{**arguments, "gone": np.array(arguments["gone"])}),
    ):
        pass
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_there_must_be_a_layer_with_filters() -> None:
    with pytest.raises(ValueError, match="sites must name a layer"):
        Filters.at(nn.Sequential(), {}, classes=2)
