"""What a user reads: the help of each command, and its progress on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
from dataclasses import fields
from pathlib import Path

import forked
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from running import ROOT, printed

from tipping.experiment.config import parse
from tipping.experiment.search_options import FewestFiltersOptions, SearchOptions, split_off

CONFIGS = {  # of each script, its configuration and the options of its own
    "interpret.py": ("config", None),
    "train.py": ("config", None),
    "sweeps/tipping_point.py": ("tipping_point", SearchOptions),
    "sweeps/fewest_filters.py": ("fewest_filters", FewestFiltersOptions),
}
ALL = ["model", "model.filters", "data", "trainer.max_epochs", "protocol", "selection", "visualize", "tracking"]
ALL += ["device", "store.dir", "protocol.draws", "curve.points", "curve.images"]
OWN = {
    "interpret.py": ["mu", "seed", "selector", "randomize"],
    "train.py": ["mu", "seed", "curve.every_n_epochs"],
    "sweeps/tipping_point.py": [
        "seed",
        "search.low",
        "search.high",
        "search.grid",
        "search.precision",
        "search.trials",
    ],
    "sweeps/fewest_filters.py": ["search.over", "search.sampler", "search.seeds", "search.trials"],
}


def jobs(config: str, options: list[str]) -> list[DictConfig]:
    """The configurations of the jobs of a command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        given = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(options)
        ((*lines,),) = BasicSweeper.split_arguments(given, None)
        return [compose(config, line, return_hydra_config=True) for line in lines]


@pytest.mark.parametrize("script", CONFIGS)
def test_help_states_the_defaults(script: str) -> None:
    """Also when other options are on the line."""
    text = printed(script, "-m", "model=matconvnet", "mu=1,2", "--help", "trainer.max_epochs=7")
    assert max(map(len, text.splitlines())) <= 120
    config, search = CONFIGS[script]
    (composed,) = jobs(config, [])
    described = re.sub(r"\n {10,}", " ", text)  # two lines of one option as one
    stated = dict(re.findall(r"^  (\S+) .*?\[(.*)\]$", described, re.MULTILINE))
    assert set(stated) == {*ALL, *OWN[script]}
    choices = composed.hydra.runtime.choices
    assert stated == {option: str(choices.get(option, OmegaConf.select(composed, option))) for option in stated}
    for option in fields(search) if search else ():
        assert f"  search.{option.name} " in text
    assert f"outputs/{Path(script).stem}/" in text
    assert "--cfg job" in text
    assert "--info" in text
    assert f"python {script} -sc install=bash" in text


@pytest.mark.parametrize("script", CONFIGS)
def test_the_examples_of_help_can_be_run(script: str) -> None:
    examples = re.findall(rf"^  python {script} (.*)$", printed(script, "-h"), re.MULTILINE)
    assert len(examples) == 3
    config, search = CONFIGS[script]
    for example in examples:
        options = [word for word in shlex.split(example) if word != "-m"]
        composed = jobs(config, options)
        assert len(composed) > 1 or "-m" not in example
        for job in composed:
            plain = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
            parse(split_off(plain, search)[0] if search else plain)


def test_the_tab_key_completes_options(monkeypatch) -> None:
    for word, found in {"mod": "model= model.", "model.f": "model.filters=", "data=fa": "data=fashion_mnist"}.items():
        line = f"python interpret.py {word}"
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        assert sorted(printed("interpret.py", "-sc", "query=bash").split()) == sorted(found.split())


def test_without_a_terminal_there_are_lines_only(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("interpret", "mu=1,20", multirun=True)
    assert code == 0, err
    assert "\t#1 : " in out
    assert not [sign for sign in out + err if not sign.isprintable() and sign not in "\n\t"]
    assert not err
    _, out, _ = run_script("interpret", "mu=1", f"hydra.run.dir={tmp_path / 'one'}")
    assert out.splitlines()[-1] == str(tmp_path / "one"), "a single job ends with where its files are"


def on_a_terminal(*command: str) -> tuple[int, str]:
    """The exit code of a command, and what it writes to a terminal."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    written = b""
    with forked.Popen(command, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        try:
            while part := os.read(ours, 2**16):
                written += part
        except OSError:  # Linux's end of file
            os.close(ours)
    return process.returncode, written.decode()


def screen(written: str) -> list[str]:
    """The lines that remain, where the control characters are CR, LF and the cursor up."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for sign in re.findall(r"\x1b\[A|[^\x1b]", written):
        if sign == "\x1b[A":
            row -= 1
        elif sign == "\r":
            column = 0
        elif sign == "\n":
            row += 1
            lines += [[]] * (row == len(lines))
        else:
            line = lines[row] = lines[row] + [" "] * (column + 1 - len(lines[row]))
            line[column] = sign
            column += 1
    return ["".join(line).rstrip() for line in lines]


def test_a_terminal_shows_progress_and_keeps_none_of_it(tmp_path: Path) -> None:
    given = "mu=1,20 data=digits model.filters=4 model.depth=2 protocol.draws=2 curve.images=100 visualize=off"
    options = [*given.split(), "tracking=off", f"store.dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path / 'out'}"]
    code, written = on_a_terminal(sys.executable, str(ROOT / "interpret.py"), "-m", *options)
    assert code == 0, written
    assert re.search(r"0 of 2 jobs \|.*\? left, mu=1\b", written)
    assert re.search(r"1 of 2 jobs \|█.*\d left, mu=20\b", written)
    for stages in ("data", "data > network", "data > network > responses > selection > intact > ablation > curve"):
        assert f"\n\r{stages}\x1b[A" in written.replace("\r\n", "\n"), "under the line of the sweep"
    kept = screen(written)
    logs = [(tmp_path / "out" / job / "interpret.log").read_text().splitlines() for job in ("0", "1")]
    assert kept[: len(logs[0]) + len(logs[1]) + 3] == [
        "Launching 2 jobs locally",
        f"\t#0 : mu=1 {' '.join(options[1:-1])}",
        *logs[0],
        f"\t#1 : mu=20 {' '.join(options[1:-1])}",
        *logs[1],
    ]
    assert str(tmp_path / "out" / "results.csv") in kept
    assert not [line for line in kept if "█" in line or " > " in line]
