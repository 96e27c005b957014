"""Checkpoints as people have them: under any key and prefix, of compiled and distributed networks, as safetensors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network import load_checkpoint

State = dict[str, Tensor]


class Net(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.head = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images).mean((2, 3)))


class Lit(pl.LightningModule):
    """Holds the network under a name of its own, and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(4))


def network(seed: int, classes: int = 4) -> Net:
    torch.manual_seed(seed)
    model = Net(classes)
    nn.init.uniform_(model.stem[1].running_mean)
    return model


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def compiled_within(state: State) -> State:
    model = network(0)
    model.load_state_dict(state)
    model.stem = torch.compile(model.stem, backend="eager")  # type: ignore[assignment]
    return nn.DataParallel(torch.compile(model, backend="eager")).state_dict()  # type: ignore[arg-type]


def of_lightning(state: State) -> dict[str, Any]:
    lit = Lit()
    lit.backbone.load_state_dict(state)
    return {"state_dict": lit.state_dict(), "epoch": 3, "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}}]}


def averaged(state: State) -> State:
    model = network(0)
    model.load_state_dict(state)
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


OTHER = network(9).state_dict()
WAYS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    **{
        key: lambda state, key=key: {key: state, "epoch": 3, "best": 0.5}
        for key in ("model", "model_state_dict", "state_dict", "net", "weights", "tensors", "ema")
    },
    "deep": lambda state: {"checkpoint": {"trainer": {"model": under("encoder.q.", state)}}},
    "distributed": lambda state: {"state_dict": under("module.", state)},
    "compiled": compiled_within,
    "lightning": of_lightning,
    "averaged alone": averaged,
    "averaged too": lambda state: {"model": state, "model_ema": {"module." + name: t for name, t in OTHER.items()}},
    "averaged in one": lambda state: {**under("net.", state), **under("ema_net.", OTHER)},
    "twice the same": lambda state: {**under("model.", state), **under("criterion.model.", state)},
    "of old": lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
    "half": lambda state: {name: t.half() if t.is_floating_point() else t for name, t in state.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_found_wherever_they_are(tmp_path: Path, way: str) -> None:
    theirs, model, path = network(1).eval(), network(2), tmp_path / "weights.ckpt"
    if way == "half":
        theirs.half().float()
    torch.save(WAYS[way](theirs.state_dict()), path)
    load_checkpoint(model, str(path))
    images = torch.rand(2, 1, 5, 5)
    assert torch.equal(model.eval()(images), theirs(images))


def test_a_network_that_compiles_a_part_of_itself_takes_plain_weights(tmp_path: Path) -> None:
    theirs, model, path = network(1), network(2), tmp_path / "weights.pt"
    torch.save(theirs.state_dict(), path)
    model.stem = torch.compile(model.stem, backend="eager")  # type: ignore[assignment]
    load_checkpoint(model, str(path))
    pairs = zip(model.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pytest.importorskip("safetensors.torch")
    theirs, model, path = network(1), network(2), tmp_path / "model.safetensors"
    files.save_file(under("model.", theirs.state_dict()), path)
    load_checkpoint(model, str(path))
    assert torch.equal(model.stem[0].weight, theirs.stem[0].weight)
    path.write_bytes(b"none")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read as weights: save weights alone"):
        load_checkpoint(model, str(path))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r"needs the package safetensors: pip install 'tipping\[safetensors\]'$"):
        load_checkpoint(model, str(path))


def test_what_is_not_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for way, says in (
        ("averaged too", "are model; not read: model_ema.module"),
        ("lightning", "not read: loss.weight"),
    ):
        torch.save(WAYS[way](network(1).state_dict()), tmp_path / "weights.pt")
        load_checkpoint(network(2), str(tmp_path / "weights.pt"))
        assert says in caplog.messages[-1]


def changed(**entries: Tensor | None) -> State:
    state = {**network(1).state_dict(), **entries}
    return {name.replace("__", "."): tensor for name, tensor in state.items() if tensor is not None}


LISTS = {
    "missing": (
        changed(**{"head.bias": None, "stem.0.weight": None}),
        r"2 missing in the file \(stem\.0\.weight, head",
    ),
    "unexpected": (
        changed(**{"head.scale": torch.ones(4)}),
        r"architecture: 1 unexpected \(head\.scale\); give the net",
    ),
    "shapes": (
        network(1, classes=7).state_dict(),
        r"2 of another shape \(head\.bias: 7 in the file, 4 in the network, head\.weight: 7x3 in the file, 4x3 in",
    ),
    "both lists": (
        {"model": under("module.", changed(**{"head.bias": None, "head.scale": torch.ones(4)}))},
        r"1 missing in the file \(head\.bias\), 1 unexpected \(head\.scale\)",
    ),
    "many": ({f"layer{i}.w": torch.ones(1) for i in range(9)}, r"8 missing .*, …\), 9 unexpected \(layer0.*, …\)"),
}


@pytest.mark.parametrize("case", LISTS)
def test_weights_that_do_not_fit_are_one_line_with_both_lists(tmp_path: Path, case: str) -> None:
    content, says = LISTS[case]
    torch.save(content, tmp_path / "weights.pt")
    model = network(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=says) as error:
        load_checkpoint(model, str(tmp_path / "weights.pt"))
    assert "\n" not in str(error.value)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)  # nothing was loaded


def test_several_weights_that_fit_are_named(tmp_path: Path) -> None:
    state = {**under("student.", network(1).state_dict()), **under("teacher.", OTHER)}
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"several weights that fit \(state_dict\.student, state_dict\.teacher\)"):
        load_checkpoint(network(2), str(tmp_path / "weights.pt"))


def test_a_pickled_network_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(network(1), tmp_path / "whole.pt")
    with pytest.raises(
        InputError, match=r"it holds \S*Net, which could run code as it is read; save weights alone, by"
    ):
        load_checkpoint(network(2), str(tmp_path / "whole.pt"))
