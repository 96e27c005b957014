"""What a report tries next."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tipping.report import origin
from tipping.results.sweep import Job, Network

TRAINED = "interpret.py -m mu=10,100,500,700 model.filters=4 seed=0,1 curve.points=4"


@pytest.mark.parametrize(
    ("script", "options", "next_one"),
    [
        ("train", "model.filters=4 seed=0,1 mu=3 curve.every_n_epochs=1 curve.points=4", TRAINED),
        ("interpret", "mu=1,2 seed=0,1 randomize=none,all", "sweeps/tipping_point.py seed=0,1"),
        ("tipping_point", "seed=0,1 model.dropout=0,0.5", "-m tipping map {folder} --compare model.dropout"),
        ("tipping_point", "seed=0,1 search.low=1", "interpret.py -m mu=2.0,30.0 seed=0,1"),
        ("fewest_filters", "search.trials=3", "sweeps/tipping_point.py model.filters=4 seed=0,1,2"),
        ("planted", "mu=1,2", None),
    ],
)
def test_there_is_something_to_try_next(tmp_path: Path, script: str, options: str, next_one: str | None) -> None:
    hydra = {"job": {"name": script}, "mode": "MULTIRUN", "overrides": {"task": options.split(), "hydra": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    crossings = [{"low": 2.0, "high": 3.0}, {"low": 20.0, "high": 30.0}]
    dropouts = ["0.5", "0.0"] if "dropout" in options else ["0.5", "0.5"]
    record = {"protocol": {"name": "described", "draws": 5}}
    jobs = [
        Job(tmp_path, SimpleNamespace(**record, seed=seed, config={"model": {"dropout": dropout}}), {})  # type: ignore[arg-type]
        for seed, dropout in enumerate(dropouts)
    ]
    found = [Network("", [job], None, 0.1, {"crossings": [one]}) for job, one in zip(jobs, crossings, strict=True)]
    given = origin.next_command(tmp_path, found, {"mu": "3.5", "model.filters": "4"})
    assert given == (f"python {next_one.format(folder=tmp_path)}" if next_one else "")


@pytest.mark.parametrize("script", ["tipping_point", "fewest_filters"])
def test_a_search_in_which_nothing_tips_has_no_next(tmp_path: Path, script: str) -> None:
    hydra = {"job": {"name": script}, "mode": "MULTIRUN", "overrides": {"task": ["seed=0,1"], "hydra": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    assert origin.next_command(tmp_path, [], {}) == ""


def test_a_folder_without_hydra_has_no_next(tmp_path: Path) -> None:
    assert origin.next_command(tmp_path, [], {}) == ""
    assert origin.last_command(tmp_path) == ""
