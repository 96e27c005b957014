"""W&B's sweep files give the command lines of ordinary jobs, as its agent renders them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from running import ROOT

from tipping.experiment.config import parse

FILES = sorted((ROOT / "sweeps").glob("wandb_*.yaml"))


def command_lines(path: Path) -> list[list[str]]:
    """Of each job of a grid; of the ends of the ranges, where the values are W&B's to choose."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # takes seconds to load

    sweep = yaml.safe_load(path.read_text())
    choices: dict[str, list[Any]] = {
        name: [given["value"]] if "value" in given else given.get("values", [given.get("min"), given.get("max")])
        for name, given in sweep["parameters"].items()
    }
    lines = []
    for chosen in itertools.product(*choices.values()):
        args = {name: {"value": value} for name, value in zip(choices, chosen, strict=True)}
        rendered = create_sweep_command_args({"args": args})
        line = create_sweep_command(sweep["command"])
        values = {"${interpreter}": ["python"], "${program}": [sweep["program"]]}
        values |= {"${args_no_hyphens}": rendered["args_no_hyphens"]}
        lines.append([word for part in line for word in values.get(part, [part])])
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_file_renders_to_command_lines_of_jobs(path: Path) -> None:
    lines = command_lines(path)
    assert len(lines) == len({tuple(line) for line in lines})
    for line in lines:
        assert line[:2] == ["python", "interpret.py"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            options = parse(compose("config", line[2:]))
        assert f"mu={options.mu:g}" in line
        assert f"seed={options.seed}" in line


def test_the_grid_is_mu_by_architecture_by_seed() -> None:
    lines = command_lines(ROOT / "sweeps" / "wandb_grid.yaml")
    assert [
        "python",
        "interpret.py",
        "mu=10",
        "model.filters=8",
        "model.dropout=0.5",
        "seed=0",
        "trainer.max_epochs=5",
    ] in lines
    assert len(lines) == 6 * 3 * 2 * 3


def test_the_bayesian_sweep_minimises_a_metric_that_jobs_log() -> None:
    metric = yaml.safe_load((ROOT / "sweeps" / "wandb_bayes.yaml").read_text())["metric"]
    assert metric == {"name": "tipping/distance", "goal": "minimize"}
    assert f'"{metric["name"]}"' in (ROOT / "src" / "tipping" / "tracking" / "run.py").read_text()
