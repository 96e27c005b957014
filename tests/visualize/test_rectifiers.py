"""Rules of rectifiers against a backward pass by hand, and what has no rule."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf, expit
from torch import Tensor, nn
from torch.nn import functional

from tipping.errors import InputError
from tipping.visualize import check_rules, look
from tipping.visualize.rules import backward_rule


def bell(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def by_tanh(z: np.ndarray) -> np.ndarray:
    """The slope of GELU's approximation, z (1 + tanh u) / 2 with u = √(2/π) (z + 0.044715 z³)."""
    u, slope = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3), np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return (1 + np.tanh(u)) / 2 + z * slope * (1 - np.tanh(u) ** 2) / 2


def of_mish(z: np.ndarray) -> np.ndarray:
    soft = np.log1p(np.exp(z))
    return np.tanh(soft) + z * expit(z) * (1 - np.tanh(soft) ** 2)


SCALE = 1.0507009873554804934193349852946  # of SELU
SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # where z > 0
    "relu": np.ones_like,
    "relu6": lambda z: 1.0 * (z < 6),
    "leaky_relu": np.ones_like,
    "elu": np.ones_like,
    "selu": lambda z: SCALE * np.ones_like(z),
    "gelu": lambda z: (1 + erf(z / np.sqrt(2))) / 2 + z * bell(z),
    "gelu by tanh": by_tanh,
    "silu": lambda z: expit(z) * (1 + z * (1 - expit(z))),
    "mish": of_mish,
    "hardswish": lambda z: np.where(z < 3, (2 * z + 3) / 6, 1),
    "softplus": expit,
}
SPELLINGS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "nn.ReLU6": ("relu6", nn.ReLU6()),
    "nn.ReLU6 in place": ("relu6", nn.ReLU6(inplace=True)),
    "relu6": ("relu6", functional.relu6),
    "relu6 in place": ("relu6", lambda maps: functional.relu6(maps, inplace=True)),
    "hardtanh from 0 to 6": ("relu6", nn.Hardtanh(0, 6, inplace=True)),
    "clamp from 0 to 6": ("relu6", lambda maps: maps.clamp(0, 6)),
    "clamp in place": ("relu6", lambda maps: torch.clamp_(maps, min=0, max=6)),
    "clamp from 0": ("relu", lambda maps: maps.clamp_min(0)),
    "nn.LeakyReLU": ("leaky_relu", nn.LeakyReLU(0.2)),
    "leaky_relu_": ("leaky_relu", functional.leaky_relu_),
    "nn.PReLU": ("leaky_relu", nn.PReLU(dtype=torch.float64)),
    "falling PReLU": ("leaky_relu", nn.PReLU(init=-0.5, dtype=torch.float64)),
    "prelu method": ("leaky_relu", lambda maps: maps.prelu(torch.full((1,), 0.3).to(maps))),
    "nn.RReLU": ("leaky_relu", nn.RReLU(inplace=True).eval()),
    "nn.ELU": ("elu", nn.ELU(alpha=0.7)),
    "nn.CELU in place": ("elu", nn.CELU(alpha=0.7, inplace=True)),
    "nn.SELU": ("selu", nn.SELU()),
    "torch.selu": ("selu", torch.selu),
    "nn.GELU": ("gelu", nn.GELU()),
    "gelu": ("gelu", functional.gelu),
    "nn.GELU by tanh": ("gelu by tanh", nn.GELU(approximate="tanh")),
    "nn.SiLU": ("silu", nn.SiLU()),
    "silu in place": ("silu", lambda maps: functional.silu(maps, inplace=True)),
    "silu as a statement": ("silu", lambda maps: (functional.silu(maps, inplace=True), maps)[1]),
    "nn.Mish": ("mish", nn.Mish(inplace=True)),
    "nn.Hardswish": ("hardswish", nn.Hardswish()),
    "hardswish in place": ("hardswish", lambda maps: functional.hardswish(maps, True)),
    "nn.Softplus": ("softplus", nn.Softplus()),
}


class Calling(nn.Module):
    """A module that calls a function, also in place."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps)


def two_layers(function: Callable[[Tensor], Tensor]) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), Calling(function), nn.Linear(40, 30), Calling(function)).double()
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=2)  # so that some values pass 6
    return model


@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_rule_is_its_definition(spelling: str, rule: str) -> None:
    name, function = SPELLINGS[spelling]
    model, x = two_layers(function), torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    with backward_rule(rule):
        result = model(x)
    sent = torch.randn(result.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad(result, x, sent)
    plain = model(x)
    assert torch.equal(result, plain), "what is computed is the same"
    if rule == "gradient":
        assert torch.equal(found, torch.autograd.grad(plain, x, sent)[0])
        return
    signal, before = sent[0].numpy(), []
    with torch.no_grad():
        before = [model[:1](x)[0].numpy(), model[:3](x)[0].numpy()]
    assert before[0].max() > 6
    assert before[1].max() > 6
    for layer, z in zip((model[2], model[0]), reversed(before), strict=True):
        slope = np.where(z > 0, SLOPES[name](np.where(z > 0, z, 1)), 0) if rule == "guided" else 1
        signal = layer.weight.detach().numpy().T @ (np.maximum(signal, 0) * slope)
    assert np.allclose(found[0].numpy(), signal, rtol=1e-7, atol=1e-12), "torch's softplus is linear from 20 on"
    assert not np.allclose(torch.autograd.grad(plain, x, sent)[0][0].numpy(), signal, rtol=1e-2), "no plain gradient"


def doubled(maps: Tensor) -> Tensor:
    return torch.relu(maps) * 2


with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # torch has newer ways
    scripted = torch.jit.script(doubled)
    scripted_module = torch.jit.script(nn.Sequential(nn.ReLU(), nn.Identity()))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        return maps * maps.sigmoid()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        (maps,) = ctx.saved_tensors
        return signal * maps.sigmoid() * (1 + maps * (1 - maps.sigmoid()))


REFUSED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "threshold": ("threshold", lambda maps: functional.threshold(maps, 0.1, 0.0)),
    "hardtanh": ("hardtanh from -1", nn.Hardtanh()),
    "sigmoid": ("sigmoid elsewhere than as a gate", nn.Sigmoid()),
    "tanh": ("tanh elsewhere than as a gate", lambda maps: 2 * torch.tanh(maps / 2) + 1),
    "hardsigmoid": ("hardsigmoid elsewhere than as a gate", nn.Hardsigmoid()),
    "both": (
        "sigmoid elsewhere than as a gate",
        lambda maps: (gate := maps.sigmoid()) * maps.detach() + 0 * gate.relu(),
    ),
    "softsign": ("softsign", nn.Softsign()),
    "logsigmoid": ("log_sigmoid", nn.LogSigmoid()),
    "hardshrink": ("hardshrink", nn.Hardshrink()),
    "softshrink": ("softshrink", nn.Softshrink()),
    "tanhshrink": ("tanhshrink", nn.Tanhshrink()),
    "scripted": ("(relu|a function) in TorchScript", scripted),
    "scripted module": ("relu in TorchScript", scripted_module),
    "operation": ("silu in TorchScript or as an operation", torch.ops.aten.silu.default),
    "own backward": ("Swish, whose backward pass is its own", Swish.apply),
    "swish": ("an activation written out as its input times a gate", lambda maps: maps * torch.sigmoid(1.5 * maps)),
    "gelu": ("an activation written out", lambda maps: 0.5 * maps * (1 + torch.erf(maps / 2**0.5))),
    "mish": ("an activation written out", lambda maps: maps * torch.tanh(functional.softplus(maps))),
    "hardswish": ("an activation written out", lambda maps: maps * functional.relu6(maps + 3, inplace=True) / 6),
}


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize("activation", REFUSED)
def test_what_has_no_rule_is_refused_by_name(activation: str, rule: str) -> None:
    name, function = REFUSED[activation]
    layers = (nn.Conv2d(1, 2, 3), Calling(function), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
    model, images = nn.Sequential(*layers).eval(), torch.rand(2, 1, 8, 8)
    nn.init.constant_(layers[0].weight, 0.2)  # so that signals pass
    refusal = f"rule {rule} is defined for rectifiers, and the network calls {name}.*: take the rule gradient"
    for _ in range(2):  # TorchScript compiles more when it runs again
        with pytest.raises(InputError, match=refusal):
            look(model, images, [(("2", "3"), 0)] * 2, rule=rule)
        with pytest.raises(InputError, match=refusal):
            check_rules(model, images[:1], ["gradient", rule])
    assert look(model, images, [(("0", "1"), 0)] * 2, rule="gradient").signals_BCHW.any()


class Gated(nn.Module):
    """A gate of squeeze-and-excitation, and one from the same layer, beside a rectifier."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.inner, self.outer, self.last = (
            nn.Conv2d(*size, 1) for size in ((1, 4), (4, 2), (2, 4), (4, 4))
        )
        self.gate, self.head = gate, nn.Linear(2, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.silu(self.conv(images))
        pooled = functional.adaptive_avg_pool2d(maps, 1)
        maps = maps * self.gate(self.outer(functional.relu(self.inner(pooled))))
        value, other = self.last(functional.normalize(maps)).chunk(2, dim=1)
        value = value * self.gate(other) + functional.relu(other + value) * self.gate(other)
        return self.head(value.mean((2, 3)))


@pytest.mark.parametrize("gate", [torch.sigmoid, nn.Hardsigmoid(), nn.Tanh()], ids=["sigmoid", "hardsigmoid", "tanh"])
def test_gates_keep_their_gradient(gate: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    check_rules(Gated(gate).eval(), torch.rand(1, 1, 8, 8), ["deconvnet", "guided"])
    check_rules(nn.Sequential(Gated(torch.relu), Calling(gate)).eval(), torch.rand(1, 1, 8, 8), ["guided"])  # of logits
    without_rectifier = nn.Sequential(nn.Conv2d(1, 2, 3), Calling(gate), nn.Flatten(), nn.Linear(72, 4)).eval()
    with pytest.raises(InputError, match="rule guided is defined for rectifiers, and the network calls"):
        look(without_rectifier, torch.rand(2, 1, 8, 8), [(("0", "1"), 0)] * 2, rule="guided")
