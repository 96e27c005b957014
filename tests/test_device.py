"""The commands on a device that is not the CPU: pytest --device card, or cuda. All tensors are where it wants them, and
what comes of it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from running import printed

from tipping import data
from tipping.experiment import interpret, network, train

SMALL = ["data=digits", "trainer.max_epochs=2", "model.filters=6", "model.depth=3", "mu=5", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "tracking=off", "visualize.filters_per_class=1", "visualize.images=2"]
PLANTED = ["data=planted", "model=planted"]
OF_THE_NETWORK = ("data", "model.", "trainer.")


@pytest.fixture
def elsewhere(device: torch.device) -> torch.device:
    if device.type == "cpu":
        pytest.skip("give --device card or cuda")
    return device


def use(device: torch.device, patch: pytest.MonkeyPatch, *others: ModuleType) -> None:
    """Let the commands run on a device."""
    for module in (network, interpret, train, *others):
        patch.setattr(module, "pick_device", lambda _: device)


def made(folder: Path) -> dict[str, Any]:
    """What a job's record and files say of the network, without when and where it ran."""
    record = json.loads((folder / "result.json").read_text())
    found = {key: record.get(key) for key in ("accuracy", "filters", "overlap", "curve", "signals_alike")}
    for name in ("selection", "predictions"):
        if (folder / f"{name}.npz").is_file():
            with np.load(folder / f"{name}.npz") as held:
                found |= {key: held[key].tolist() for key in held if key != "weights"}
    drawn = {name: (folder / "pictures" / f"{name}.png").read_bytes() for name in record["pictures"]}
    return found | {"pictures": {name: hashlib.sha256(content).hexdigest() for name, content in drawn.items()}}


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["protocol=keras_report", "selection=homotopy"],
        ["protocol=authors", "protocol.value=mean", "visualize=off"],
        ["protocol=matconvnet_report", "visualize=off"],
        ["protocol.control=norm", "protocol.labels=predicted", "protocol.norm=spectral", "visualize=off"],
        ["randomize=from:conv3"],
        ["protocol.labels=permuted", "ablate=class", "by_class.images=60", "visualize=off"],
        PLANTED,
    ],
    ids=lambda options: " ".join(options) or "described",
)
def test_interpreting_there_gives_what_it_gives_here(
    options: list[str], tmp_path: Path, elsewhere: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a network that was trained here."""
    small = [option for option in SMALL if options != PLANTED or not option.startswith(OF_THE_NETWORK)]
    given = [*small, *options, "device=cpu", f"store.dir={tmp_path / 'store'}"]
    printed("interpret.py", *given, f"hydra.run.dir={tmp_path / 'here'}")
    for kind in ("responses", "predictions", "means", "strongest"):
        for path in (tmp_path / "store").glob(f"{kind}/*"):
            path.unlink()
    use(elsewhere, monkeypatch)
    printed("interpret.py", *given, f"hydra.run.dir={tmp_path / 'there'}")
    here, there = made(tmp_path / "here"), made(tmp_path / "there")
    assert here["pictures"] or "visualize=off" in options
    if elsewhere.type == "card":  # whose arithmetic is the CPU's
        assert there == here
    assert there["accuracy"]["intact"] == pytest.approx(here["accuracy"]["intact"], abs=0.01)
    assert there["accuracy"]["selected"] == pytest.approx(here["accuracy"]["selected"], abs=0.05)
    assert len({*here["order"]} & {*there["order"]}) >= 0.9 * len(here["order"])


def test_trainings_and_searches_run_there(
    tmp_path: Path, elsewhere: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="a borrowed machine has none")
    from tipping.experiment import tipping_point

    use(elsewhere, monkeypatch, tipping_point)
    given = [*SMALL, f"store.dir={tmp_path / 'store'}"]
    every = ["curve.every_n_epochs=1", "visualize.every_n_epochs=2"]
    printed("train.py", *given, *every, f"hydra.run.dir={tmp_path / 'trained'}")
    record = json.loads((tmp_path / "trained" / "result.json").read_text())
    assert list(record["curves"]) == ["1", "2"]
    assert (tmp_path / "trained" / "pictures" / "epoch_2").is_dir()
    options = [option for option in given if not option.startswith(("mu=", "visualize"))]
    sizes = ["search.low=0.5", "search.high=50", "search.grid=3", "search.trials=4"]
    printed("sweeps/tipping_point.py", *options, *sizes, f"hydra.sweep.dir={tmp_path / 'search'}")
    assert (tmp_path / "search" / "tipping_points.csv").is_file()


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: torch.nn.Linear(2, 3)(there),
        lambda there, here: there.index_put_((here > 0,), here[here > 0]),
        lambda there, here: torch.stack([there.sum(), here.sum()]),
        lambda there, here: there.index_select(0, here.sum().long()),
        lambda there, here: there.uniform_(generator=torch.Generator()),
        lambda there, here: torch.rand(2, device=there.device, generator=torch.Generator()),
    ],
)
def test_what_is_on_both_is_refused(mix: Callable[..., object], elsewhere: torch.device) -> None:
    here = torch.tensor([[0.0, 1.0]])
    with pytest.raises(RuntimeError, match=r"on the card beside|same device|device type|device"):
        mix(here.to(elsewhere), here)


def test_numbers_and_positions_of_the_cpu_may_be_used_there(elsewhere: torch.device) -> None:
    there = torch.arange(4.0, device=elsewhere)
    found = there[torch.tensor([1, 3])] * torch.tensor(2.0)
    assert (found.device, found.tolist()) == (elsewhere, [2, 6])
    there[there > 2] = torch.tensor(5.0)
    assert there.tolist() == [0, 1, 2, 5]


def test_the_jobs_of_a_sweep_share_the_images_there(elsewhere: torch.device) -> None:
    there = data.load("digits", device=elsewhere)
    assert there.train.images_NCHW.device == elsewhere
    assert data.load("digits", device=elsewhere).train.fingerprint is there.train.fingerprint
    here = data.load("digits").train
    assert here.images_NCHW.device.type == "cpu"
    assert here.fingerprint == there.train.fingerprint
