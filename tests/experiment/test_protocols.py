"""The presets of protocols, and records by the definition of each axis."""

from __future__ import annotations

import copy
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from oracles import accuracy, without
from running import ROOT, record_of, relevant_of
from torch import nn

from tipping import data
from tipping.experiment import config
from tipping.network import build


def axes(*overrides: str) -> dict:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = config.parse(compose("config", overrides=list(overrides)))
    set_too = {"mu": composed.mu, "selection.positive": composed.selection.positive}
    return {**set_too, **{k: v for k, v in asdict(composed.protocol).items() if k != "name"}}


DESCRIBED = {
    "mu": 100,
    "selection.positive": False,
    "norm": "frobenius",
    "scale": "layer",
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
    "vebi_pytorch": {"mu": 0.001, "selection.positive": True, "norm": "squared", "labels": "predicted"},
    "meynen2023": {"mu": 10, "selection.positive": True, "scale": "raw", "maps": "all"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_axes(name: str) -> None:
    assert axes(f"protocol={name}") == {**DESCRIBED, **PRESETS[name]}
    settings = [
        f"{axis if axis in ('mu', 'selection.positive') else f'protocol.{axis}'}={value}"
        for axis, value in PRESETS[name].items()
    ]
    assert axes(*settings) == axes(f"protocol={name}")
    assert {path.stem for path in (ROOT / "conf" / "protocol").iterdir()} == set(PRESETS)


def test_what_is_given_wins_over_a_preset() -> None:
    assert axes("protocol=authors", "mu=7")["mu"] == 7
    assert axes("protocol=meynen2023", "selection.positive=false")["selection.positive"] is False
    assert axes("protocol=meynen2023", "selection=homotopy")["selection.positive"] is True, "whichever the solver"


def saved_network(tmp_path: Path, record: dict) -> tuple[nn.Module, data.Dataset]:
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    dataset = data.load("digits")
    model = build(record["config"]["model"], dataset.image_shape, len(dataset.classes), seed=0).eval()
    model.load_state_dict(torch.load(path, weights_only=True)["tensors"])
    return model, dataset


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
        code, _, err = run_script("interpret", *options, "replace=true")
        assert code == 0, err
        assert record_of(tmp_path / "out")["protocol"]["name"] == name


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
