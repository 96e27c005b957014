"""The layers of squeeze-and-excitation are told apart from filters of maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation import ablated
from tipping.errors import InputError
from tipping.network import Filters

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Product = Callable[[Tensor, Tensor], Tensor]


class Excited(nn.Module):
    """A squeeze-and-excitation block of convolutions or dense layers, whose numbers multiply the maps somehow."""

    def __init__(self, product: Product, dense: bool, channels: int = 6, in_place: bool = False) -> None:
        super().__init__()
        self.product, self.dense = product, dense
        one, two = (channels, 2), (2, channels)
        self.squeeze = nn.Linear(*one) if dense else nn.Conv2d(*one, 1)
        self.excite = nn.Linear(*two) if dense else nn.Conv2d(*two, 1)
        self.act = nn.ReLU(inplace=in_place)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = maps.mean((2, 3)) if self.dense else functional.adaptive_avg_pool2d(maps, 1)
        gate = torch.sigmoid(self.excite(self.act(self.squeeze(pooled))))
        return self.product(maps, gate.view(len(maps), -1, 1, 1))


class Net(nn.Module):
    """A gate between two convolutions."""

    def __init__(self, gate: nn.Module, size: int = 3, in_place: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm, self.act = nn.Conv2d(1, 6, size), nn.BatchNorm2d(6), nn.SiLU(inplace=in_place)
        self.gate, self.conv2, self.head = gate, nn.Conv2d(6, 5, 1), nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.gate(self.act(self.norm(self.conv1(images))))
        return self.head(torch.relu(self.conv2(maps)).mean((2, 3)))


PRODUCTS: dict[str, Product] = {
    "times": lambda maps, gate: maps * gate,
    "gate first": lambda maps, gate: gate * maps,
    "in place": lambda maps, gate: maps.mul_(gate),
    "expanded": lambda maps, gate: maps * gate.expand_as(maps),
    "around one": lambda maps, gate: maps * (1 + gate),
    "beside": lambda maps, gate: maps + maps * gate,
    "einsum": lambda maps, gate: torch.einsum("nchw,nc->nchw", maps, gate.flatten(1)),
}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("product", PRODUCTS)
def test_gates_are_left_out_and_maps_that_pass_them_are_not(product: str, dense: bool) -> None:
    torch.manual_seed(0)
    model = Net(Excited(PRODUCTS[product], dense)).eval()
    filters = Filters.of(model, IMAGES[:1], dense=True)
    assert list(filters.sites) == ["conv1", "conv2"]
    assert filters.sites["conv1"] == "act", "before the gate"
    why = "a gate: its numbers multiply other maps; model.layers can name it"
    assert filters.left_out == {"gate.squeeze": why, "gate.excite": why, "head": "it gives the classes"}
    assert filters.proof is not None
    assert not filters.proof.remarks
    gone = torch.tensor([1.0, 0, 1, 1, 0, 1]).view(1, -1, 1, 1)
    with torch.no_grad():
        maps = model.act(model.norm(model.conv1(IMAGES))) * gone
        by_hand = model.head(torch.relu(model.conv2(model.gate(maps))).mean((2, 3)))
        with ablated(filters, np.array([1, 4])):
            torch.testing.assert_close(filters.model(IMAGES), by_hand)


def test_maps_of_a_single_value_have_gates_too() -> None:
    """Where the images are small, the maps that a gate multiplies may be no larger than the gate."""
    for in_place in (False, True):
        model = Net(Excited(PRODUCTS["times"], dense=False, in_place=in_place), size=8, in_place=in_place).eval()
        assert list(Filters.of(model, IMAGES[:1], dense=True).sites) == ["conv1", "conv2"]


def test_a_gate_can_be_named() -> None:
    model = Net(Excited(PRODUCTS["times"], dense=False)).eval()
    filters = Filters.of(model, IMAGES[:1], only=["gate.squeeze", "conv?"])
    assert filters.sites == {"conv1": "act", "gate.squeeze": "gate.act", "conv2": "relu_call1"}
    with pytest.raises(InputError, match=r"gate\.\* is no layer with filters; there are conv1, gate\.squeeze"):
        Filters.of(model, IMAGES[:1], only=["gate.*"])


class Mixed(nn.Module):
    """Its dense units multiply maps, and reach the logits by another way too."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.conv, self.units, self.head = way, nn.Conv2d(1, 6, 3), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.conv(images))
        units = self.units(maps.mean((2, 3)))
        if self.way == "also added":
            maps = maps * units[:, :, None, None] + units[:, :, None, None]
        elif self.way == "with itself":
            return self.head(units * torch.sigmoid(units))
        elif self.way == "with a number":
            return self.head(torch.relu(units) * 0.5)
        return self.head(maps.mean((2, 3)))


@pytest.mark.parametrize("way", ["also added", "with itself", "with a number"])
def test_what_multiplies_and_does_more_is_no_gate(way: str) -> None:
    assert list(Filters.of(Mixed(way).eval(), IMAGES[:1], dense=True).sites) == ["conv", "units"]


def test_dense_units_that_multiply_other_units_are_no_gates() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.units, self.other, self.head = nn.Linear(64, 6), nn.Linear(64, 6), nn.Linear(6, 4)

        def forward(self, images: Tensor) -> Tensor:
            flat = images.flatten(1)
            return self.head(self.units(flat) * torch.sigmoid(self.other(flat)))

    assert list(Filters.of(Gated().eval(), IMAGES[:1], dense=True).sites) == ["units", "other"]


def test_maps_that_multiply_maps_are_no_gates() -> None:
    """A gated linear unit has two convolutions of whole maps."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other, self.head = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Linear(3, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head((self.conv(images) * torch.sigmoid(self.other(images))).mean((2, 3)))

    assert list(Filters.of(Gated().eval(), IMAGES[:1]).sites) == ["conv", "other"]
