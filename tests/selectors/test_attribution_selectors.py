"""Conductance and internal influence against captum, layer by layer, and against differences in float64."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from strangers import state_of
from torch import Tensor
from toy_evidence import evidence_of, growing

from tipping.errors import InputError
from tipping.selectors import Budget, Evidence, score

METHODS = {"conductance": captum.attr.LayerConductance, "internal_influence": captum.attr.InternalInfluence}
CLASSES, STEPS = 4, 20


def few(evidence: Evidence, count: int = 16) -> Evidence:
    return replace(evidence, budget=Budget(single_images=count))


def by_class(values_NF: np.ndarray, evidence: Evidence) -> np.ndarray:
    """Averaged over the images of each class."""
    labels_N = evidence.images.labels_N.numpy()
    return np.stack([values_NF[labels_N == c].mean(0) for c in range(CLASSES)], 1)


def close(scores_FC: np.ndarray, expected_FC: np.ndarray) -> None:
    atol = 1e-5 * np.abs(expected_FC).max()
    np.testing.assert_allclose(scores_FC[:, :CLASSES], expected_FC, rtol=1e-5, atol=atol)
    assert not scores_FC[:, CLASSES:].any(), "no images"
    assert (expected_FC > 10 * atol).any()
    assert (expected_FC < -10 * atol).any()


@pytest.mark.parametrize("build", ["chain", "grouped", "transposed", "MobileNet"])
@pytest.mark.parametrize("name", METHODS)
def test_scores_are_those_of_captum(name: str, build: str) -> None:
    evidence = few(evidence_of(build), 30)
    model, images = evidence.filters.model, evidence.several
    columns = []
    for site in evidence.filters.sites.values():
        attributed: Tensor = METHODS[name](model, model.get_submodule(site)).attribute(
            images.images_NCHW, target=images.labels_N, n_steps=STEPS
        )
        columns.append(attributed.detach().double().flatten(2).sum(2) if attributed.ndim > 2 else attributed.detach())
    expected_NF = torch.cat(columns, 1).numpy()
    close(score(name, evidence).values, by_class(expected_NF, replace(evidence, images=images)))


@pytest.mark.parametrize("build", ["residual", "read again", "twice", "one ReLU", "frozen", "checkpointed"])
def test_scores_are_those_by_differences(build: str) -> None:
    evidence = few(evidence_of(build))
    evidence = replace(evidence, images=evidence.several)
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    influences_NF = growing(evidence, (1 + nodes) / 2, conducting=False) @ weights / 2
    close(score("internal_influence", evidence).values, by_class(influences_NF, evidence))
    nodes, _ = np.polynomial.legendre.leggauss(STEPS + 1)
    conductances_NF = growing(evidence, (1 + nodes) / 2, conducting=True).sum(2)
    close(score("conductance", evidence).values, by_class(conductances_NF, evidence))


@pytest.mark.parametrize("name", METHODS)
def test_the_network_is_unchanged(name: str) -> None:
    evidence = few(evidence_of("residual"))
    model = evidence.filters.given.train()
    before = state_of(model)
    with torch.inference_mode():
        score(name, evidence)
    assert state_of(model) == before


def test_one_layer_is_enough() -> None:
    evidence = few(evidence_of("chain"))
    alone = replace(evidence, filters=type(evidence.filters).at(evidence.filters.model, {"conv2": "relu2"}, classes=10))
    for name in METHODS:
        of_layer_F = evidence.filters.index.layer_F == 1
        np.testing.assert_allclose(score(name, alone).values, score(name, evidence).values[of_layer_F], rtol=1e-6)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(
        InputError, match=r"^selector=conductance needs captum: pip install 'tipping\[attribution\]' \("
    ):
        score("conductance", evidence_of("chain"))
    monkeypatch.delitem(sys.modules, "zennit", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zennit.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    with pytest.raises(
        InputError, match=r"^selector=lrp needs zennit: .* \(operator torchvision::nms does not exist\)$"
    ):
        score("lrp", evidence_of("chain"))
