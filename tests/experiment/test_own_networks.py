"""Networks of one's own: their code and weights, and what cannot be interpreted."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import accuracy
from running import record_of, relevant_of
from torch import nn
from toys import Excited, SmallResNet

from tipping import data
from tipping.ablation import ablated
from tipping.network import Filters


def test_the_same_weights_in_other_code_are_another_network(run_script, tmp_path: Path, monkeypatch) -> None:
    """Nothing of the store is used for it, whether its weights are given or trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for pooled in ("max", "avg"):
        (tmp_path / "theirs.py").write_text(NET.format(pooled=pooled))
        sys.modules.pop("theirs", None)
        importlib.invalidate_caches()
        code, _, err = run_script("interpret", "model=own", "model._target_=theirs.Net", "replace=true")
        assert code == 0, err
        found.append(record_of(tmp_path / "out"))
    assert [record["made"]["network"] for record in found] == [True, True]
    (tmp_path / "theirs.pt").write_bytes(next((tmp_path / "store" / "networks").glob("*.pt")).read_bytes())
    for pooled, key in (("max", "responses"), ("avg", "responses")):
        (tmp_path / "theirs.py").write_text(NET.format(pooled=pooled) + "\n# edited\n")
        sys.modules.pop("theirs", None)
        importlib.invalidate_caches()
        theirs = ("model=own", "model._target_=theirs.Net", "model.checkpoint=theirs.pt", "replace=true")
        code, _, err = run_script("interpret", *theirs)
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


def test_code_that_a_class_imports_decides_its_network(run_script, tmp_path: Path, monkeypatch) -> None:
    """Neither the store's networks nor finished jobs are taken for those of other code."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "of_blocks.py").write_text(OF_BLOCKS)
    done = []
    for activation in ("ReLU", "ReLU", "Tanh"):
        (tmp_path / "its_blocks.py").write_text(f"from torch import nn\nACT = nn.{activation}\n")
        for name in ("of_blocks", "its_blocks"):
            sys.modules.pop(name, None)  # as in another process
        importlib.invalidate_caches()
        code, out, err = run_script("interpret", "model=own", "model._target_=of_blocks.Net", "mu=1", "replace=true")
        assert code == 0, err
        done.append("done before" in out)
    assert done == [False, True, False]
    assert record_of(tmp_path / "out")["made"]["network"]
    assert len(list((tmp_path / "store" / "networks").glob("*.pt"))) == 2


OF_BLOCKS = """
from torch import nn
from its_blocks import ACT


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), ACT(), nn.Flatten(), nn.Linear(144, 10))
"""


def test_a_network_that_a_function_makes(run_script, tmp_path: Path) -> None:
    """It gives a dictionary, has a gate, and looks at its images: trained here, then with its weights given."""
    own = ["model=own", "model._target_=toys.make_excited", "+model.width=5", "mu=2", "model.layers=[conv*]"]
    code, _, err = run_script("interpret", *own, "visualize=gallery", "visualize.images=2")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["filters"]["per_layer"].keys() == {"conv1", "conv2"}
    assert record["filters"]["total"] == 5 + 6
    (weights,) = (tmp_path / "store" / "networks").glob("*.pt")
    theirs = Excited(1, 10, 5).eval()
    theirs.load_state_dict(torch.load(weights)["tensors"])

    class Plain(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return theirs(images)["logits"]

    assert record["accuracy"]["intact"] == accuracy(Plain(), data.load("digits").test)
    torch.save({"net": {f"module.{name}": one for name, one in theirs.state_dict().items()}}, tmp_path / "theirs.pt")
    code, _, err = run_script("interpret", *own, f"model.checkpoint={tmp_path / 'theirs.pt'}", "replace=true")
    assert code == 0, err
    assert record_of(tmp_path / "out")["accuracy"] == record["accuracy"]
    assert record_of(tmp_path / "out")["made"]["network"] is False


@pytest.mark.parametrize("kind", ["WeightNormed", "Pruned"])
def test_a_network_whose_weights_are_made_of_others_is_checked_for_sanity(
    run_script, tmp_path: Path, kind: str
) -> None:
    code, _, err = run_script("interpret", "model=own", f"model._target_=toys.{kind}", "randomize=from:2")
    assert code == 0, err
    assert record_of(tmp_path / "out")["overlap"] is not None


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["+model.layers=[dense1]"], "protocol.dense=false"),
        (["model=own", "model._target_=toys.Normed", "protocol=keras_report"], "needs plain weights"),
        (["model=own", "model._target_=toys.Strict"], "does not take images of 1x8x8: only 28x28"),
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


def test_a_network_of_one_s_own(run_script, tmp_path: Path) -> None:
    """Stride, normalisation and skip connections; trained elsewhere, or here; all layers, or some."""
    torch.manual_seed(0)
    theirs = SmallResNet().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    checkpoint = tmp_path / "theirs.ckpt"
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}}, checkpoint)
    own = ["model=own", "model._target_=toys.SmallResNet", "protocol.evaluated_on=train"]
    code, _, err = run_script("interpret", *own, f"model.checkpoint={checkpoint}", "mu=2")
    assert code == 0, err
    record = record_of(tmp_path / "out")
    assert record["made"]["network"] is False
    assert not (tmp_path / "store" / "networks").exists(), "nothing was trained"
    assert record["filters"]["total"] == 4 + 3 * 6 + 3 * 6
    train = data.load("digits").train
    assert record["accuracy"]["intact"] == accuracy(theirs, train)
    filters = Filters.of(theirs, train[:1].images_NCHW)
    assert len(filters.index.layer_F) == 40
    with ablated(filters, np.array(relevant_of(tmp_path / "out"))):
        assert record["accuracy"]["selected"] == accuracy(theirs, train)

    layers = "model.layers=[stem.0,blocks.1.conv1]"
    code, _, err = run_script("interpret", *own, layers, "mu=2", "randomize=from:blocks.1.conv2", "replace=true")
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
