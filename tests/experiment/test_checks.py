"""Layers initialised anew, and overlaps of selections beside chance."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from toys import Constant, SmallResNet

from tipping.errors import InputError
from tipping.experiment import checks
from tipping.network import build, layers_to_randomize

LAYERS = ["conv1", "conv2", "conv3", "dense1", "dense2", "dense3"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("none", []),
        ("all", LAYERS),
        ("from:conv3", LAYERS[2:]),
        ("only:dense1", ["dense1"]),
    ],
)
def test_layers_are_initialised_anew_and_no_others(model: nn.Module, wanted: str, expected: list[str]) -> None:
    options = {"_target_": "tipping.models.KerasCNN", "filters": 6, "depth": 3, "dropout": 0.5}
    before = copy.deepcopy(model.state_dict())
    chosen = layers_to_randomize(model, wanted, model.conv1.weight.new_zeros(1, 1, 8, 8))
    assert chosen == expected
    checks.randomize_layers(model, chosen, (1, 8, 8), 10, SimpleNamespace(model=options, seed=0))  # type: ignore[arg-type]
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == set(expected)
    initial = build(options, (1, 8, 8), 10, seed=0).to(model.conv1.weight.device)
    for layer in expected:
        assert not torch.equal(model.get_parameter(f"{layer}.weight"), initial.get_parameter(f"{layer}.weight"))
        sizes = [float(net.get_parameter(f"{layer}.weight").detach().abs().max()) for net in (model, initial)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.1), "of the same distribution"


def test_normalisation_starts_anew_with_its_statistics() -> None:

    torch.manual_seed(0)
    model = SmallResNet()
    model(torch.rand(9, 1, 8, 8))  # in training: statistics move
    options = {"_target_": "toys.SmallResNet"}
    checks.randomize_layers(model, ["stem.1"], (1, 8, 8), 10, SimpleNamespace(model=options, seed=0))  # type: ignore[arg-type]
    assert not model.stem[1].running_mean.any()
    assert model.blocks[0].norm1.running_mean.any()


def test_the_cascade_is_in_the_order_of_an_image() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(256, 10)
            self.conv = weight_norm(nn.Conv2d(1, 4, 3, padding=1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(images).flatten(1))

    model, image_1CHW = Backwards(), torch.zeros(1, 1, 8, 8)
    layers = layers_to_randomize(model, "all", image_1CHW)
    assert [layer for layer in layers if "parametrizations" not in layer] == ["conv", "head"]
    assert layers_to_randomize(model, "from:head", image_1CHW) == ["head"]


def test_weights_that_are_the_same_always_are_not_initialised_anew(model: nn.Module) -> None:
    options = SimpleNamespace(model={"_target_": "toys.Constant"}, seed=0, randomize="all")
    with pytest.raises(InputError, match="randomize=all: Constant has the same weights for every seed"):
        checks.randomize_layers(Constant(), ["2"], (1, 8, 8), 10, options)  # type: ignore[arg-type]


def test_an_unknown_layer_is_refused(model: nn.Module) -> None:
    for wanted in ("conv1", "from:", "only:relu1", "all:conv1", "until:conv1"):
        with pytest.raises(InputError, match=f"randomize={wanted}: give none, all, from:LAYER"):
            layers_to_randomize(model, wanted, model.conv1.weight.new_zeros(1, 1, 8, 8))


def selection(strength_F: np.ndarray, live_F: np.ndarray | None = None) -> SimpleNamespace:
    live_F = np.ones(len(strength_F), dtype=bool) if live_F is None else live_F
    return SimpleNamespace(strength_F=strength_F, relevant_F=strength_F > 0, live_F=live_F)


def strengths(rng: np.random.Generator, relevant: int = 12, filters: int = 40) -> np.ndarray:
    values = np.zeros(filters)
    values[rng.choice(filters, relevant, replace=False)] = rng.random(relevant)
    return values


def test_overlap_is_jaccard_and_spearman(rng: np.random.Generator) -> None:
    one, two = strengths(rng), strengths(rng)
    found = checks.overlap(selection(one), selection(two), np.zeros(40, dtype=int), rng)
    first, second = set(np.flatnonzero(one)), set(np.flatnonzero(two))
    assert found.jaccard == len(first & second) / len(first | second)
    assert found.rank_correlation == pytest.approx(spearmanr(one, two).statistic)
    same = checks.overlap(selection(one), selection(one), np.zeros(40, dtype=int), rng)
    assert same.jaccard == 1
    assert same.rank_correlation == pytest.approx(1)
    assert same.jaccard_by_chance[1] < 0.6


def test_independent_selections_lie_within_chance() -> None:
    """Of 400 independent pairs, those outside a 95 % range: some 5 %, fewer for Jaccard, whose values are few."""
    rng, layer_F, outside = np.random.default_rng(0), np.repeat([0, 1], 20), np.zeros(2)
    for _ in range(400):
        found = checks.overlap(selection(strengths(rng)), selection(strengths(rng)), layer_F, rng)
        pairs = [(found.jaccard, found.jaccard_by_chance), (found.rank_correlation, found.rank_correlation_by_chance)]
        outside += [not low <= value <= high for value, (low, high) in pairs]
    assert 0.03 < outside[1] / 400 < 0.08
    assert outside[0] / 400 < 0.06


def test_chance_keeps_counts_of_layers_and_dead_filters(rng: np.random.Generator) -> None:
    layer_F = np.repeat([0, 1], [4, 8])
    live_F = np.r_[np.ones(4, dtype=bool), np.arange(8) < 3]
    one = np.r_[np.ones(4), 3, 2, 1, np.zeros(5)]
    two = selection(np.r_[np.ones(4), 1, 2, 3, np.zeros(5)], live_F)
    found = checks.overlap(selection(one), two, layer_F, rng)
    assert found.jaccard == 1
    assert found.jaccard_by_chance == (1, 1), "all live filters of each layer are relevant: chance gives the same"


def test_without_relevant_filters_there_is_no_overlap(rng: np.random.Generator) -> None:
    nothing = selection(np.zeros(9))
    found = checks.overlap(nothing, nothing, np.zeros(9, dtype=int), rng)
    assert (found.jaccard, found.rank_correlation) == (None, None)


def test_a_check_records_its_overlap_with_the_trained_network(run_script, tmp_path: Path) -> None:
    records = {}
    for check in ("randomize=all", "randomize=only:dense3", "protocol.labels=permuted"):
        job = ("mu=1", "model.filters=8", "trainer.max_epochs=3", "replace=true")
        code, out, err = run_script("interpret", *job, check)
        assert code == 0, err
        records[check] = json.loads((tmp_path / "out" / "result.json").read_text())
        assert "overlap with the trained network's" in out
    assert len({record["store"]["network"] for record in records.values()}) == 1, "trained once"
    assert records["randomize=all"]["accuracy"]["intact"] < 0.3
    assert records["randomize=all"]["overlap"]["jaccard"] < 1
    assert records["randomize=only:dense3"]["overlap"]["jaccard"] == 1, "the selection does not see the last layer"
    permuted = records["protocol.labels=permuted"]
    assert max(permuted["selection"]["explainable"]) < permuted["selection"]["explainable_by_noise"]
    assert "nothing is relevant: no class is explained better than by noise" in out
    code, out, err = run_script("interpret", *job)
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["overlap"] is None
    assert "nothing is relevant" not in out
