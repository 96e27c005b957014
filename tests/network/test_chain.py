"""Which networks are chains, and that the others are masked and say so."""

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
    Elsewhere,
    FromInput,
    Grouped,
    HalfFlat,
    Hooked,
    Indexed,
    LowPrecision,
    Parametrized,
    Patched,
    PreHooked,
    Skipping,
    Softmax,
    Twice,
    UnequalStrides,
    Unflattened,
    WithIndices,
)
from toys import OneReLU, filters_of

from tipping.ablation import ablated, evaluate_ablations, evaluation
from tipping.data import Split
from tipping.network import Chain, NotAChain


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Skipping, "what relu1 gives goes to several places"),
        (CallsReLU, "its forward uses relu, which is no module"),
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
        Chain.trace(filters_of(model), split[:1].images_NCHW)
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
    images = split[:1].images_NCHW.bfloat16() if kind is LowPrecision else split[:1].images_NCHW
    with pytest.raises(NotAChain, match=reason):
        Chain.trace(filters_of(kind().to(images.device).eval()), images)
