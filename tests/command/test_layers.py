"""What `tipping layers` says of a network, beside what a job does to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from tipping.command import layers

ODD = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(3)
        self.up = nn.ConvTranspose2d(6, 5, 2)
        self.second = nn.Conv2d(5, 7, (1, 2))
        self.unused = nn.Conv2d(1, 2, 3)
        self.deep = nn.Conv3d(1, 1, (1, 3, 1), padding="same")
        self.dense = nn.Linear(14, 8)
        self.last = nn.Linear(8, 10)

    def forward(self, images):
        maps = self.second(self.up(self.pool(self.act(self.norm(self.first(images))))))
        maps = self.deep(maps[:, None])[:, 0]
        return self.last(self.dense(maps.flatten(1)).relu())
"""


@pytest.fixture(autouse=True)
def _no_hydra() -> None:
    GlobalHydra.instance().clear()


def said(capfd: pytest.CaptureFixture[str], *options: str) -> tuple[list[list[str]], dict[str, str]]:
    """The rows of the table without its heads, and what is left out and why."""
    assert layers.main([*options, "data=digits"]) == 0, capfd.readouterr().err
    _, _, _, heads, *lines = capfd.readouterr().out.split("\n")
    end = lines.index("")
    assert heads.split()[-3:] == ["ablated", "at", "why"]
    words = [[word.strip() for word in line.split("  ") if word.strip()] for line in lines]
    reasons = [line.split(": ", 1) for line in lines[end + 2 : -1]]
    return words[:end], {name: why for why, names in reasons for name in names.split(", ")}


@pytest.mark.parametrize(
    "options", [[], ["protocol=keras_report"], ["protocol=authors"], ["model.layers=[conv2]", "protocol.maps=all"]]
)
def test_it_is_what_a_job_measures_and_ablates(run_script, capfd, tmp_path: Path, options: list[str]) -> None:
    if any(option.startswith("model.layers") for option in options):
        options = ["model=own", "model._target_=tipping.models.KerasCNN", *options]
        options += ["+model.filters=4", "+model.depth=2", "+model.dropout=0"]
    else:
        options = ["model.filters=4", "model.depth=2", *options]
    rows, _ = said(capfd, *options)
    GlobalHydra.instance().clear()
    code, _, err = run_script("interpret", *options)
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row[0] for row in rows] == list(record["filters"]["per_layer"])
    assert sum(int(row[2]) for row in rows) == record["filters"]["total"]
    weights = np.load(tmp_path / "out" / "selection.npz")
    places = dict.fromkeys(zip(weights["layer"].tolist(), weights["maps"].tolist(), strict=True))
    assert [(row[0], module) for row in rows for module in row[4].split(", ")] == list(places)


def test_it_says_what_is_left_out_and_why(capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ["model=own", "model._target_=odd.Net"]
    rows, left_out = said(capfd, *own)
    first = ["first", "convolution 3x3", "6", "3x3", "act", "act", "after BatchNorm2d and ReLU"]
    second = ["second", "convolution 1x2", "7", "2x1", "second", "second", "its own output, before unsqueeze"]
    up = ["up", "transposed convolution 2x2", "5", "2x2", "up", "up", "its own output: no activation follows"]
    assert rows == [first, up, second]
    elsewhere = {
        "deep": "filters are looked for in nn.Conv2d, nn.ConvTranspose2d and nn.Linear only",
        "unused": "no image passes it",
        "last": "it gives the classes",
    }
    assert left_out == {**elsewhere, "dense": "protocol.dense=true counts its units"}
    rows, left_out = said(capfd, *own, "protocol.dense=true", "protocol.sites=conv", "model.layers=[sec*,dense]")
    spares = "protocol.sites=conv spares filters whose maps are single values"
    assert rows == [second, ["dense", "dense", "8", "1", "relu_call1", "nowhere", spares]]
    unnamed = "model.layers does not name it"
    assert left_out == {**elsewhere, "first": unnamed, "up": unnamed}
    rows, _ = said(capfd, *own, "protocol.scope=first_input_channel")
    assert rows[0][-3:-1] == ["act", "first, first input channel"]
    sys.modules.pop("odd")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nosuch=1", "nosuch: no such option"),
        ("mu=-1", "mu=-1.0: give a finite number over 0"),
        ("model=own", "model._target_: has no value; give one"),
        ("model=matconvnet", "model=matconvnet needs 28x28 images, these are 8x8: use model=keras_cnn"),
        ("--config-dir=nosuch", "--config-dir=nosuch: no such folder; give that of your presets"),
    ],
)
def test_a_mistake_is_one_line(capfd, line: str, said: str) -> None:
    assert layers.main([line, "data=digits"]) == 1
    (err,) = capfd.readouterr().err.splitlines()
    assert err.startswith(said)
