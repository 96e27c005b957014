"""What tests remember of Hydra's composing is what Hydra composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import composing
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from omegaconf import OmegaConf
from running import ROOT

GIVEN: list[list[str]] = [
    [],
    ["data=digits"],
    ["data=mnist", "data.root=x"],
    ["mu=7", "seed=2"],
    ["data=digits", "protocol=authors", "model=matconvnet", "+trainer.devices=1", "hydra.job.name=x"],
    ["data=digits", "mu=3", "protocol=authors", "model=matconvnet", "protocol.draws=2", "model={name:x}"],
    ["data=digits", "hydra/help=train", "visualize=off", "~tracking"],
]


def composed(folder: Path, name: str, given: list[str]) -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        options = compose(name, given, return_hydra_config=True)
    return OmegaConf.to_container(options, resolve=False)


@pytest.mark.parametrize("name", ["config", "tipping_point"])
def test_it_is_what_hydra_composes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of each command line, the first time and again, whichever went before it."""
    with composing.remembered(ROOT / "conf"):
        twice = [composed(ROOT / "conf", name, given) for given in GIVEN * 2]
    monkeypatch.setattr(ConfigRepository, "load_config", composing.load)
    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", composing.merge)
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", composing.find)
    assert twice == [composed(ROOT / "conf", name, given) for given in GIVEN] * 2


def test_files_of_a_test_s_own_are_read_each_time(tmp_path: Path) -> None:
    for value in (1, 2):
        (tmp_path / "one.yaml").write_text(f"value: {value}\n")
        assert composed(tmp_path, "one", [])["value"] == value
        preset = tmp_path / "protocol" / "mine.yaml"
        preset.parent.mkdir(exist_ok=True)
        preset.write_text(f"defaults: [described]\ndraws: {value}\n")
        given = ["protocol=mine", f"hydra.searchpath=[file://{tmp_path}]"]
        assert composed(ROOT / "conf", "config", given)["protocol"]["draws"] == value
