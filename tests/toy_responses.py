"""Evidence of a small network: some filters are dead, two are the same, and some classes have no images."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from toys import filters_of, keras

from tipping.data import Split
from tipping.mu_lasso import MuLassoProblem
from tipping.network import Filters
from tipping.selectors import Evidence
from tipping.selectors.evidence import Responses

DEAD, TWINS, CLASSES = [1, 8], [13, 14], 4


def observed(count: int = 300, *, maps: str = "after_relu", **given: object) -> Evidence:
    """18 filters in three layers; images of four of ten classes, each brighter in a corner of its own."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(CLASSES, size=count)
    images_NCHW = 0.3 * rng.random((count, 1, 8, 8), dtype=np.float32)
    for image_HW, label in zip(images_NCHW[:, 0], labels_N, strict=True):
        image_HW[4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 0.5 * rng.random()
    model = with_biases(keras())
    with torch.no_grad():
        for f in DEAD:
            model.get_submodule(f"conv{1 + f // 6}").weight[f % 6] = 0
            model.get_submodule(f"conv{1 + f // 6}").bias[f % 6] = 0
        for tensor in (model.conv3.weight, model.conv3.bias):
            tensor[TWINS[1] - 12] = tensor[TWINS[0] - 12]
    split = Split(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))
    filters = filters_of(model) if maps == "after_relu" else Filters.of(model, split[:1].images_NCHW, maps=maps)
    return Evidence(filters, split, **{"mu": 5.0, **given})


def with_biases(model: nn.Module) -> nn.Module:
    """The network with biases that are not zero, so that forgetting them shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(0.05, 0.2, generator=generator)
    return model.eval()


def told_by(responses_NR: np.ndarray, labels_N: np.ndarray, sizes: list[int], **given: object) -> Evidence:
    """The evidence of responses as they are given, of layers of these sizes."""
    model = nn.Sequential(*(nn.Linear(1, size) for size in sizes))
    sites = {str(layer): str(layer) for layer in range(len(sizes))}
    filters = Filters.at(model, sites, classes=int(labels_N.max()) + 1)
    evidence = Evidence(filters, Split(torch.zeros(1, 1), torch.zeros(1)), **given)
    batch = torch.as_tensor(responses_NR), nn.functional.one_hot(torch.as_tensor(labels_N), filters.classes)
    problem = MuLassoProblem.stream([batch])
    return given_responses(evidence, Responses(problem, responses_NR.astype(np.float32), labels_N))


def given_responses(evidence: Evidence, responses: Responses) -> Evidence:
    """The evidence, with responses in place of those that would be measured."""
    vars(evidence)["_parts"] = {"responses": responses}
    return evidence
