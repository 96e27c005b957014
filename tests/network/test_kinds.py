"""What modules of unknown classes do to channels, found by trying them; classes of torch whose kind is known agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.network import Filters
from tipping.network.kinds import Kind, known_kind, may_keep_channels, tried_kind

MAPS = torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(0))
IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Layered(nn.Module):
    """Normalises each position over its channels, as ConvNeXt's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6) + 0.5)
        self.bias = nn.Parameter(torch.rand(6))

    def forward(self, maps: Tensor) -> Tensor:
        return functional.layer_norm(maps.permute(0, 2, 3, 1), (6,), self.weight, self.bias).permute(0, 3, 1, 2)


class HardSwish(nn.Module):
    """An activation that uses another module within."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU6()

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.inner(maps + 3) / 6


class Frozen(nn.Module):
    """A batch normalisation whose statistics are buffers."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(channels, 1, 1) + 0.5)
        self.register_buffer("shift", torch.rand(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.scale + self.shift


class Blur(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps, 3, 1, 1)


class Shuffle(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.flip(1)


class Excited(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps * maps.mean((1, 2, 3), keepdim=True).sigmoid()


class Swapped(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, [2, 3, 0, 1, 4, 5]]


class Mixed(nn.Module):
    """A convolution by a function, whose output is normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(6, 6, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return functional.group_norm(functional.conv2d(maps, self.kernel), 2)


class Failing(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        raise ArithmeticError


class Sloped(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=0) ** 2


UNKNOWN = [
    (Layered(), Kind.NORMALISING),
    (HardSwish(), Kind.ACTIVATION),
    (Frozen(), Kind.NORMALISING),
    (nn.SyncBatchNorm(6).eval(), Kind.NORMALISING),
    (nn.LocalResponseNorm(3), None),
    (Blur(), Kind.POOLING),
    (nn.LPPool2d(2, 2), Kind.POOLING),
    (nn.Upsample(scale_factor=2), Kind.POOLING),
    (nn.Softmax2d(), None),
    (Shuffle(), None),
    (Swapped(), None),
    (nn.ChannelShuffle(3), None),
    (Excited(), None),
    (Failing(), None),
    (Sloped(), Kind.ACTIVATION),
    (nn.AlphaDropout().eval(), Kind.PASSING),
    *((kind(), Kind.ACTIVATION) for kind in (nn.LogSigmoid, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink)),
    (nn.Threshold(0.1, 0.0), Kind.ACTIVATION),
    (nn.RReLU().eval(), Kind.ACTIVATION),
]


@pytest.mark.parametrize(("module", "kind"), UNKNOWN, ids=lambda value: type(value).__name__)
def test_modules_of_unknown_classes_are_tried(module: nn.Module, kind: Kind | None) -> None:
    assert known_kind(module) is None
    assert tried_kind(module, MAPS) is kind
    assert tried_kind(module, 1e-4 * MAPS) is kind, "whatever the scale of the maps"


def known_modules() -> list[tuple[nn.Module, Kind]]:
    shaped = {nn.BatchNorm2d: (6,), nn.GroupNorm: (2, 6), nn.InstanceNorm2d: (6,)}
    shaped |= {nn.MaxPool2d: (2,), nn.AvgPool2d: (2,), nn.AdaptiveAvgPool2d: (2,), nn.AdaptiveMaxPool2d: (2,)}
    kinds = [kind for kind in Kind if kind is not Kind.MIXING]
    return [(module(*shaped.get(module, ())).eval(), kind) for kind in kinds for module in kind.value]


@pytest.mark.parametrize(("module", "kind"), known_modules(), ids=lambda value: type(value).__name__)
def test_trying_tells_what_is_known(module: nn.Module, kind: Kind) -> None:
    if isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.running_mean)  # else it is the identity, but for rounding
    assert tried_kind(module, MAPS) is kind


class Activating(nn.BatchNorm2d):
    """As timm's."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps).relu()


class Held(nn.ReLU):
    """Cannot be copied, so not tried."""

    def __deepcopy__(self, memo: object) -> Held:
        raise NotImplementedError


def test_a_subclass_may_do_more_than_its_class() -> None:
    assert known_kind(Activating(6)) is None
    assert tried_kind(Activating(6).eval(), MAPS) is Kind.ACTIVATION
    for inner, why in (
        ((Activating(3),), "after Activating"),
        ((nn.BatchNorm2d(3), Held()), "after BatchNorm2d and Held"),
    ):
        layers = (nn.Conv2d(1, 3, 3), *inner, nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(4))
        assert Filters.of(nn.Sequential(*layers).eval(), IMAGE).rows()[0]["why"] == why


def test_what_mixes_channels_may_not_be_tried() -> None:
    assert tried_kind(nn.Conv2d(6, 6, 1), MAPS) is None
    for module in (nn.Sequential(nn.ConvTranspose2d(6, 6, 1), nn.GroupNorm(2, 6)), Mixed(), nn.Linear(6, 6)):
        assert not may_keep_channels(module, MAPS.shape)
    for module in (nn.LayerNorm((6, 4, 4)), Layered(), Frozen(), nn.BatchNorm2d(6), HardSwish()):
        assert may_keep_channels(module, MAPS.shape)


def test_a_module_that_counts_its_calls_is_tried_as_a_copy() -> None:
    class Counting(Sloped):
        calls = 0

        def forward(self, maps: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(maps)

    module = Counting()
    assert tried_kind(module, MAPS) is Kind.ACTIVATION
    assert module.calls == 0


def test_maps_are_followed_through_unknown_modules() -> None:
    for inner, site in (((Frozen(3), HardSwish(), Blur()), "2"), ((nn.SyncBatchNorm(3), nn.Tanhshrink()), "2")):
        body = nn.Sequential(nn.Conv2d(1, 3, 3), *inner, nn.Flatten(), nn.LazyLinear(4)).eval()
        filters = Filters.of(body, IMAGE)
        assert filters.sites == {"0": site}, "after the activation, before what pools"


def test_functions_are_followed_as_modules_are() -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.conv4, self.head = nn.Conv2d(3, 3, 1), nn.Linear(108, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = functional.gelu(input=self.conv1(images))
            maps = functional.leaky_relu(self.conv2(maps), 0.2, inplace=True)
            maps = functional.relu(input=self.conv3(maps), inplace=True)
            return self.head((self.conv4(maps).sigmoid() / 2).flatten(1))

    filters = Filters.of(Called().eval(), IMAGE)
    assert filters.sites == {
        **{"conv1": "gelu_call1", "conv2": "leaky_relu_call1", "conv3": "relu_call1", "conv4": "sigmoid_call1"}
    }


def test_a_network_in_training_mode_has_the_filters_that_it_has_in_eval_mode() -> None:
    """Normalisation by a batch's own statistics would hide the activation within it."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Activating(4), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    trained, evaluated = (Filters.of(model.train(mode), torch.rand(1, 1, 8, 8)).rows() for mode in (True, False))
    assert trained == evaluated
    assert trained[0]["why"] == "after Activating"
