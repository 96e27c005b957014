from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toys import filters_of

from tipping.errors import InputError
from tipping.models import ResNet
from tipping.network import Filters, build

KERAS = {"name": "keras_cnn", "_target_": "tipping.models.KerasCNN", "filters": 128, "depth": 5, "dropout": 0.5}


def layer_parameters(model: nn.Module) -> list[int]:
    counts = [sum(p.numel() for p in layer.parameters()) for layer in model.children()]
    return [count for count in counts if count]


def test_keras_cnn_has_the_reports_parameters() -> None:
    model = build(KERAS, (1, 28, 28), 10, seed=0)
    assert layer_parameters(model) == [1280, 147584, 147584, 147584, 147584, 12845184, 16512, 1290]
    assert sum(p.numel() for p in model.parameters()) == 13_454_602
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_keras_cnn_starts_as_keras_does() -> None:
    model = build({**KERAS, "filters": 16}, (1, 8, 8), 10, seed=0)
    weight, bias = model.get_parameter("conv2.weight").detach(), model.get_parameter("conv2.bias")
    limit = np.sqrt(6 / (16 * 9 + 16 * 9))  # Glorot-uniform
    assert 0.95 * limit < float(weight.abs().max()) <= limit
    assert float(weight.std()) == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert not bias.any()


def test_matconvnet_has_its_filters() -> None:
    model = build({"name": "matconvnet", "_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)
    index = Filters.of(model, torch.zeros(1, 1, 28, 28)).index
    assert np.bincount(index.layer_F).tolist() == [20, 50, 500]
    assert layer_parameters(model) == [520, 25050, 400500, 5010]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_resnet_has_the_published_parameters_and_layers() -> None:
    """0.27 and 0.46 million for 20 and 32 layers, by the table of he2016, whose shortcuts have no weights."""
    resnet = {"_target_": "tipping.models.ResNet", "filters": 16}
    for depth, millions in {20: 0.27, 32: 0.46}.items():
        model = build({**resnet, "depth": depth}, (3, 32, 32), 10, seed=0)
        counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
        projections = sum(count for name, count in counts.items() if "skip" in name)
        assert round((sum(counts.values()) - projections) / 1e6, 2) == millions
        on_the_way = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and "skip" not in name
        ]
        assert len(on_the_way) == depth
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_each_stage_of_resnet_halves_the_maps_and_doubles_the_filters() -> None:
    model = build({"_target_": "tipping.models.ResNet", "filters": 4, "depth": 8}, (3, 16, 16), 5, seed=0)
    shapes = []
    for block in model.get_submodule("blocks"):
        block.register_forward_hook(lambda _, __, maps: shapes.append(tuple(maps.shape)))
    model(torch.rand(1, 3, 16, 16))
    assert shapes == [(1, 4, 16, 16), (1, 8, 8, 8), (1, 16, 4, 4)]
    with pytest.raises(InputError, match=r"model.depth=21: give 6n \+ 2"):
        ResNet((3, 16, 16), 5, filters=4, depth=21)


def test_maps_are_taken_after_the_relu_where_there_is_one() -> None:
    model = build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)
    images, smallest = torch.rand(3, 1, 28, 28), {}
    for layer, module in Filters.of(model, images[:1]).sites.items():
        model.get_submodule(module).register_forward_hook(
            lambda _, __, maps, layer=layer: smallest.update({layer: maps.min().item()})
        )
    with torch.no_grad():
        model(images)
    assert smallest["conv1"] < 0
    assert smallest["conv2"] < 0
    assert smallest["conv3"] == 0


def test_filter_index_counts_channels_in_each_layer(model: nn.Module) -> None:
    index = filters_of(model).index
    assert index.layers == ("conv1", "conv2", "conv3")
    assert index.layer_F.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert index.channel_F.tolist() == [*range(6)] * 3


def test_initial_weights_depend_on_the_seed_only() -> None:
    options = {**KERAS, "filters": 4}
    torch.manual_seed(1)
    one = build(options, (1, 8, 8), 10, seed=0)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    two = build(options, (1, 8, 8), 10, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = build(options, (1, 8, 8), 10, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("filters", -1),
        ("filters", 0),
        ("filters", 2.5),
        ("filters", True),
        ("depth", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("dropout", "half"),
    ],
)
def test_values_out_of_range_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(Exception, match=f"model.{option}={value}") as error:
        build({**KERAS, option: value}, (1, 8, 8), 10, seed=0)
    assert isinstance(error.value.__cause__, InputError)
