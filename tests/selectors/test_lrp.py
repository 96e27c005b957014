"""Relevance by zennit's rules against the rules written out as matrices, in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import zennit_here
from strangers import state_of
from torch import Tensor, nn
from torch.nn import functional
from toy_evidence import Frozen, Transposed, evidence_of
from toys import OneReLU, keras

from tipping.data import Split
from tipping.errors import InputError
from tipping.network import Filters
from tipping.selectors import Evidence, score

assert zennit_here.zennit.__file__
EPSILON, CLASSES = 1e-6, 4


def normed() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2, 1)),
        *(nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Dropout()),
        *(nn.Flatten(), nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10)),
    )


class Called(nn.Module):
    """Functions in place of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense, self.head = nn.Conv2d(1, 4, 3), nn.Linear(36, 6), nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv(images)), 2).view(-1, 36)
        return self.head(functional.dropout(functional.relu(self.dense(maps)), training=self.training))


BUILDS = {"chain": keras, "normed": normed, "transposed": Transposed, "one ReLU": OneReLU, "frozen": Frozen}


def evidence_with(model: nn.Module) -> Evidence:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            module.weight.data.uniform_(-1.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.uniform_(-0.1, 0.1)
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % CLASSES
    return Evidence(Filters.of(model.eval(), images[:1], dense=True), Split(images, labels))


def matrix(steps: Sequence[nn.Module], shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The matrix (out, in) and the bias of what is affine."""

    def apply(maps: Tensor) -> Tensor:
        for step in steps:
            maps = step(maps)
        return maps.flatten(1)

    size = shape.numel()
    bias = apply(torch.zeros(1, *shape, dtype=torch.float64))[0]
    return (apply(torch.eye(size, dtype=torch.float64).view(size, *shape)) - bias).T, bias


def stabilised(values: Tensor) -> Tensor:
    return values + EPSILON * torch.where(values < 0, -1.0, 1.0)


def back(steps: Sequence[nn.Module], maps: Tensor, relevance: Tensor) -> Tensor:
    """The relevance of an input (C, H, W) by the rule of a layer and its normalisation, or of another module."""
    layer, given = steps[0], maps.flatten()
    if isinstance(layer, nn.MaxPool2d):
        _, winners = functional.max_pool2d(maps[None], layer.kernel_size, layer.stride, return_indices=True)
        result = torch.zeros(maps.shape[0], maps[0].numel(), dtype=torch.float64)
        return result.scatter_add_(1, winners[0].flatten(1), relevance.flatten(1)).view(maps.shape)
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.AvgPool2d):
        return relevance.view(maps.shape)
    weights, bias = matrix(steps, maps.shape)
    parts = weights * given  # of each output by each input
    if isinstance(layer, nn.Linear | nn.AvgPool2d):
        total = parts.sum(1) + bias
    else:
        parts = parts.clamp(min=0)
        total = parts.sum(1) + bias.clamp(min=0)
    return (parts / stabilised(total)[:, None] * relevance.flatten()[:, None]).sum(0).view(maps.shape)


def relevances(evidence: Evidence, image: Tensor, label: int, order: Sequence[str]) -> np.ndarray:
    """The relevance of each filter for a logit, from module to module of a chain."""
    model = copy.deepcopy(evidence.filters.model).double()
    modules = [model.get_submodule(name) for name in order]
    stages = [[module] for module in modules]
    for i in range(len(modules) - 1, 0, -1):
        if isinstance(modules[i], nn.BatchNorm1d | nn.BatchNorm2d):
            stages[i - 1] += stages.pop(i)
    given = [image.double()]
    for steps in stages:
        maps = given[-1][None]
        for step in steps:
            maps = step(maps.clone())
        given.append(maps[0].detach())
    relevance, found = torch.zeros_like(given[-1]), {}
    relevance[label] = given[-1][label]
    after: dict[int, Tensor] = {}  # by stage, of its output
    for i in range(len(stages) - 1, -1, -1):
        after[i] = relevance
        relevance = back(stages[i], given[i], relevance)
    for layer, site in evidence.filters.sites.items():
        first = next(i for i, steps in enumerate(stages) if steps[0] is model.get_submodule(layer))
        last = next(i for i in range(first, len(stages)) if model.get_submodule(site) in stages[i])
        found[layer] = after[last].reshape(len(after[last]), -1).sum(1)
    return torch.cat([found[layer] for layer in evidence.filters.sites]).detach().numpy()


@pytest.mark.parametrize("build", BUILDS)
def test_scores_are_those_by_the_rules(build: str) -> None:
    evidence = evidence_with(BUILDS[build]())
    order = [name for name, module in evidence.filters.model.named_modules() if name]
    if build == "one ReLU":
        order = ["conv1", "relu", "conv2", "relu", "flatten", "dense", "relu"]
        evidence.filters.model.add_module("flatten", nn.Flatten())
    elif build == "frozen":
        order = ["conv1", "relu1", "conv2", "relu2", "flatten", "dense"]
    images, labels_N = evidence.images.images_NCHW, evidence.images.labels_N
    pairs = zip(images, labels_N.tolist(), strict=True)
    values_NF = np.stack([relevances(evidence, image, label, order) for image, label in pairs])
    expected_FC = np.stack([values_NF[labels_N == c].mean(0) for c in range(CLASSES)], 1)
    scores_FC = score("lrp", evidence).values
    np.testing.assert_allclose(scores_FC[:, :CLASSES], expected_FC, rtol=1e-5, atol=1e-5 * np.abs(expected_FC).max())
    assert not scores_FC[:, CLASSES:].any()
    assert np.count_nonzero(expected_FC) > expected_FC.size / 5


def test_functions_pass_as_modules_do() -> None:
    called = Called()
    modules = nn.Sequential(
        *(called.conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), called.dense, nn.ReLU(), called.head)
    )
    one, other = (score("lrp", evidence_with(model)).values for model in (called, modules))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_network_is_unchanged() -> None:
    evidence = evidence_with(normed())
    model = evidence.filters.given.train()
    before = state_of(model)
    with torch.inference_mode():
        score("lrp", evidence)
    assert state_of(model) == before


def shared_norm() -> nn.Module:
    norm = nn.BatchNorm2d(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 1, 3), norm, nn.Conv2d(1, 1, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(16, 10))
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("residual", "add has no rule for relevance"),
        ("pooled", "after1 (BatchNorm2d) has no rule for relevance"),
        ("twice", "conv2 (Conv2d) has no rule for relevance"),
        ("weight norm", "conv2 (ParametrizedConv2d) has no rule for relevance"),
        (
            "untraceable",
            "torch.fx cannot trace it (symbolically traced variables cannot be used as inputs to control flow)",
        ),
        ("MobileNet", "add has no rule for relevance"),
    ],
)
def test_what_has_no_rule_is_named(build: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        score("lrp", evidence_of(build))
    assert str(raised.value) == f"selector=lrp: {message}; leave it out"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Mish(), "1 (Mish)"),
        (nn.GroupNorm(2, 4), "1 (GroupNorm)"),
        (nn.BatchNorm2d(4, affine=False), "1 (BatchNorm2d)"),
        (nn.Softmax(1), "1 (Softmax)"),
    ],
)
def test_modules_without_rules_are_named(module: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), module, nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(InputError) as raised:
        score("lrp", evidence_with(model))
    assert str(raised.value) == f"selector=lrp: {message} has no rule for relevance; leave it out"


def test_a_normalisation_that_two_layers_share_has_no_rule() -> None:
    with pytest.raises(InputError, match=r"BatchNorm2d\) has no rule"):
        score("lrp", evidence_with(shared_norm()))
