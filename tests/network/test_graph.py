"""Which networks are graphs, what of them is found, and that others are masked and say so."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn
from toy_chains import (
    AsTraced,
    BatchNormalized,
    Buffered,
    CallsReLU,
    Deciding,
    DilatedRow,
    Drawing,
    Elsewhere,
    FromInput,
    Grouped,
    Hooked,
    HookedInside,
    Indexed,
    LowPrecision,
    Overwritten,
    Parametrized,
    Patched,
    PreHooked,
    Skipping,
    Softmax,
    Twice,
    UnequalStrides,
)
from toys import OneReLU, filters_of

from tipping.ablation import ablated, evaluate_ablations, evaluation
from tipping.data import Split
from tipping.network import Filters, Graph, NotAGraph, evaluating, up_to_last
from tipping.selection import collect

GRAPHS = (
    *(Skipping, CallsReLU, Twice, Grouped, Hooked, PreHooked, Parametrized, Softmax, Patched, Buffered),
    *(UnequalStrides, DilatedRow, OneReLU, FromInput, Indexed),
)


def assert_predicted_as_masked(filters: Filters, split: Split, chosen: list[np.ndarray]) -> None:
    predictions_AN = evaluate_ablations(filters, split, chosen)
    for gone, predictions_N in zip(chosen, predictions_AN, strict=True):
        with evaluating(filters.model), torch.no_grad(), ablated(filters, gone):
            assert np.array_equal(predictions_N, filters.model(split.images_NCHW).argmax(1).cpu())


@pytest.mark.parametrize("kind", GRAPHS)
def test_networks_with_a_graph_are_predicted_as_masked(
    kind: type[nn.Module], split: Split, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    filters = filters_of(kind().to(split.images_NCHW.device).eval())
    count = len(filters.index.layer_F)
    chosen = [rng.choice(count, some, replace=False) for some in (0, 1, 4, 7)] + [np.arange(4), np.arange(4, count)]
    assert_predicted_as_masked(filters, split[:100], chosen)
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Deciding, "torch.fx cannot trace it"),
        (BatchNormalized, "it gives other logits for an image beside others"),
        (AsTraced, "what torch.fx traces gives something else"),
        (HookedInside, "block has hooks"),
        (Overwritten, "relu_ overwrites a part of what is used later"),
    ],
)
def test_networks_without_a_graph_are_masked_and_say_so_once(
    kind: type[nn.Module], reason: str, split: Split, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    filters, split = filters_of(kind().to(split.images_NCHW.device).eval()), split[:64]
    chosen = [rng.choice(8, count, replace=False) for count in (0, 1, 4, 7)]
    evaluation._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert_predicted_as_masked(filters, split, chosen)
        evaluate_ablations(filters, split, chosen[:1])
    assert [record.message for record in caplog.records] == [caplog.messages[0]]
    assert caplog.messages[0].startswith(f"{kind.__name__} runs whole for each ablation: {reason}")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (LowPrecision, "conv1.weight is of low precision"),
        (Elsewhere, "the maps of conv1 do not pass unused where torch.fx sees it"),
        (Drawing, "it gives other logits for the same images on each pass"),
    ],
)
def test_what_has_no_graph(kind: type[nn.Module], reason: str, split: Split) -> None:
    images = split.images_NCHW[:1].bfloat16() if kind is LowPrecision else split.images_NCHW[:1]
    model = kind().to(images.device).eval()
    with pytest.raises(NotAGraph, match=reason), evaluating(model), torch.no_grad():
        Graph.trace(filters_of(model), images)


def test_a_site_is_the_first_call_after_each_call_of_its_layer(split: Split) -> None:
    model = OneReLU().to(split.images_NCHW.device).eval()
    with torch.no_grad():
        graph = Graph.trace(filters_of(model), split.images_NCHW[:1])
    assert list(graph.sites.values()) == [("conv1",), ("conv2",)]
    places = [place.args[0] for place in graph.sites]
    assert [place.args[0] for place in places] == [*graph.layers["conv1"], *graph.layers["conv2"]]


def test_only_the_part_up_to_the_last_map_runs(split: Split) -> None:
    model = Skipping().to(split.images_NCHW.device).eval()
    calls: list[str] = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    part = up_to_last(model, ["relu1", "relu2"])
    with torch.no_grad():
        result = part(split.images_NCHW[:2])
        assert calls == ["conv1", "relu1", "conv2", "relu2"]
        assert torch.equal(result, model.relu2(model.conv2(model.relu1(model.conv1(split.images_NCHW[:2])))))
    assert up_to_last(Deciding(), ["relu1"]).__class__ is Deciding, "cannot be traced"


def test_responses_of_what_is_traced_as_something_else_are_those_of_the_network(split: Split) -> None:
    """Its code goes another way when it is traced."""

    class Doubling(Skipping):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            images = images * torch.arange(8, device=images.device) if isinstance(images, torch.Tensor) else images
            return super().forward(images)

    torch.manual_seed(0)
    model = Doubling().to(split.images_NCHW.device).eval()
    found = collect(filters_of(model), split[:64])
    plain = Skipping().to(split.images_NCHW.device).eval()
    plain.load_state_dict(model.state_dict())
    scaled = Split(split[:64].images_NCHW * torch.arange(8, device=split.images_NCHW.device), split[:64].labels_N)
    assert torch.equal(found.gram_FF, collect(filters_of(plain), scaled).gram_FF)
