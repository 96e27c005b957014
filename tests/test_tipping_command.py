"""The command `tipping`, as ``python -m tipping`` in a folder with nothing in it: in a process of its own where it is
about what is loaded or how it begins."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import ROOT, run_here, tipping_here

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


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def printed(folder: Path, *arguments: str) -> str:
    """Return what the command prints in a process of its own, without failure."""
    done = run(folder, "-m", "tipping", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what the command prints in this process, in the empty folder, without failure."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments: str) -> str:
        code, out, err = tipping_here(*arguments)
        assert code == 0, err
        return out

    return of


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_it_is_called_and_loads_nothing_slow(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-c", LOADED, name, "--help")
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
        ("table nosuch", "nosuch: no such folder; give the folder of a sweep or a search"),
        ("table --nosuch", "the following arguments are required: SWEEP_DIR; --help says what is"),
    ],
)
def test_a_mistake_is_one_line(line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = tipping_here(*line.split())
    assert (code, err.strip()) == (1, said)


def test_the_main_job_runs_from_nothing(said: Callable[..., str], tmp_path: Path) -> None:
    begun = printed(tmp_path, "interpret", "-m", "mu=1,20", *SMALL.split(), "visualize=off")
    (folder,) = (tmp_path / "outputs" / "interpret").iterdir()
    sweep = str(folder.relative_to(tmp_path))
    assert {path.name for path in folder.iterdir()} >= {"0", "1", "results.csv", "accuracy_drop.png", "report.html"}
    with (folder / "results.csv").open() as file:
        assert [row["mu"] for row in csv.DictReader(file)] == ["1.0", "20.0"]
    assert begun.splitlines()[-1].startswith(f"next: {CALL} search data=digits model.filters=4 ")
    assert f"{CALL} interpret -m mu=1,20 data=digits" in (folder / "report.html").read_text()
    assert said("table", sweep).strip() in begun
    for name in ("map", "report"):
        said(name, sweep)
    again = said("interpret", "-m", "mu=1,20", *SMALL.split(), "visualize=off", f"hydra.sweep.dir={sweep}")
    assert "2 of 2 jobs are done" in again
    assert "network" in said("store", "list")


def test_the_script_and_the_command_of_a_checkout_are_one(said: Callable[..., str], tmp_path: Path) -> None:
    line = ["-m", "mu=1,20", *SMALL.split(), "visualize=off", "hydra.sweep.dir=out"]
    code, out, err = run_here("interpret.py", *line)
    assert code == 0, err
    search = os.path.relpath(ROOT / "sweeps" / "tipping_point.py", tmp_path)
    assert out.splitlines()[-1].startswith(f"next: python {search} data=digits ")
    assert (tmp_path / search).is_file()
    assert "2 of 2 jobs are done" in said("interpret", *line)


OWN = {
    "model/mine.yaml": "name: mine\n_target_: tipping.models.KerasCNN\nfilters: 3\ndepth: 2\ndropout: 0.0\n",
    "protocol/mine.yaml": "defaults: [described]\nname: mine\ncontrol: global\n",
    "protocol/described.yaml": "name: another\n",
}


@pytest.mark.parametrize("launcher", ["", "joblib"])
def test_own_presets_extend_ours(said: Callable[..., str], launcher: str, tmp_path: Path) -> None:
    if launcher:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    for name, text in OWN.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    small = [one for one in SMALL.split() if not one.startswith("model.")]
    given = ["model=mine", "protocol=mine,described", "protocol.norm=frobenius,squared", "visualize=off", *small]
    place = ["hydra.sweep.dir=out", *([f"hydra/launcher={launcher}"] if launcher else [])]
    begun = said("interpret", "--config-dir", "conf", "-m", *given, *place)
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["mine", "mine, norm=squared", "described", "described, norm=squared"]
    assert [row["protocol"] for row in rows] == names
    assert [row["control"] for row in rows] == ["global", "global", "layer", "layer"]
    assert {(row["model"], row["filters"]) for row in rows} == {("mine", "6")}
    own = f"--config-dir {tmp_path / 'conf'}"
    assert begun.splitlines()[-1].startswith(f"next: {CALL} search {own} model=mine protocol=mine,described ")
    assert f"{CALL} interpret {own} -m model=mine" in (tmp_path / "out" / "report.html").read_text()
    again = said("interpret", "--config-dir", "conf", "-m", *given, *place)
    assert "4 of 4 jobs are done" in again
    assert "filters in 2 layers" in said("layers", "--config-dir", "conf", "model=mine", "data=digits")


def test_the_tab_key_completes_commands_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"tipping int": "interpret", "tipping interpret model.f": "model.filters=", "tipping t": "train table"}
    for line, words in found.items():
        monkeypatch.setenv("COMP_LINE", line)
        assert printed(tmp_path, "-sc", "query=bash").split() == words.split()
