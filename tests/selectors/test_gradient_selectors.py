"""Selectors by gradients against differences in float64, without gradients, and Torch-Pruning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_pruning
from strangers import state_of
from torch import Tensor, nn
from torch.nn import functional
from toy_evidence import BUILDS, evidence_of, maps_of, scaled_weights, slopes

from tipping.data import Split
from tipping.errors import InputError
from tipping.network import Filters
from tipping.selectors import SELECTORS, Evidence, score

NAMES = [name for name, selector in SELECTORS.items() if selector.family == "gradients"]
CLASSES = 4  # of the images; the networks have more


def close(scores: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert np.count_nonzero(expected) > expected.size / 20


@pytest.mark.parametrize("build", BUILDS)
def test_scores_are_those_by_differences(build: str) -> None:
    evidence = evidence_of(build)
    losses_NF, logits_NF = slopes(evidence)
    labels_N = evidence.images.labels_N.numpy()
    uses = {layer: len(maps) // len(evidence.images) for layer, maps in maps_of(evidence).items()}
    positions = {layer: uses[layer] * maps[0][0].size for layer, maps in maps_of(evidence).items()}
    positions_F = np.array(list(positions.values()))[evidence.filters.index.layer_F]
    close(score("taylor", evidence).values, (np.abs(losses_NF) / positions_F).mean(0))
    close(score("fisher", evidence).values, (losses_NF**2).mean(0) / 2)
    scores_FC = score("gradient_activation", evidence).values
    close(scores_FC[:, :CLASSES], np.stack([logits_NF[labels_N == c].mean(0) for c in range(CLASSES)], 1))
    assert not scores_FC[:, CLASSES:].any(), "no images"
    assert (uses["conv2"] == 2) if build == "twice" else set(uses.values()) == {1}


@pytest.mark.parametrize("build", sorted({*BUILDS} - {"weight norm"}))
def test_scores_by_weights_are_those_by_differences(build: str) -> None:
    evidence = evidence_of(build)
    losses_NF, _ = slopes(evidence, scaled_weights)
    close(score("taylor_weights", evidence).values, losses_NF.mean(0) ** 2)


def test_scores_by_weights_are_those_of_torch_pruning() -> None:
    evidence = evidence_of("residual")
    model, images = evidence.filters.model, evidence.images
    functional.cross_entropy(model(images.images_NCHW), images.labels_N).backward()
    graph = torch_pruning.DependencyGraph().build_dependency(model, images.images_NCHW[:1])
    importance = torch_pruning.importance.TaylorImportance("first", None, multivariable=True, target_types=[nn.Conv2d])
    without_bias = [name for name in evidence.filters.sites if model.get_submodule(name).bias is None]
    for name in without_bias:
        layer = model.get_submodule(name)
        group = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, list(range(layer.out_channels)))
        of_layer_F = evidence.filters.index.layer_F == evidence.filters.index.layers.index(name)
        close(score("taylor_weights", evidence).values[of_layer_F], importance(group).numpy() ** 2)
    assert len(without_bias) > 3


def test_scores_are_the_same_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of("residual")
    scores = {name: score(name, evidence).values for name in NAMES}
    monkeypatch.setattr("tipping.data.batches.MOST", {"cpu": 9})
    for name in NAMES:
        close(score(name, replace(evidence)).values, scores[name])


def test_losses_of_images_that_are_sure_keep_their_digits() -> None:
    evidence = evidence_of("chain")
    with torch.no_grad():
        last = evidence.filters.model.get_submodule("dense3")
        last.weight *= 100
    losses_NF, _ = slopes(evidence)
    sure = int(np.abs(losses_NF).max(1).argmin())
    alone = replace(evidence, images=evidence.images[sure : sure + 1])
    expected = losses_NF[sure] ** 2 / 2
    np.testing.assert_allclose(score("fisher", alone).values, expected, rtol=0, atol=1e-3 * expected.max())
    assert 0 < expected.max() < 1e-10


@pytest.mark.parametrize("build", ["residual", "read again", "functions", "frozen", "checkpointed"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_unchanged(build: str, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of(build)
    model = evidence.filters.given.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state_of(model)
    if fails:
        monkeypatch.setattr("torch.autograd.grad", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score("taylor", evidence)
    else:
        with torch.no_grad(), torch.inference_mode():
            score("taylor", evidence)
    assert state_of(model) == before


class OwnForward(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps).tanh()


class Cut(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


class Split4(nn.Module):
    """Gives its layer a quarter of the image at a time, as other images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3 * 4 * 4, 10)

    def forward(self, images: Tensor) -> Tensor:
        parts = images.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return self.head(self.conv(parts).relu().flatten(1).view(len(images), -1))


def refused(name: str, model: nn.Module, sites: dict[str, str]) -> str:
    split = Split(torch.rand(5, 1, 8, 8), torch.arange(5))
    with pytest.raises(InputError) as raised:
        score(name, Evidence(Filters.at(model, sites, classes=10), split))
    return str(raised.value)


def test_what_cannot_be_is_refused_by_name() -> None:
    layers = (OwnForward(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    assert refused("taylor_weights", nn.Sequential(*layers), {"0": "1"}) == (
        "selector=taylor_weights: 0 has a forward of its own; leave it out"
    )
    assert refused("taylor", Cut(*layers), {"0": "1"}) == (
        "Cut: no gradients of its logits reach its filters; leave them out"
    )
    assert refused("fisher", Split4(), {"conv": "conv"}).startswith("conv: each image must pass it once")
