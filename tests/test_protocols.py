"""Each axis of a protocol against its definition, and the presets."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, accuracy, filters_of
from hydra import compose, initialize_config_dir
from test_ablation import without
from test_finding import SmallResNet
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tipping import data
from tipping.ablation import ablated
from tipping.data import CLASSES, Split
from tipping.experiment import config
from tipping.network import Filters, build
from tipping.selection import Measure, collect, responses
from tipping.selection.responses import NORMS, normalize


def axes(*overrides: str) -> dict:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = config.parse(compose("config", overrides=list(overrides)))
    return {"mu": composed.mu, **{k: v for k, v in asdict(composed.protocol).items() if k != "name"}}


DESCRIBED = {
    "mu": 100,
    "norm": "frobenius",
    "maps": "after_relu",
    "dense": False,
    "labels": "true",
    "scope": "filter",
    "value": "zero",
    "sites": "conv+dense",
    "control": "layer",
    "draws": 5,
    "evaluated_on": "test",
}
PRESETS = {
    "described": {},
    "keras_report": {"scope": "first_input_channel", "sites": "conv"},
    "matconvnet_report": {
        "norm": "spectral",
        "maps": "before_pooling",
        "dense": True,
        "labels": "predicted",
        "control": "global",
        "evaluated_on": "train",
    },
    "authors": {"mu": 10, "norm": "squared", "maps": "all", "dense": True, "labels": "predicted"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_axes(name: str) -> None:
    assert axes(f"protocol={name}") == {**DESCRIBED, **PRESETS[name]}
    settings = [f"{axis if axis == 'mu' else f'protocol.{axis}'}={value}" for axis, value in PRESETS[name].items()]
    assert axes(*settings) == axes(f"protocol={name}")
    assert {path.stem for path in (ROOT / "conf" / "protocol").iterdir()} == set(PRESETS)


def test_mu_given_wins_over_that_of_a_preset() -> None:
    assert axes("protocol=authors", "mu=7")["mu"] == 7


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7), (7, 4), (1, 1), (1, 6)])
def test_norms_are_numpys(height: int, width: int, device: torch.device) -> None:
    maps = torch.rand(6, 3, height, width, generator=torch.Generator().manual_seed(0)) - 0.3
    maps[2, 1] = 0
    for layout in (torch.contiguous_format, torch.channels_last):
        given = maps.to(device).contiguous(memory_format=layout)
        expected = {norm: np.linalg.norm(maps.double().numpy(), norm, (2, 3)) for norm in ("fro", 2)}
        # float32 rounds sums of some 50 numbers, and eigenvalues, to a few 1e-7
        assert np.allclose(NORMS["frobenius"](given).cpu(), expected["fro"], rtol=1e-5)
        assert np.allclose(NORMS["squared"](given).cpu(), expected["fro"] ** 2, rtol=1e-5)
        assert np.allclose(NORMS["spectral"](given).cpu(), expected[2], rtol=1e-5, atol=1e-7)


def test_norms_of_dense_units_are_their_size() -> None:
    units = torch.tensor([[-2.0, 0.5], [0.0, 3.0]])
    assert NORMS["frobenius"](units).tolist() == NORMS["spectral"](units).tolist() == [[2, 0.5], [0, 3]]
    assert NORMS["squared"](units).tolist() == [[4, 0.25], [0, 9]]


def test_the_largest_singular_values_are_found_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's library takes no more than some 32,000 matrices at once."""
    maps, few = torch.rand(5, 7, 4, 6, generator=torch.Generator().manual_seed(0)), []
    expected = torch.linalg.svdvals(maps)[..., 0]
    eigvalsh = torch.linalg.eigvalsh
    monkeypatch.setattr(responses, "EIGEN", 8)
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda part: few.append(len(part)) or eigvalsh(part))
    assert torch.allclose(NORMS["spectral"](maps), expected, rtol=1e-5)
    assert few == [8, 8, 8, 8, 3]
    assert torch.allclose(NORMS["spectral"](maps[:, :, :1]), torch.linalg.svdvals(maps[:, :, :1])[..., 0], rtol=1e-6)
    assert len(few) == 5, "a single row needs none"


def test_all_maps_and_dense_units_are_measured_where_they_are(model: nn.Module, split: Split) -> None:
    filters = Filters.of(model, split.images_NCHW[:1], maps="all", dense=True)
    problem = collect(filters, split, Measure("squared"))
    maps, places = split.images_NCHW, []
    with torch.no_grad():
        for name, module in model.named_children():
            maps = module(maps)
            if name.startswith(("conv", "relu", "dense1", "dense2")):
                places.append(normalize(maps.double().square().flatten(2).sum(2) if maps.ndim > 2 else maps.square()))
    responses_NR = torch.cat(places, 1)
    assert responses_NR.shape[1] == len(filters.filter_R) == 2 * (18 + 256)
    assert torch.allclose(problem.gram_FF, responses_NR.T @ responses_NR, rtol=1e-4, atol=1e-9)


def test_labels_are_the_network_s_predictions_or_permuted(model: nn.Module, split: Split) -> None:
    with torch.no_grad():
        predicted_N = model(split.images_NCHW).argmax(1)
    true = collect(filters_of(model), split)
    by_hand = collect(filters_of(model), Split(split.images_NCHW, predicted_N))
    assert not torch.equal(predicted_N, split.labels_N)
    predicted = collect(filters_of(model), split, Measure(labels="predicted"))
    assert torch.equal(predicted.cross_FC, by_hand.cross_FC)
    permuted, other = (collect(filters_of(model), split, Measure(labels="permuted", seed=seed)) for seed in (0, 1))
    assert torch.equal(permuted.label_sq_C, true.label_sq_C), "as many images of each class"
    assert torch.allclose(permuted.cross_FC.sum(1), true.cross_FC.sum(1))
    assert not torch.allclose(permuted.cross_FC, true.cross_FC)
    assert not torch.allclose(permuted.cross_FC, other.cross_FC)
    assert torch.equal(
        permuted.cross_FC, collect(filters_of(model), split, Measure(labels="permuted", seed=0)).cross_FC
    )


def record_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def saved_network(tmp_path: Path, record: dict) -> tuple[nn.Module, data.Dataset]:
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    dataset = data.load("digits")
    model = build(record["config"]["model"], dataset.image_shape, CLASSES, seed=0).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["tensors"])
    return model, dataset


def relevant_of(folder: Path) -> list[int]:
    with np.load(folder / "selection.npz", allow_pickle=False) as saved:
        return np.flatnonzero(saved["weights"].any(1)).tolist()


def set_channels(_: nn.Module, __: object, maps: torch.Tensor, values: dict[int, torch.Tensor]) -> None:
    for channel, value in values.items():
        maps[:, channel] = value


@pytest.mark.parametrize(
    "options",
    [
        ["protocol=keras_report"],
        ["protocol.value=mean"],
        ["protocol.evaluated_on=train"],
        ["protocol.labels=predicted", "protocol.norm=spectral"],
    ],
    ids=lambda options: options[0],
)
def test_a_record_is_of_its_protocol(run_script, tmp_path: Path, options: list[str]) -> None:
    """The accuracy without the relevant filters again, from the stored network, by the definition of each axis."""
    code, out, err = run_script("interpret", "mu=3", "model.filters=8", "trainer.max_epochs=8", *options)
    assert code == 0, err
    record, relevant = record_of(tmp_path / "out"), relevant_of(tmp_path / "out")
    model, dataset = saved_network(tmp_path, record)
    protocol = record["protocol"]
    images = dataset.train if protocol["evaluated_on"] == "train" else dataset.test
    left = copy.deepcopy(model)
    if protocol["scope"] == "first_input_channel":
        for f in relevant:
            layer = left.get_submodule(f"conv{f // 8 + 1}")
            layer.weight.data[f % 8, 0], layer.bias.data[f % 8] = 0, 0
    elif protocol["value"] == "mean":
        maps = dataset.train.images_NCHW
        for name, module in model.named_children():
            with torch.no_grad():
                maps = module(maps)
            if name.startswith("relu"):
                first = 8 * (int(name.removeprefix("relu")) - 1)
                means = {f - first: maps[:, f - first].mean() for f in relevant if first <= f < first + 8}
                left.get_submodule(name).register_forward_hook(partial(set_channels, values=means))
    else:
        left = without(model, relevant)
    assert record["accuracy"]["intact"] == accuracy(model, images)
    assert record["accuracy"]["selected"] == accuracy(left, images)
    assert record["accuracy"]["selected"] != record["accuracy"]["intact"]
    assert protocol["name"] == name_of(options)
    assert f"{protocol['name']}, mu=3" in out
    assert f"{protocol['evaluated_on']} accuracy" in out


def name_of(options: list[str]) -> str:
    preset = next((option.split("=")[1] for option in options if option.startswith("protocol=")), "described")
    return ", ".join([preset, *sorted(o.removeprefix("protocol.") for o in options if o.startswith("protocol."))])


def test_a_protocol_s_name_is_what_it_is(run_script, tmp_path: Path) -> None:
    for options, name in (
        (["++protocol.control=live", "protocol.labels=TRUE"], "described, control=live"),
        (["protocol.control=layer", "protocol.sites=conv+dense"], "described"),
        (["protocol=authors", "mu=1", "protocol.dense=false"], "authors, dense=false"),
    ):
        code, _, err = run_script("interpret", *options)
        assert code == 0, err
        assert record_of(tmp_path / "out")["protocol"]["name"] == name


def test_the_same_weights_in_other_code_are_another_network(run_script, tmp_path: Path, monkeypatch) -> None:
    """Nothing of the store is used for it, whether its weights are given or trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for pooled in ("max", "avg"):
        (tmp_path / "theirs.py").write_text(NET.format(pooled=pooled))
        sys.modules.pop("theirs", None)
        importlib.invalidate_caches()
        code, _, err = run_script("interpret", "model=own", "model._target_=theirs.Net")
        assert code == 0, err
        found.append(record_of(tmp_path / "out"))
    assert [record["made"]["network"] for record in found] == [True, True]
    (tmp_path / "theirs.pt").write_bytes(next((tmp_path / "store" / "networks").glob("*.pt")).read_bytes())
    for pooled, key in (("max", "responses"), ("avg", "responses")):
        (tmp_path / "theirs.py").write_text(NET.format(pooled=pooled) + "\n# edited\n")
        sys.modules.pop("theirs", None)
        importlib.invalidate_caches()
        code, _, err = run_script("interpret", "model=own", "model._target_=theirs.Net", "model.checkpoint=theirs.pt")
        assert code == 0, err
        found.append(record_of(tmp_path / "out"))
        assert key in found[-1]["made"]
    assert found[2]["store"]["weights"] != found[3]["store"]["weights"]


NET = """
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(36, 10)

    def forward(self, images):
        return self.head(functional.{pooled}_pool2d(functional.relu(self.conv(images)), 2).flatten(1))
"""


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["+model.layers=[dense1]"], "protocol.dense=false"),
        (["model=own", "model._target_=test_protocols.Normed", "protocol=keras_report"], "needs plain weights"),
        (["model=own", "model._target_=test_protocols.Strict"], "does not take images of 1x8x8: only 28x28"),
    ],
)
def test_what_cannot_be_interpreted_is_refused_before_it_is_trained(
    run_script, tmp_path: Path, options: list[str], culprit: str
) -> None:
    code, out, err = run_script("interpret", *options)
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert culprit in err
    assert "training" not in out
    assert not list(tmp_path.rglob("*.pt"))


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(weight_norm(nn.Conv2d(1, 2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


class Strict(Normed):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 28, "only 28x28"
        return super().forward(images)


def test_conv_leaves_maps_of_single_values_alone(run_script, tmp_path: Path) -> None:
    options = ["protocol.dense=true", "model.filters=5", "mu=2"]
    code, _, err = run_script("interpret", *options, "protocol.sites=conv", "protocol.control=global")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["filters"]["total"] == 10 + 256
    assert record["filters"]["relevant"] > record["filters"]["ablated"] > 0
    assert set(record["filters"]["per_layer"]) == {"conv1", "conv2", "dense1", "dense2"}
    assert record["filters"]["per_layer"]["dense1"] == record["filters"]["per_layer"]["dense2"] == 0
    assert record["accuracy"]["selected"] == accuracy_without_convolutions(tmp_path, record)


def accuracy_without_convolutions(tmp_path: Path, record: dict) -> float:
    model, dataset = saved_network(tmp_path, record)
    chosen = [f for f in relevant_of(tmp_path / "out") if f < 10]
    return accuracy(without(model, chosen), dataset.test)


def test_a_network_of_one_s_own(run_script, tmp_path: Path) -> None:
    """Stride, normalisation and skip connections; trained elsewhere, or here; all layers, or some."""
    torch.manual_seed(0)
    theirs = SmallResNet().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    checkpoint = tmp_path / "theirs.ckpt"
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}}, checkpoint)
    own = ["model=own", "model._target_=test_finding.SmallResNet", "protocol.evaluated_on=train"]
    code, _, err = run_script("interpret", *own, f"model.checkpoint={checkpoint}", "mu=2")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["made"]["network"] is False
    assert not (tmp_path / "store" / "networks").exists(), "nothing was trained"
    assert record["filters"]["total"] == 4 + 3 * 6 + 3 * 6
    train = data.load("digits").train
    assert record["accuracy"]["intact"] == accuracy(theirs, train)
    filters = Filters.of(theirs, train.images_NCHW[:1])
    assert len(filters.index.layer_F) == 40
    with ablated(filters, np.array(relevant_of(tmp_path / "out"))):
        assert record["accuracy"]["selected"] == accuracy(theirs, train)

    layers = "model.layers=[stem.0,blocks.1.conv1]"
    code, _, err = run_script("interpret", *own, layers, "mu=2", "randomize=from:blocks.1.conv2")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["made"]["network"] is True
    assert list(record["filters"]["per_layer"]) == ["stem.0", "blocks.1.conv1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"weight": torch.zeros(1)}, "is of another architecture"),
        ([1, 2], "holds no state dict"),
        ({"state_dict": {"a": "b"}}, "holds no state dict"),
        (None, "cannot be read as weights"),
        (print, "cannot be read as weights"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(run_script, tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no zip") if content is None else torch.save(content, path)
    code, _, err = run_script("interpret", f"+model.checkpoint={path}")
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert f"model.checkpoint={path} {reason}" in err


def test_images_that_do_not_fit_are_one_line(run_script) -> None:
    code, _, err = run_script("interpret", "model=own", "model._target_=torch.nn.Identity")
    assert code == 1
    assert "model=own must make logits (N, 10) of images of 1x8x8, not (1, 1, 8, 8)" in err
