"""What is said of a network whose filters are not all within reach, and which networks are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from toy_hidden import (
    IMAGES,
    InPlaceStatement,
    prepared,
)

from tipping.errors import InputError
from tipping.network import Filters
from tipping.selection.responses import response_batches


def test_layers_out_of_reach_are_said(caplog: pytest.LogCaptureFixture) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.deep = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv3d(1, 1, 1)
            self.kernel, self.head = nn.Parameter(torch.rand(3, 3, 1, 1)), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.deep(self.conv2.forward(torch.relu(self.conv1(images)))[:, None])[:, 0]
            return self.head(functional.conv2d(maps, self.kernel).flatten(1))

    filters = Filters.of(prepared(Hidden()), IMAGES[:1])
    assert list(filters.sites) == ["conv1"]
    assert "conv2, deep, Hidden: neither measured nor ablated" in caplog.text.replace("GraphModule", "Hidden")
    assert filters.proof is not None
    assert len(filters.proof.remarks) == 1


def test_an_image_that_reaches_the_logits_past_all_filters_is_said() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(images)).flatten(1)) + images.mean((1, 2, 3)).view(-1, 1)

    (remark,) = Filters.of(prepared(Shortcut()), IMAGES[:1]).proof.remarks  # type: ignore[union-attr]
    assert remark.startswith("with all filters ablated the logits still depend on the image")


def test_networks_that_change_from_pass_to_pass_are_said() -> None:
    class Noisy(InPlaceStatement):
        def forward(self, images: Tensor) -> Tensor:
            return functional.dropout(super().forward(images), 0.5, training=True)

    class Counting(InPlaceStatement):
        passes = 0

        def forward(self, images: Tensor) -> Tensor:
            self.passes += 1
            return super().forward(images) * self.passes

    for kind, reason in ((Noisy, "it draws random numbers"), (Counting, "it keeps state; whether its filters are")):
        filters = Filters.of(prepared(kind(nn.ReLU())), IMAGES[:1])
        assert filters.proof is not None
        assert "on each pass: " + reason in filters.proof.remarks[0]


def test_complex_maps_are_refused() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3, dtype=torch.complex64), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.conv(images.to(torch.complex64)).abs().flatten(1))

    with pytest.raises(InputError, match="conv gives complex maps"):
        Filters.of(Complex().eval(), IMAGES[:1].float())


def test_dense_layers_at_each_position_are_no_rows_of_units() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.point, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 5), nn.Linear(5, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images).permute(0, 2, 3, 1)
            return self.head(torch.relu(self.point(maps)).mean((1, 2)))

    filters = Filters.of(prepared(ChannelsLast()), IMAGES[:1], dense=True)
    assert list(filters.sites) == ["conv"]
    assert filters.proof is not None
    assert filters.proof.remarks[0].startswith("point: neither measured nor ablated")


def test_normalisation_behind_a_shared_map_is_said() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            return self.head((torch.relu(self.norm(maps)) + maps).flatten(1))

    (remark,) = Filters.of(prepared(Shared()), IMAGES[:1]).proof.remarks  # type: ignore[union-attr]
    assert remark.startswith("norm turns ablated filters of conv into another constant than 0")


def test_a_convolution_that_gives_no_map_for_each_filter_is_said() -> None:
    class ChannelsLast(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).permute(0, 2, 3, 1)

    class Doubled(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([super().forward(images)] * 2, 1)

    for kind, width in ((ChannelsLast, 48), (Doubled, 96)):
        layers = nn.Conv2d(1, 3, 3), nn.ReLU(), kind(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(width, 4)
        filters = Filters.of(prepared(nn.Sequential(*layers)), IMAGES[:1])
        assert filters.sites == {"0": "1"}
        assert filters.proof is not None
        assert filters.proof.remarks[0].startswith("2: neither measured nor ablated")


def test_maps_of_the_classes_are_no_filters() -> None:
    """As in SqueezeNet: the last convolution has a map for each class."""
    head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    assert list(Filters.of(prepared(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), *head)), IMAGES[:1]).sites) == ["0"]


def test_images_that_pass_a_layer_more_than_once_are_refused() -> None:
    class Mirrored(InPlaceStatement):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(torch.cat([images, images.flip(3)]))[: len(images)]

    filters = Filters.of(prepared(Mirrored(nn.ReLU())), IMAGES[:1])
    with pytest.raises(InputError, match=r"^conv gives 40 maps of each filter for 20 images"):
        list(response_batches(filters, [(IMAGES, torch.zeros(20, dtype=torch.long))]))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_what_a_network_writes_is_as_before() -> None:
    class Writing(InPlaceStatement):
        def __init__(self) -> None:
            super().__init__(nn.ReLU())
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("mean", torch.zeros(3))

        def train(self, mode: bool = True) -> Writing:
            super().train(mode)
            self.norm.train()  # whatever the mode
            return self

        def forward(self, images: Tensor) -> Tensor:
            self.mean.copy_(self.conv(images).mean((0, 2, 3)))
            return super().forward(images) + self.norm(self.conv(images)).mean()

    model = prepared(Writing())
    nn.utils.weight_norm(model.conv)  # the older one keeps the weight that it computes as an attribute
    model(IMAGES)
    before, weight = {name: tensor.clone() for name, tensor in model.state_dict().items()}, model.conv.weight.clone()
    filters = Filters.of(model, IMAGES[:1])
    list(response_batches(filters, [(IMAGES, torch.zeros(20, dtype=torch.long))]))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(model.conv.weight, weight)


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (lambda logits: {"scores": logits}, "gives a dict of scores"),
        (lambda logits: ("loss", logits), "gives a str"),
        (lambda logits: logits[0], r"gives \(4,\)"),
        (lambda logits: logits.argmax(1, keepdim=True), "of torch.int64"),
        (lambda logits: None, "gives a NoneType"),
    ],
)
def test_what_is_no_logits_is_refused(give: Callable[[Tensor], object], says: str) -> None:
    class Giving(InPlaceStatement):
        def forward(self, images: Tensor) -> object:
            return give(super().forward(images))

    with pytest.raises(InputError, match=rf"^Giving must give logits \(N, classes\) of images.*{says}"):
        Filters.of(prepared(Giving(nn.ReLU())), IMAGES[:1])
    with pytest.raises(InputError, match=r"^DataParallel holds a network: give its \.module"):
        Filters.of(nn.DataParallel(prepared(InPlaceStatement(nn.ReLU()))), IMAGES[:1])
