"""Command lines of all kinds: each is accepted, or one line."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hostility import HOSTILE, cases, check, run, script
from hypothesis import given
from hypothesis import strategies as st
from running import ROOT

from tipping import data
from tipping.command import interpret, line
from tipping.command import map as map_command
from tipping.command import report as report_command
from tipping.command import store as store_command
from tipping.command import table as table_command

LEAVES = ["mu", "seed", "randomize", "resume", "device", "data.name", "data.root", "store.dir", "trainer.learning_rate"]
LEAVES += ["trainer.precision", "model.dropout", "model.name", "model._target_", "model.checkpoint", "model.layers"]
LEAVES += ["selection.solver", "selection.tolerance", "visualize.rules", "visualize.seed", "visualize.pooling"]
LEAVES += ["protocol.labels", "protocol.norm", "protocol.value", "protocol.scope", "protocol.name", "protocol.dense"]
SIZES = ["trainer.max_epochs", "trainer.batch_size", "model.filters", "model.depth", "protocol.draws", "curve.points"]
SIZES += ["curve.images", "curve.every_n_epochs", "selection.max_iterations", "visualize.images"]
GROUPS = ["data", "model", "protocol", "selection", "visualize", "tracking", "hydra", "trainer", "curve", "store"]
GROUPS += ["model@data", "data@:x", "nosuch", "", "mu.x", "mu@x", "hydra/launcher", "hydra.mode", "hydra.job.name"]
SWEPT = ["mu=1,a", "mu=1,1", "mu=range(0)", "mu=glob(*)", "data=glob(x*)", "mu=,", "seed=-1,0", "data=digits,nosuch"]
SWEPT += [
    "mu=interval(0,1)",
    "mu=sort(2,1)",
    "mu=shuffle(1,2)",
    "mu=1,${seed}",
    "+model.layers=[a],[b]",
    "mu=tag(a,1,2)",
]
signs = st.sampled_from(["", "+", "++", "~", "-", "@"])
texts = st.text(st.characters(exclude_characters="\0"), max_size=8)
quoted = (st.sampled_from(HOSTILE) | texts).map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'")
values = st.one_of(st.sampled_from(HOSTILE), quoted, texts, st.floats().map(str), st.integers().map(str))
small = st.sampled_from([value for value in HOSTILE if not value.isdigit()]) | st.integers(-2, 4).map(str)
options = st.one_of(
    st.tuples(signs, st.sampled_from(LEAVES + GROUPS), values), st.tuples(signs, st.sampled_from(SIZES), small)
).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}")
words = options | options | options | values.filter(lambda word: not word.startswith("-"))


@cases(36)
@given(name=st.sampled_from(["interpret", "train"]), words=st.lists(words, min_size=1, max_size=2))
def test_command_lines(place: Path, name: str, words: list[str]) -> None:
    code, _, err = script(name, place, *words)
    hypothesis.note(err)
    check(code, err, place / "out")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mu=@#", "mu=@#: cannot be read; options are name=value"),
        ("mu=a:b{", "mu=a:b{: cannot be read; options are name=value"),
        ("mu=1\n2", "mu=1 2: cannot be read; options are name=value"),
        ("model=null", "model=null: cannot be composed (Config group override must be a string or a list"),
        ("=3", "=3: cannot be composed"),
        ("hydra.job.name=a/b", "hydra.job.name=a/b: cannot be composed"),
        ("--nosuch", "unrecognized arguments: --nosuch; flags such as -m stand before all options"),
        ("~mu", "mu: has no value; give one"),
        ("mu=1e300", "mu=1e+300: no response needs so much"),
        ("trainer.learning_rate=1e300", "trainer.learning_rate=1e+300: give one that float32 holds"),
        (f"trainer.batch_size={10**20}", f"trainer.batch_size={10**20}: give a whole number below 2**63"),
        ("model._target_=null", "model._target_=None: give the class of a network"),
        ("~model._target_", "model._target_=None: give the class of a network"),
        ("+model._partial_=true", "model._partial_=True: no network takes it"),
        ("+model._recursive_=1", "model._recursive_=1: no network takes it"),
        ("+model.classes=3", "model.classes=3: the data set gives it"),
        ("protocol=[]", "protocol"),
        ("visualize.rules={}", "Error merging override visualize.rules={}"),
        ("visualize.rules=[[a]]", "visualize.rules=[['a']]: give some of"),
        ("protocol.name='a\nb'", ""),
        ("curve.points=1000000000000", ""),
        ("mu=1e100", ""),
        ("mu=5e-324", ""),
    ],
)
def test_command_lines_that_once_had_a_traceback(place: Path, word: str, said: str) -> None:
    """Or were said in another way than in one clear line, or took for ever."""
    code, _, err = script("interpret", place, word)
    check(code, err, place / "out")
    assert said in err
    assert (code == 0) == (said == "")


def test_flags_among_options_are_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(sys, "argv", ["interpret.py", "data=digits", "-m", "mu=1,2"])
    code, _, err = run(line.run, interpret.run_interpret)
    assert code == 1
    assert err == ("unrecognized arguments: mu=1,2; flags such as -m stand before all options, --help lists these\n")


@pytest.mark.parametrize("flags", [["--info"]])
def test_a_reader_that_leaves_is_no_mistake(flags: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "interpret.py"), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == -signal.SIGPIPE


@pytest.mark.parametrize("name", ["grid", "planted"])
def test_help_starts_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"sweeps/{name}.py", "--help"])
    monkeypatch.setattr(data, "load", lambda _: 1 / 0)
    code, out, _ = run(runpy.run_path, str(ROOT / "sweeps" / f"{name}.py"), None, "__main__")
    assert code == 0
    assert f"usage: {name}.py" in out


@cases(6)
@given(words=st.lists(words | st.sampled_from(SWEPT), min_size=1, max_size=2))
def test_multiruns(place: Path, words: list[str]) -> None:
    """A job that fails has a line of its own, and the sweep a last one that names it."""
    code, _, err = script("interpret", place, "-m", *words)
    hypothesis.note(err)
    *failed, last = err.strip().splitlines() or [""]
    if failed:
        assert code == 1
        assert all(line.startswith("job ") and " failed: " in line for line in failed), err
        assert ": no whole result.json of job " in last, err
        assert not list(place.rglob("*.part"))
    else:
        check(code, err, place / "out")


SEARCH = [
    "search.low",
    "search.high",
    "search.grid",
    "search.precision",
    "search.trials",
    "search.over",
    "search.sampler",
]
SEARCH += [
    "search.seeds",
    "search.over.mu",
    "search.over.nosuch",
    "search.over.model.filters",
    "search.storage",
    "search",
]
bad = values.filter(lambda value: not value.strip("'").isdigit())
searches = st.tuples(signs, st.sampled_from(SEARCH), bad).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}")


@cases(10)
@given(
    name=st.sampled_from(["tipping_point", "fewest_filters"]), words=st.lists(searches | words, min_size=1, max_size=2)
)
def test_command_lines_of_searches(place: Path, name: str, words: list[str]) -> None:
    few = ["search.trials=2"] + (["search.grid=2"] if name == "tipping_point" else ["search.over={mu:[1,2]}"])
    given = [word.split("=")[0].lstrip("+~") for word in words]
    flags = ["-m"] if name == "tipping_point" else []
    few = [one for one in few if not any(word and one.startswith(word) for word in given)]
    code, _, err = script(name, place, *flags, *few, *words)
    hypothesis.note(err)
    assert "Traceback" not in err
    assert not list(place.rglob("*.part"))
    assert (code == 0) == (not err.strip()), err


@cases(10)
@given(
    main=st.sampled_from([table_command.main, report_command.main, map_command.main, store_command.main]),
    words=st.lists(
        st.sampled_from(
            ["--against", "--compare", "--differences", "report", "-x", "--", "list", "verify", "prune", "--yes"]
        )
        | values,
        max_size=3,
    ),
)
def test_command_lines_of_tools(place: Path, main: Callable[..., int], words: list[str]) -> None:
    code, _, err = run(main, words)
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
