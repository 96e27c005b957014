"""Networks of torchvision, with small images, whose engine gives what masks give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torchvision_here import torchvision
from toy_graphs import all_logits, made

from tipping.ablation import ablated
from tipping.ablation.engine import Engine
from tipping.network import Filters, evaluating

models = torchvision.models
SHORT: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5),
    "DenseNet": lambda: models.DenseNet(4, (2, 2), 8, num_classes=5),
    "MobileNetV2": lambda: models.MobileNetV2(5, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2]]),
    "ShuffleNetV2": lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 40], num_classes=5),
}
LONG: dict[str, Callable[[], nn.Module]] = {
    "ResNet18": lambda: models.resnet18(num_classes=5),
    "VGG11": lambda: models.vgg11(num_classes=5),
    "EfficientNet-B0": lambda: models.efficientnet_b0(num_classes=5),
    "DenseNet121": lambda: models.densenet121(num_classes=5),
}


def check(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = made(build).double()
    images_NCHW, rng = torch.rand(2, 3, 32, 32, dtype=torch.float64), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tipping.network.filters.log.warning", lambda *_: None)
        filters = Filters.of(model, images_NCHW[:1])
    layer_F = filters.index.layer_F
    layer = np.flatnonzero(layer_F == rng.integers(len(filters.index.layers)))
    chosen = [layer, layer[1:], *(rng.choice(len(layer_F), some, replace=False) for some in (0, 1, len(layer_F) // 2))]
    with evaluating(filters.model), torch.no_grad():
        engine = Engine.tried(filters, images_NCHW[:1], None, "filter")
        for gone, logits in zip(chosen, all_logits(engine, chosen, images_NCHW), strict=True):
            with ablated(filters, gone):
                expected = filters.model(images_NCHW.clone())
            assert expected.std() > 0
            # sums in another order, in float64
            assert torch.allclose(logits, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("name", SHORT)
def test_short_ones_of_their_classes(name: str) -> None:
    check(SHORT[name])


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_whole_ones(name: str) -> None:
    check(LONG[name])
