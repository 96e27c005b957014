"""The examples of README and docs: each block of Python runs, each command line is one that the scripts take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from running import ROOT
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tipping.experiment.config import parse
from tipping.experiment.search_options import FewestFiltersOptions, SearchOptions, split_off

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SEARCHES = {"sweeps/tipping_point.py": SearchOptions, "sweeps/fewest_filters.py": FewestFiltersOptions}
SCRIPTS = {"train": "train.py", "interpret": "interpret.py", "search": "sweeps/tipping_point.py"}
SCRIPTS |= {"fewest": "sweeps/fewest_filters.py"}  # what these commands of `tipping` are in a clone
SMALL = ["data=digits", "trainer.max_epochs=1", "tracking=off", "curve.images=50", "curve.points=1", "protocol.draws=1"]


def blocks(page: Path, language: str) -> Iterator[str]:
    return (body for kind, body in re.findall(r"```(\w*)\n(.*?)```", page.read_text(), re.S) if kind == language)


def lines() -> list[list[str]]:
    """The command lines of all pages, without comments: a script or ``-m MODULE``, and its options."""
    of_all = (line for page in PAGES for block in blocks(page, "") for line in block.splitlines())
    return [plain(*shlex.split(line, comments=True)) for line in of_all if line.startswith(("python ", "tipping "))]


def plain(program: str, name: str, *options: str) -> list[str]:
    """A command line as Python runs it: `tipping interpret` is interpret.py."""
    if program == "python":
        return [name, *options]
    return [SCRIPTS[name], *options] if name in SCRIPTS else ["-m", "tipping", name, *options]


def test_each_row_of_reliability_selects_tests() -> None:
    folder, text = ROOT / "tests", (ROOT / "docs" / "reliability.md").read_text()
    places = dict(re.findall(r"^\| `([A-Z])` \| `tests/(\S+)` \|", text, re.MULTILINE))
    selections = re.findall(r"`([A-Z]) -k (\"[^\"]*\"|\w+)[^`]*`", text)
    assert len(selections) > 15
    for letter, words in selections:
        files = [folder / places[letter]] if places[letter].endswith(".py") else (folder / places[letter]).glob("*.py")
        names = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)]
        for word in words.strip('"').split(" or "):
            assert any(word in name for name in names), f"{letter} -k {words}"


@cache
def help_of(command: str) -> str:
    """What ``python -m tipping COMMAND --help`` prints."""
    call = [sys.executable, "-m", "tipping", command, "--help"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


def test_there_are_examples() -> None:
    assert len(lines()) > 12
    assert {line[0] for line in lines()} >= {"interpret.py", "train.py", "-m", *SEARCHES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", page.read_text()):
        linked = page.parent / path if path else page
        assert linked.exists(), path
        heads = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert not anchor or anchor in anchors, f"{path}#{anchor}"


def own_network() -> dict[str, object]:
    """What a reader has: a network of three classes, and loaders of colour images."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(120, 3, 12, 12, generator=generator), torch.arange(120) % 3
    layers = (nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(768, 3))
    loader = DataLoader(TensorDataset(images, labels), batch_size=50)
    return {"model": nn.Sequential(*layers), "loader": loader, "test_loader": loader, "images": images[:5]}


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=lambda page: page.name)
def test_python_runs(page: Path) -> None:
    responses = torch.rand(200, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(4, dtype=torch.float64)[torch.arange(200) % 4]
    names = {"batches": [(responses, labels)], **own_network()}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("line", lines(), ids=" ".join)
def test_a_command_line_is_taken(line: list[str]) -> None:
    script, *options = line
    if script.startswith("benchmarks/"):
        assert (ROOT / script).is_file()
        return
    if script == "-m":
        assert options[0] == "tipping"
        printed = help_of(options[1])
        assert all(option in printed for option in options if option.startswith("--"))
        return
    given = [option for option in options if option != "-m"]
    if "--cfg" in given:
        return
    name = Path(script).stem if script in SEARCHES else "config"
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            several = [one for one in parser.parse_overrides(given) if one.is_sweep_override()]
            first = {one.get_key_element(): next(one.sweep_string_iterator()) for one in several}
            plain = [option for option in given if option.split("=")[0] not in first]
            composed = compose(name, [*plain, *(f"{key}={value}" for key, value in first.items())])
    finally:
        GlobalHydra.instance().clear()
    assert not several or "-m" in options or script in SEARCHES
    parse(split_off(composed, SEARCHES[script])[0] if script in SEARCHES else composed)


@pytest.mark.long
@pytest.mark.parametrize(
    "line",
    [line for line in lines() if line[0].endswith(".py") and "/" not in line[0].removeprefix("sweeps/")],
    ids=" ".join,
)
def test_a_command_line_runs(line: list[str], tmp_path: Path) -> None:
    """On few images, with small networks."""
    if "--cfg" in line or "model=own" in line:
        pytest.skip("nothing to run, or somebody's own network")
    if {"data=folder", "data=arrays", "data=own", "data=cifar10"} & set(line):
        pytest.skip("somebody's own images, or a download")
    if {"hydra/launcher=submitit_slurm", "search.storage=postgresql+psycopg2://user@host/tipping"} & set(line):
        pytest.skip("needs a cluster: see tests/cluster/")
    script, *options = line
    kept = [one for one in options if not one.startswith(("data=", "trainer.max_epochs=", "search.trials="))]
    small = [*SMALL, *(["search.trials=2"] if script in SEARCHES else [])]
    command = [sys.executable, str(ROOT / script), *kept, *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
