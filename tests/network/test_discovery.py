"""Filter layers of networks that the project has no code of its own for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from toys import Functional, FunctionalHead, SmallResNet, Untraceable

from tipping.ablation import ablated
from tipping.data import Split
from tipping.errors import InputError
from tipping.network import Filters, build
from tipping.network.discovery import FilterLayer, find
from tipping.network.modular import modular
from tipping.selection import collect

IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def located(model: nn.Module) -> dict[str, str]:
    return {layer.name: layer.activation for layer in find(model, IMAGE)}


def test_the_report_s_networks_have_their_filters_after_the_relu_before_pooling() -> None:
    keras = build({"_target_": "tipping.models.KerasCNN", "filters": 3, "depth": 2, "dropout": 0}, (1, 8, 8), 10, 0)
    assert located(keras) == {"conv1": "relu1", "conv2": "relu2", "dense1": "dense1_relu", "dense2": "dense2_relu"}
    assert Filters.of(keras, IMAGE).sites == {"conv1": "relu1", "conv2": "relu2"}
    matconvnet = build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, 0)
    first, second, third = find(matconvnet, torch.rand(1, 1, 28, 28))
    assert first == FilterLayer("conv1", "conv1", "conv1", ("conv1", "pool1"), single=False)
    assert second.measured("all") == ("conv2", "pool2")
    assert third == FilterLayer("conv3", "relu3", "relu3", ("conv3", "relu3"), single=True)


def test_stride_normalisation_and_skip_connections() -> None:
    model = SmallResNet()
    assert located(model) == {
        "stem.0": "stem.2",
        "blocks.0.conv1": "blocks.0.relu",
        "blocks.0.conv2": "blocks.0.norm2",  # the skip connection is added to its maps
        "blocks.0.shortcut.0": "blocks.0.shortcut.1",
        "blocks.1.conv1": "blocks.1.relu",
        "blocks.1.conv2": "blocks.1.norm2",
        "blocks.1.shortcut.0": "blocks.1.shortcut.1",
    }
    stem = find(model, IMAGE)[0]
    assert stem.maps == ("stem.0", "stem.1", "stem.2", "stem.3")
    assert stem.measured("before_pooling") == ("stem.2",)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_activation_behind_pooling() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 10))
    (layer,) = find(model, IMAGE)
    assert (layer.activation, layer.before_pooling) == ("2", "0")
    assert layer.measured("all") == ("0", "1", "2")


def test_maps_that_go_elsewhere_too_are_taken_before_they_do() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool, self.head = (
                nn.Conv2d(1, 3, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Linear(27, 10),
            )

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.conv(images)
            return self.head((self.pool(self.relu(maps)) + self.pool(maps)).flatten(1))

    (layer,) = find(Twice(), IMAGE)
    assert layer.activation == "conv", "the maps also go around the relu"


def test_a_layer_used_twice_is_taken_as_it_is() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Linear(64, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.relu(self.conv(self.relu(self.conv(images)))).flatten(1))

    assert located(Again()) == {"conv": "conv"}


def test_an_activation_shared_by_branches_is_not_taken_for_another_s() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.relu = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 3, 3), nn.ReLU()
            self.head = nn.Linear(5 * 36, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            one, two = self.one(images), self.two(images)
            return self.head(torch.cat([self.relu(one), self.relu(two)], 1).flatten(1))

    assert located(Branches()) == {"one": "relu", "two": "two"}


def test_convolutions_of_one_s_own_class_are_convolutions_beside_calls_of_relu() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(maps)

    class Net(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.conv2 = Scaled(4, 5, 3)

    assert located(modular(Net().eval(), IMAGE)) == {
        "conv1": "relu_call1",
        "conv2": "relu_call2",
        "dense1": "relu_call3",
    }


def test_modules_called_by_keyword_or_giving_more_than_maps() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2, return_indices=True)
            self.head = nn.Linear(27, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps, _ = self.pool(self.relu(input=self.conv(images)))
            return self.head(maps.flatten(1))

    with torch.inference_mode():
        assert located(Net()) == {"conv": "relu"}


@pytest.mark.parametrize("training", [True, False])
def test_calls_of_relu_become_modules(split: Split, training: bool) -> None:
    torch.manual_seed(0)
    model = Functional().train(training).to(split.images_NCHW.device)
    state = copy.deepcopy(model.state_dict())
    whole = modular(model, split[:1].images_NCHW)
    assert all(module.training == training for module in model.modules()), "it may yet be trained"
    assert located(copy.deepcopy(whole).cpu()) == {"conv1": "relu_call1", "conv2": "relu_call2", "dense1": "relu_call3"}
    assert torch.equal(whole.eval()(split.images_NCHW), model.eval()(split.images_NCHW))
    assert whole.conv1.weight is model.conv1.weight
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.state_dict().items())


def test_a_network_without_such_calls_is_itself(model: nn.Module, split: Split) -> None:
    assert modular(model, split[:1].images_NCHW) is model
    assert located(Untraceable()) == {"conv1": "conv1", "conv2": "conv2", "dense1": "dense1"}


@pytest.mark.parametrize("kind", [SmallResNet, Functional])
def test_a_filter_ablated_leaves_no_trace(kind: type[nn.Module], split: Split) -> None:
    """Every filter in turn: the next layers see zeros in its place, and the output no longer depends on its weights."""
    torch.manual_seed(0)
    filters = Filters.of(kind().eval().to(split.images_NCHW.device), split[:1].images_NCHW)
    model, index = filters.model, filters.index
    images = split[:20].images_NCHW
    for f, (layer, channel) in enumerate(zip(index.layer_F, index.channel_F, strict=True)):
        weight = model.get_parameter(f"{index.layers[layer]}.weight")
        with torch.no_grad(), ablated(filters, np.array([f])):
            before, kept = model(images), weight[channel].clone()
            weight[channel] = torch.randn_like(kept)
            assert torch.equal(model(images), before), f"{index.layers[layer]}, channel {channel}"
            weight[channel] = kept
        assert torch.isfinite(before).all()


def test_responses_of_a_network_with_function_calls_are_those_after_relu(split: Split) -> None:
    torch.manual_seed(0)
    model = Functional().eval().to(split.images_NCHW.device)
    filters = Filters.of(model, split[:1].images_NCHW)
    problem = collect(filters, split)
    with torch.no_grad():
        one = model.conv1(split.images_NCHW).relu().double()
        two = model.conv2(one.float()).relu().double()
    places = [maps.square().sum((2, 3)).sqrt() for maps in (one, two)]
    responses_NR = torch.cat([norms / norms.sum(1, keepdim=True) for norms in places], 1)
    assert torch.allclose(problem.gram_FF, responses_NR.T @ responses_NR, rtol=1e-5)


def test_only_some_layers_count() -> None:
    assert [layer.name for layer in find(SmallResNet(), IMAGE, only=["stem.0"])] == ["stem.0"]
    with pytest.raises(InputError, match=r"model\.layers: conv1 is no layer with filters; there are stem\.0, blocks"):
        find(SmallResNet(), IMAGE, only=["conv1"])
    with pytest.raises(InputError, match="it has no filters"):
        find(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), IMAGE)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.Identity()])
@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(4)])
def test_what_lets_maps_pass_does_not_take_them(dropout: nn.Module, norm: nn.Module) -> None:
    """Dropout between a convolution and its activation: in eval mode it gives what it gets."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), norm, dropout, nn.ReLU(), nn.MaxPool2d(2)), *(nn.Flatten(), nn.Linear(36, 10))
    )
    (layer,) = find(model, IMAGE)
    assert (layer.name, layer.activation, layer.before_pooling) == ("0", "3", "3")


def test_dense_layers_are_not_left_out_in_silence() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7), nn.ReLU(), nn.Linear(7, 10))
    with pytest.raises(InputError, match=r"protocol\.dense=false: model\.layers names dense layers; give true"):
        Filters.of(model, IMAGE, only=["0", "3"])
    assert list(Filters.of(model, IMAGE, only=["0", "3"], dense=True).index.layers) == ["0", "3"]


def test_the_last_convolution_is_a_filter_layer_unless_it_gives_the_classes() -> None:
    assert [layer.name for layer in find(FunctionalHead(), IMAGE)] == ["conv1", "conv2"]
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 6), nn.Flatten())
    assert [layer.name for layer in find(model, IMAGE)] == ["0"]
