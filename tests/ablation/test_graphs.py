"""Graphs of many kinds without some of their filters, against the same networks with masks."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn
from toy_graphs import COLOURS, SIDE, ZOO, all_logits, made

from tipping.ablation import ablated, evaluate_ablations, evaluation
from tipping.ablation.engine import Engine
from tipping.ablation.operations import Operation
from tipping.data import Split
from tipping.network import Filters, evaluating
from tipping.selection import mean_activations

pytestmark = pytest.mark.usefixtures("differences")


def images(count: int, side: int = SIDE) -> torch.Tensor:
    return torch.rand(count, COLOURS, side, side, generator=torch.Generator().manual_seed(0))


def samples(filters: Filters, rng: np.random.Generator) -> list[np.ndarray]:
    """Nothing; one filter of each layer, all others, the layer; random ones of all layers; everything."""
    layer_F = filters.index.layer_F
    members = [np.flatnonzero(layer_F == layer) for layer in np.unique(layer_F)]
    chosen = [part for layer in members for part in (layer[:1], layer[1:], layer)]
    counts = (1, 2, len(layer_F) // 3, len(layer_F) // 2, 3 * len(layer_F) // 4)
    return [
        *(np.array([], dtype=int), *chosen, np.arange(len(layer_F))),
        *(rng.choice(len(layer_F), count, replace=False) for count in counts),
    ]


def check(model: nn.Module, images_NCHW: torch.Tensor, ablations: list[np.ndarray] | None, **how: object) -> Engine:
    """The engine's logits in float64 are those of the masked network, and the network is as before."""
    filters = Filters.of(model, images_NCHW[:1], dense=True)
    before = copy.deepcopy(model.state_dict())
    chosen = samples(filters, np.random.default_rng(1)) if ablations is None else ablations
    value, scope = how.get("value"), how.get("scope", "filter")
    with evaluating(filters.model), torch.no_grad():
        engine = Engine.tried(filters, images_NCHW[:1], value, scope)
        for gone, logits in zip(chosen, all_logits(engine, chosen, images_NCHW), strict=True):
            with ablated(filters, gone, value=value, scope=scope):
                expected = filters.model(images_NCHW.clone())
            # sums in another order, in float64
            assert torch.allclose(logits, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())), gone
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return engine


@pytest.mark.parametrize("name", ZOO)
def test_a_graph_gives_the_logits_of_the_masked_network(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = made(ZOO[name]).double()
    with caplog.at_level(logging.WARNING, "tipping.ablation"):
        check(model, images(5).double(), None)
    assert not [record for record in caplog.records if record.name.startswith("tipping.ablation")]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("how", ["mean", "first_input_channel"])
def test_other_values_and_scopes_give_the_logits_of_the_masked_network(
    name: str, how: str, rng: np.random.Generator
) -> None:
    model, images_NCHW = made(ZOO[name]).double(), images(4).double()
    filters = Filters.of(model, images_NCHW[:1], dense=True)
    chosen = [rng.choice(len(filters.index.layer_F), count, replace=False) for count in (1, 5, 15)]
    if how == "mean":
        value = mean_activations(filters, Split(images_NCHW, torch.zeros(4, dtype=torch.int64)))
        check(model, images_NCHW, chosen, value=value)
    else:
        check(model, images_NCHW, chosen, scope=how)


@pytest.mark.parametrize("name", ZOO)
def test_predictions_of_a_graph_are_those_of_the_masked_network(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several parts of the images, in float32."""
    model, images_NCHW = made(ZOO[name]), images(80)
    monkeypatch.setattr(evaluation, "SHARED", {})
    filters = Filters.of(model, images_NCHW[:1])
    chosen = [rng.choice(len(filters.index.layer_F), count, replace=False) for count in (0, 1, 3, 9, 15)]
    predictions_AN = evaluate_ablations(filters, Split(images_NCHW, torch.zeros(80, dtype=torch.int64)), chosen)
    for gone, predictions_N in zip(chosen, predictions_AN, strict=True):
        with torch.no_grad(), ablated(filters, gone):
            assert np.array_equal(predictions_N, filters.model(images_NCHW.clone()).argmax(1))


def unknown(engine: Engine) -> list[str]:
    """The names of the operations that run whole, but for those whose values are no maps."""
    return [node.name for node, one in engine.operations.items() if type(one) is Operation and one.is_map]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("ResNet", []),
        ("ShuffleNet", []),
        ("squeeze-excite", []),
        ("U-Net", ["body_0_up", "body_1_up"]),
        ("unprovable", ["body_region"]),
    ],
)
def test_only_what_is_not_known_runs_whole(name: str, whole: list[str]) -> None:
    model, image_1CHW = made(ZOO[name]), images(1)
    with evaluating(model), torch.no_grad():
        engine = Engine.tried(Filters.of(model, image_1CHW), image_1CHW, None, "filter")
    needed = [name for name in unknown(engine) if not name.startswith(("view", "transpose", "contiguous"))]
    assert needed == whole
