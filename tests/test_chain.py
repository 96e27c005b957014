"""Which networks are chains, and that the others are masked and say so."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from conftest import filters_of
from test_ablation import OneReLU
from torch import nn
from torch.nn import functional

from tipping.ablation import ablated, evaluate_ablations, evaluation
from tipping.data import Split
from tipping.network import Chain, NotAChain


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.flatten, self.dense = nn.Flatten(), nn.Linear(256, 10)
        self.sites = {"conv1": "relu1", "conv2": "relu2"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.conv1(images))
        return self.dense(self.flatten(maps + self.relu2(self.conv2(maps))))


class Functional(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(self.flatten(self.relu2(self.conv2(functional.relu(self.relu1(self.conv1(images)))))))


class Twice(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.conv1(images))
        return self.dense(self.flatten(self.relu2(self.conv2(self.conv2(maps)))))


class Deciding(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu2(self.conv2(self.relu1(self.conv1(images))))
        return self.dense(self.flatten(maps if maps.mean() > 0.1 else -maps))


class Grouped(Skipping):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(self.flatten(self.relu2(self.conv2(self.relu1(self.conv1(images))))))


class Hooked(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu1.register_forward_hook(lambda module, inputs, maps: maps * 2)


class Parametrized(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))


class Softmax(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.Softmax(1)


class LowPrecision(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bfloat16()


class Patched(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu2.forward = lambda maps: maps.abs()


class Buffered(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        del self.conv2.bias
        self.conv2.register_buffer("bias", torch.ones(4))


class BatchNormalized(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=False)


class Unflattened(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.flatten, self.dense = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(8), nn.Linear(1, 10)


class HalfFlat(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.flatten, self.dense = nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(2), nn.Linear(64, 10)


class FromInput(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.relu1(self.conv1(images))
        return self.dense(self.flatten(self.relu2(self.conv2(images.expand(-1, 4, -1, -1)))))


class Indexed(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.sites = {"conv1": "relu2", "conv2": "relu2"}


class UnequalStrides(Grouped):
    """Whose channels-last maps some CPU builds of torch get wrong for few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.dense = nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2)), nn.Linear(128, 10)


class DilatedRow(Grouped):
    """The same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, (1, 3), padding=(0, 2), dilation=2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Skipping, "what relu1 gives goes to several places"),
        (Functional, "its forward uses relu, which is no module"),
        (Twice, "it uses conv2 more than once"),
        (Deciding, "torch.fx cannot trace it"),
        (Grouped, "conv2 has groups"),
        (Hooked, "relu1 has hooks"),
        (Parametrized, "conv2 is a ParametrizedConv2d"),
        (Softmax, "relu2 is a Softmax"),
        (Patched, "relu2 has a forward of its own"),
        (Buffered, "conv2 has a weight or bias that is no parameter"),
        (UnequalStrides, "conv2 is of a shape that some builds of torch compute wrongly"),
        (DilatedRow, "conv2 is of a shape that some builds of torch compute wrongly"),
        (OneReLU, "its forward uses flatten, which is no module"),
    ],
)
def test_networks_that_are_no_chains_are_masked_and_say_so_once(
    kind: type[nn.Module], reason: str, split: Split, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = kind().to(split.images_NCHW.device).eval()
    with pytest.raises(NotAChain, match=reason):
        Chain.of(filters_of(model), split.images_NCHW[:1])
    chosen = [rng.choice(8, count, replace=False) for count in (0, 1, 4, 7)]
    evaluation._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        predictions_AN = evaluate_ablations(filters_of(model), split, chosen)
        evaluate_ablations(filters_of(model), split, chosen[:1])
    assert [record.message for record in caplog.records] == [caplog.messages[0]]
    assert caplog.messages[0].startswith(f"{kind.__name__} runs whole for each ablation: {reason}")
    for filters, predictions_N in zip(chosen, predictions_AN, strict=True):
        with torch.no_grad(), ablated(filters_of(model), filters):
            assert np.array_equal(predictions_N, model(split.images_NCHW).argmax(1).cpu())


class PreHooked(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu1.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))


class AsTraced(Grouped):
    """Does something else when it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits + 1 if isinstance(images, torch.Tensor) else logits


class WithIndices(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(1, return_indices=True)


class Elsewhere(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.unused = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.sites = {"conv1": "unused"}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (PreHooked, "relu1 has hooks"),
        (AsTraced, "its modules one after another give something else"),
        (WithIndices, "relu2 returns indices"),
        (Elsewhere, "unused is not among its modules"),
        (LowPrecision, "conv1 is of low precision"),
        (BatchNormalized, "relu2 normalises by each batch's own statistics"),
        (Unflattened, "dense is applied to maps that are not flattened"),
        (HalfFlat, "flatten flattens other dimensions"),
        (FromInput, "what images gives goes to several places"),
        (Indexed, "conv1 is not followed by its activation and then by a convolution or dense layer"),
    ],
)
def test_what_cannot_be_narrowed_is_no_chain(kind: type[nn.Module], reason: str, split: Split) -> None:
    images = split.images_NCHW[:1].bfloat16() if kind is LowPrecision else split.images_NCHW[:1]
    with pytest.raises(NotAChain, match=reason):
        Chain.of(filters_of(kind().to(images.device).eval()), images)
