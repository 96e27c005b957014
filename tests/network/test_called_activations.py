"""Activations called as functions are followed as modules are, also where torch.fx cannot trace the network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation import ablated
from tipping.errors import InputError
from tipping.network import Filters

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Act = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A convolution, normalised and activated by a function."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act, self.conv, self.norm, self.head = act, nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.LazyLinear(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.act(self.norm(self.conv(images))).flatten(1))


class Deciding(Net):
    """Looks at its images, so that torch.fx cannot trace it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


ONE: dict[str, Act] = {
    "relu": functional.relu,
    "relu_": functional.relu_,
    "relu in place": lambda maps: functional.relu(maps, inplace=True),
    "relu by keyword": lambda maps: functional.relu(input=maps),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method relu": lambda maps: maps.relu(),
    "method relu_": lambda maps: maps.relu_(),
    "relu6": functional.relu6,
    "silu": functional.silu,
    "silu in place": lambda maps: functional.silu(maps, inplace=True),
    "gelu": lambda maps: functional.gelu(maps, approximate="tanh"),
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "leaky_relu": lambda maps: functional.leaky_relu(maps, 0.2),
    "leaky_relu_": lambda maps: functional.leaky_relu_(maps, negative_slope=0.2),
    "elu": functional.elu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "method sigmoid": lambda maps: maps.sigmoid(),
    "tanh": torch.tanh,
    "method tanh_": lambda maps: maps.tanh_(),
    "clamp": lambda maps: maps.clamp(0, 6),
    "behind pooling": lambda maps: functional.relu(functional.max_pool2d(maps, 2)),
    "behind dropout": lambda maps: torch.tanh(functional.dropout2d(maps, 0.5, training=False)),
}
WRITTEN_OUT: dict[str, Act] = {
    "x * sigmoid(x)": lambda maps: maps * torch.sigmoid(maps),
    "sigmoid(x) * x": lambda maps: maps.sigmoid() * maps,
    "x.mul_(sigmoid(x))": lambda maps: maps.mul_(maps.sigmoid()),
    "mish": lambda maps: maps * torch.tanh(functional.softplus(maps)),
    "gelu": lambda maps: 0.5 * maps * (1 + torch.tanh(0.797885 * (maps + 0.044715 * maps**3))),
    "leaky": lambda maps: torch.maximum(maps, 0.1 * maps),
    "where": lambda maps: torch.where(maps > 0, maps, 0.01 * maps),
}


def prepared(kind: type[Net], act: Act) -> tuple[Net, Filters]:
    torch.manual_seed(0)
    model = kind(act).double().eval()
    nn.init.uniform_(model.norm.bias)
    model(IMAGES.clone())  # as it is lazy
    return model, Filters.of(model, IMAGES[:1])


def ablated_by_hand(model: Net, gone: list[int]) -> Tensor:
    """The filters' maps are zero after the activation."""
    maps = model.act(model.norm(model.conv(IMAGES)))
    maps[:, gone] = 0
    return model.head(maps.flatten(1))


CASES = [(kind, name, act) for kind in (Net, Deciding) for name, act in ONE.items()]
CASES += [(Net, name, act) for name, act in WRITTEN_OUT.items()]


@pytest.mark.parametrize(("kind", "name", "act"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_filters_are_ablated_after_the_activation(kind: type[Net], name: str, act: Act) -> None:
    model, filters = prepared(kind, act)
    assert filters.sites["conv"].endswith("_call1")
    assert filters.rows()[0]["why"].startswith("after BatchNorm2d and ")
    with torch.no_grad():
        assert torch.equal(filters.model(IMAGES.clone()), model(IMAGES.clone()))
        with ablated(filters, np.array([1, 4])):
            torch.testing.assert_close(filters.model(IMAGES.clone()), ablated_by_hand(model, [1, 4]))


def test_gradients_go_through_calls_that_are_routed() -> None:
    model, filters = prepared(Deciding, torch.tanh)
    one, other = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    filters.model(one).square().sum().backward()
    model(other).square().sum().backward()
    assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_a_copy_of_a_routed_network_shares_nothing_with_it() -> None:
    model, filters = prepared(Deciding, torch.tanh)
    copied = copy.deepcopy(filters.model)
    with torch.no_grad():
        copied.conv.weight.zero_()
        assert not torch.equal(copied(IMAGES), model(IMAGES))
        assert torch.equal(filters.model(IMAGES), model(IMAGES))
        copied.tanh_call1.register_forward_hook(lambda *_: torch.zeros(4, 6, 6, 6, dtype=torch.float64))
        torch.testing.assert_close(copied(IMAGES), model.head.bias.expand(4, 4))


def test_a_skip_connection_is_no_activation_written_out() -> None:
    _, filters = prepared(Net, lambda maps: maps + functional.relu(maps))
    assert filters.rows()[0]["why"] == "after BatchNorm2d: an addition takes it beside ReLU"


def test_modules_of_one_s_own_stay_whole_beside_functions() -> None:
    class Swish(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps * torch.sigmoid(maps)

    for kind in (Net, Deciding):

        class Both(kind):  # type: ignore[valid-type, misc]
            def __init__(self, act: Act) -> None:
                super().__init__(act)
                self.first, self.swish = nn.Conv2d(1, 1, 3, padding=1), Swish()

            def forward(self, images: Tensor) -> Tensor:
                return super().forward(self.swish(self.first(images)))

        _, filters = prepared(Both, torch.tanh)
        assert filters.sites == {"first": "swish", "conv": "tanh_call1"}


def test_images_that_meet_other_calls_are_refused() -> None:
    class Branching(Net):
        def forward(self, images: Tensor) -> Tensor:
            maps = self.norm(self.conv(images))
            return self.head((torch.tanh(maps) if images.mean() < 5 else torch.tanh(torch.tanh(maps))).flatten(1))

    model, filters = prepared(Branching, torch.tanh)
    assert filters.sites == {"conv": "tanh_call1"}
    assert torch.equal(filters.model(IMAGES), model(IMAGES))
    with pytest.raises(InputError, match=r"^Branching calls other activation functions for some images"):
        filters.model(IMAGES + 10)
    assert model(IMAGES + 10).shape == (4, 4)
