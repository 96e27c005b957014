"""The table of a network's layers says where each is measured and ablated, and why; patterns of names choose layers."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toy_hidden import IMAGES, ConcatenatedReLU, prepared, scripted_negative

from tipping.errors import InputError
from tipping.network import Filters
from tipping.network import filters as filters_room


class Net(nn.Module):
    """A convolution whose maps go on as a function says."""

    def __init__(self, then: Callable[[Net, Tensor], Tensor], classes: int = 4) -> None:
        super().__init__()
        self.then, self.conv = then, nn.Conv2d(1, 3, 3)
        self.norm, self.relu, self.pool = nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)
        self.drop, self.other, self.head = nn.Dropout(), nn.Conv2d(3, 3, 1), nn.LazyLinear(classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.then(self, images).flatten(1))


THEN: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "relu": (lambda net, x: net.relu(net.conv(x)), "after ReLU"),
    "norm, dropout, relu": (
        lambda net, x: net.relu(net.drop(net.norm(net.conv(x)))),
        "after BatchNorm2d and ReLU",
    ),
    "pooled, then relu": (lambda net, x: net.relu(net.pool(net.conv(x))), "after MaxPool2d and ReLU"),
    "pooled": (lambda net, x: net.pool(net.norm(net.conv(x))), "after BatchNorm2d, before pooling"),
    "added": (lambda net, x: net.norm(net.conv(x)) + x.mean(), "after BatchNorm2d, before an addition"),
    "added in place": (lambda net, x: net.norm(net.conv(x)).add_(1), "after BatchNorm2d, before an addition"),
    "concatenated": (lambda net, x: torch.cat([net.conv(x)] * 2, 1), "its own output, before a concatenation"),
    "branches": (
        lambda net, x: (lambda maps: net.relu(maps) + maps * 2)(net.norm(net.conv(x))),
        "after BatchNorm2d: a product takes it beside ReLU",
    ),
    "twice": (lambda net, x: net.conv(net.conv(x)[:, :1]), "its own output: it is used more than once"),
    "into the next": (lambda net, x: net.other(net.conv(x)), "its own output: no activation follows"),
}


@pytest.mark.parametrize("name", THEN)
def test_a_layer_says_why_it_is_ablated_there(name: str) -> None:
    then, why = THEN[name]
    model = Net(then).double().eval()
    model(IMAGES)  # it is lazy
    row = Filters.of(model, IMAGES[:1]).rows()[0]
    assert row["why"] == why
    size = "2x2" if name == "twice" else "4x4"
    assert (row["layer"], row["kind"], row["filters"], row["maps"]) == ("conv", "convolution 3x3", 3, size)


def test_a_layer_that_shares_its_activation_says_so() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.relu, self.head = (
                nn.Conv2d(1, 2, 3),
                nn.Conv2d(1, 3, 3),
                nn.ReLU(),
                nn.Linear(80, 4),
            )

        def forward(self, images: Tensor) -> Tensor:
            one, two = self.one(images), self.two(images)
            return self.head(torch.cat([self.relu(one), self.relu(two)], 1).flatten(1))

    one, two = Filters.of(prepared(Branches()), IMAGES[:1]).rows()
    assert (one["why"], two["why"]) == ("after ReLU", "its own output: its ReLU is shared with other maps")


def test_a_layer_that_the_self_test_moves_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = filters_room.layers_of

    def wrong(*given: object) -> list[filters_room.FilterLayer]:
        (layer,) = found(*given)  # type: ignore[arg-type]
        return [filters_room.replace(layer, activation="relu", maps=("conv", "relu"))]

    monkeypatch.setattr(filters_room, "layers_of", wrong)
    (row,) = Filters.of(prepared(ConcatenatedReLU(scripted_negative)), IMAGES[:1]).rows()
    assert (row["ablated"], row["why"]) == ("conv", "moved from relu by the self-test")


def test_filters_whose_sites_are_given_are_listed_too() -> None:
    model = prepared(ConcatenatedReLU(torch.relu))
    (row,) = Filters.at(model, {"conv": "relu"}, classes=4).rows()
    assert row == {
        **{"layer": "conv", "kind": "convolution 3x3", "filters": 3, "maps": "", "measured": "relu"},
        **{"ablated": "relu", "why": "as given"},
    }


def test_the_table_is_a_frame_or_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = Filters.at(prepared(ConcatenatedReLU(torch.relu)), {"conv": "relu"}, classes=4)
    for library in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, library, None)
    assert filters.table() == filters.rows()


class Blocks(nn.Sequential):
    def __init__(self, count: int = 5) -> None:
        block = [nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()) for _ in range(count)]
        super().__init__(*block, nn.Flatten(), nn.Linear(36, 4))


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        (["[1-3].0"], [1, 2, 3]),
        (["?.0"], [0, 1, 2, 3, 4]),
        (["4.*", "0.0"], [0, 4]),
        (["[!0-2].0", "3.0"], [3, 4]),
    ],
)
def test_layers_are_chosen_by_patterns(only: list[str], kept: list[int]) -> None:
    filters = Filters.of(prepared(Blocks()), IMAGES[:1], only=only)
    assert list(filters.sites) == [f"{number}.0" for number in kept]
    others = {f"{number}.0": "model.layers does not name it" for number in range(5) if number not in kept}
    assert filters.left_out == {**others, "6": "it gives the classes"}


def test_a_pattern_that_means_no_layer_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"^model\.layers: stem\.\* is no layer with filters; there are 0\.0, 1\.0, 2\.0$"
    ):
        Filters.of(prepared(Blocks(3)), IMAGES[:1], only=["0.0", "stem.*"])
    with pytest.raises(InputError, match=r"19\.0 and 10 more, which `tipping layers` lists$"):
        Filters.of(prepared(Blocks(30)), IMAGES[:1], only=["x"])
