"""The command `tipping`, as ``python -m tipping`` in a folder with nothing in it."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tipping.__main__ import COMMANDS

CALL = "python -m tipping"
LOADED = """
import sys, tipping.__main__

sys.argv[0] = "__main__.py"
try:
    tipping.__main__.main()
finally:
    print(*{module.partition(".")[0] for module in sys.modules})
"""
SMALL = "data=digits model.filters=4 model.depth=2 trainer.max_epochs=1 protocol.draws=1 curve.points=1 tracking=off"


def tipping(folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    program = ["-c", code] if code else ["-m", "tipping"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def printed(folder: Path, *arguments: str) -> str:
    """Return what the command prints, without failure."""
    done = tipping(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_it_is_called_and_loads_nothing_slow(name: str, tmp_path: Path) -> None:
    done = tipping(tmp_path, name, "--help", code=LOADED)
    assert done.returncode == 0, done.stderr
    *lines, packages = done.stdout.splitlines()
    assert any(line.removeprefix("usage: ").startswith(f"{CALL} {name} ") for line in lines), done.stdout
    assert not [line for line in lines if ".py" in line and "python" in line]
    assert not {"torch", "numpy", "scipy", "sklearn", "wandb", "matplotlib", "altair"} & set(packages.split())
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_commands(tmp_path: Path) -> None:
    text = printed(tmp_path)
    assert text == printed(tmp_path, "--help")
    assert re.findall(r"^  ([a-z]\w*)  +\w", text, re.MULTILINE) == list(COMMANDS)
    assert printed(tmp_path, "--version").startswith("tipping ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nosuch", f"nosuch: no such command; there are {', '.join(COMMANDS)}"),
        ("interpret mu=-1 data=digits", "mu=-1.0: give a finite number over 0"),
        ("train nosuch=1", "nosuch: no such option of this model or job; --cfg job lists them all"),
        ("table nosuch", "nosuch: no such folder; give the folder of a sweep"),
        ("table --nosuch", "the following arguments are required: SWEEP_DIR; --help says what is"),
    ],
)
def test_a_mistake_is_one_line(line: str, said: str, tmp_path: Path) -> None:
    done = tipping(tmp_path, *line.split())
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_the_main_job_runs_from_nothing(tmp_path: Path) -> None:
    said = printed(tmp_path, "interpret", "-m", "mu=1,20", *SMALL.split(), "visualize=off")
    (folder,) = (tmp_path / "outputs" / "interpret").iterdir()
    sweep = str(folder.relative_to(tmp_path))
    assert {path.name for path in folder.iterdir()} >= {"0", "1", "results.csv", "accuracy_drop.png", "report.html"}
    with (folder / "results.csv").open() as file:
        assert [row["mu"] for row in csv.DictReader(file)] == ["1.0", "20.0"]
    table = printed(tmp_path, "table", sweep)
    assert table.strip() in said
    for name in ("map", "report"):
        printed(tmp_path, name, sweep)
    assert "2 of 2 jobs are done" in printed(
        tmp_path, "interpret", "-m", "mu=1,20", *SMALL.split(), "visualize=off", f"hydra.sweep.dir={sweep}"
    )
    assert "network" in printed(tmp_path, "store", "list")
