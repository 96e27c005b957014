"""Selectors by weights against loops over single filters, and Torch-Pruning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch_pruning
from strangers import state_of
from torch import nn
from toy_evidence import BUILDS, evidence_of

from tipping.data import Split
from tipping.errors import InputError
from tipping.network import Filters
from tipping.selectors import Evidence, score

importance = torch_pruning.importance
FIRST = {"group_reduction": "first", "normalizer": None, "target_types": [nn.Conv2d, nn.ConvTranspose2d, nn.Linear]}


def rows_of(layer: nn.Module) -> list[np.ndarray]:
    """The weights of each filter, one filter after another."""
    weight = layer.weight.detach().double().numpy()
    if isinstance(layer, nn.ConvTranspose2d):
        each, inputs = weight.shape[1], len(weight) // layer.groups
        return [
            weight[f // each * inputs : (f // each + 1) * inputs, f % each].ravel() for f in range(layer.out_channels)
        ]
    return [row.ravel() for row in weight]


BY_LAYER: dict[str, Callable[[list[np.ndarray]], list[float]]] = {
    "l1": lambda rows: [sum(abs(w) for w in row) for row in rows],
    "l2": lambda rows: [sum(w * w for w in row) ** 0.5 for row in rows],
    "fpgm": lambda rows: [sum(sum((row - other) ** 2) ** 0.5 for other in rows) for row in rows],
    "lamp": lambda rows: [
        row @ row / sum(other @ other for other in rows if other @ other >= row @ row) for row in rows
    ],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", BY_LAYER)
def test_scores_are_those_by_loops(name: str, build: str) -> None:
    evidence = evidence_of(build)
    layers = [rows_of(evidence.filters.model.get_submodule(layer)) for layer in evidence.filters.sites]
    np.testing.assert_allclose(score(name, evidence).values, np.concatenate(list(map(BY_LAYER[name], layers))))


THEIRS = {
    "l1": importance.MagnitudeImportance(p=1, **FIRST),
    "l2": importance.MagnitudeImportance(p=2, **FIRST),  # its square
    "lamp": importance.LAMPImportance(group_reduction="first"),
    "batch_norm": importance.MagnitudeImportance(1, "mean", None, target_types=[nn.BatchNorm2d]),
}


@pytest.mark.parametrize("name", THEIRS)
def test_scores_are_those_of_torch_pruning(name: str) -> None:
    evidence = evidence_of("MobileNet")
    model, (layers, layer_F, _) = evidence.filters.model, evidence.filters.index
    scores = score(name, evidence).values
    graph = torch_pruning.DependencyGraph().build_dependency(model, evidence.images.images_NCHW[:1])
    compared = 0
    for number, layer in enumerate(layers):
        module = model.get_submodule(layer)
        if module.groups > 1:
            continue
        group = graph.get_pruning_group(module, torch_pruning.prune_conv_out_channels, list(range(module.out_channels)))
        if name == "batch_norm":  # of this layer alone
            group._group = [item for item in group if item.dep.target.name.startswith(layer.removesuffix("0") + "1")]
        theirs = THEIRS[name](group).numpy()
        np.testing.assert_allclose(scores[layer_F == number], theirs**0.5 if name == "l2" else theirs, rtol=1e-5)
        compared += 1
    assert compared > 5


def test_equal_filters_have_equal_scores_and_those_without_weights_none() -> None:
    evidence = evidence_of("grouped")
    with torch.no_grad():
        evidence.filters.model.conv1.weight[:] = 0
        evidence.filters.model.conv2.weight[1] = -evidence.filters.model.conv2.weight[0]
        evidence.filters.model.conv2.weight[2:] = 0
    np.testing.assert_allclose(score("lamp", evidence).values, [0] * 4 + [0.5, 0.5, 0, 0])
    evidence.filters.model.conv2.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="selector=lamp: its scores of this network are not finite"):
        score("lamp", evidence)


def test_the_scale_is_that_of_the_normalisation_after_each_layer() -> None:
    evidence = evidence_of("residual")
    model = evidence.filters.model.train()
    model.stem[1].weight.data *= -1
    before = state_of(model)
    norms = ["stem.1"]
    for block in ("blocks.0", "blocks.1"):
        norms += [f"{block}.norm1", f"{block}.norm2", f"{block}.shortcut.1"]
    expected = np.concatenate([model.get_submodule(name).weight.detach().abs().numpy() for name in norms])
    np.testing.assert_array_equal(score("batch_norm", evidence).values, expected)
    assert state_of(model) == before


def norm_refused(*layers: nn.Module) -> str:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * 36, 3))
    split = Split(torch.rand(3, 1, 8, 8), torch.arange(3))
    with pytest.raises(InputError) as raised:
        score("batch_norm", Evidence(Filters.at(model, {"0": "0"}, classes=3), split))
    return str(raised.value)


def test_layers_without_normalisation_are_refused_by_name() -> None:
    message = "selector=batch_norm: 0 has no batch normalisation after it; leave it out"
    assert norm_refused(nn.ReLU()) == message
    assert norm_refused(nn.ReLU(inplace=True), nn.BatchNorm2d(4)) == message, "that of the activation"
    assert norm_refused(nn.BatchNorm2d(4, affine=False)) == message
    assert norm_refused(nn.GroupNorm(2, 4)) == message
