"""Hostile input: each is either accepted and right, or one clear line; never a traceback, a hang, NaN or half a file.

200 cases in all; with --long ten times as many.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import gzip
import io
import json
import math
import runpy
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import altair as alt
import hypothesis
import numpy as np
import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tipping import data
from tipping.command import fewest_filters, interpret, line, tipping_point, train
from tipping.command import map as map_command
from tipping.command import report as report_command
from tipping.command import store as store_command
from tipping.command import table as table_command
from tipping.data import idx, sources
from tipping.errors import InputError
from tipping.experiment import config, records
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.experiment.store import Store
from tipping.network import build, load_checkpoint
from tipping.report import page
from tipping.results import charts, tables, tipping_map

LONGEST = 60  # seconds that a case may take
SMALL = ["data=digits", "trainer.max_epochs=1", "model.filters=2", "model.depth=1", "protocol.draws=1", "tracking=off"]
SMALL += ["curve.points=1", "curve.images=20", "visualize=off"]


def cases(share: int) -> hypothesis.settings:
    """So many of the 200 cases."""
    profile = hypothesis.settings.default
    return hypothesis.settings(
        max_examples=share * profile.max_examples // 100, suppress_health_check=list(hypothesis.HealthCheck)
    )


class Hang(BaseException):
    """A case takes too long."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)  # computed, not waited, as the machine may be busy
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(main: Callable[..., Any], *arguments: Any) -> tuple[int, str, str]:
    """What a command line's function does in this process: (exit code, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE)
    }
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), no_hang():
        try:
            code = main(*arguments)
        except SystemExit as exit_:
            code = exit_.code
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return int(code or 0), out.getvalue(), err.getvalue()


def mistake(do: Callable[[], object]) -> str | None:
    """The one line that says what is wrong; None where nothing is."""
    try:
        with no_hang():
            do()
    except (InputError, OmegaConfBaseException) as error:
        said = line.one_line(error)
    else:
        return None
    assert len(said.splitlines()) == 1
    return said


def numbers(tree: object) -> list[float]:
    if isinstance(tree, dict | list):
        return [number for value in (tree.values() if isinstance(tree, dict) else tree) for number in numbers(value)]
    return [tree] if isinstance(tree, int | float) else []


def check(code: int, err: str, folder: Path) -> None:
    """All is well and finite, or one line says what is not, and there is nothing."""
    assert "Traceback" not in err, err
    assert not list(folder.rglob("*.part"))
    found = list(folder.rglob("result.json"))
    if code == 0:
        assert all(math.isfinite(number) for path in found for number in numbers(json.loads(path.read_text())))
    else:
        assert len(err.strip().splitlines()) == 1, err
        assert not found


# ---- command lines


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory without data, and without a network."""
    folder = tmp_path_factory.mktemp("fuzz")

    def unreachable(url: str) -> bytes:
        raise OSError(f"{url} is not to be asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx, "_fetch", unreachable)
        patch.setenv("TIPPING_DATA", str(folder / "data"))
        patch.chdir(folder)
        yield folder


def script(name: str, place: Path, *arguments: str) -> tuple[int, str, str]:
    """A script of Hydra's, on the digits and a tiny network, into an empty folder."""

    mains = {"interpret": interpret.interpret, "train": train.train}
    mains |= {"tipping_point": tipping_point.search, "fewest_filters": fewest_filters.search}
    gather = {"interpret": page.after(tables.gather)}
    shutil.rmtree(place / "out", ignore_errors=True)
    GlobalHydra.instance().clear()
    flags = [one for one in arguments if one.startswith("-")]
    places = [f"store.dir={place / 'store'}", f"hydra.run.dir={place / 'out'}", f"hydra.sweep.dir={place / 'out'}"]
    keys = {one.split("=")[0].lstrip("+~") for one in arguments}
    own = [one for one in SMALL if one.split("=")[0] not in keys and one.split(".")[0] not in keys]
    sys.argv = [f"{name}.py", *flags, *places, *own, *(one for one in arguments if one not in flags)]
    return run(line.run, mains[name], gather.get(name))


LEAVES = ["mu", "seed", "randomize", "resume", "device", "data.name", "data.root", "store.dir", "trainer.learning_rate"]
LEAVES += ["trainer.precision", "model.dropout", "model.name", "model._target_", "model.checkpoint", "model.layers"]
LEAVES += ["selection.solver", "selection.tolerance", "visualize.rules", "visualize.seed", "visualize.pooling"]
LEAVES += ["protocol.labels", "protocol.norm", "protocol.value", "protocol.scope", "protocol.name", "protocol.dense"]
SIZES = ["trainer.max_epochs", "trainer.batch_size", "model.filters", "model.depth", "protocol.draws", "curve.points"]
SIZES += ["curve.images", "curve.every_n_epochs", "selection.max_iterations", "visualize.images"]
GROUPS = ["data", "model", "protocol", "selection", "visualize", "tracking", "hydra", "trainer", "curve", "store"]
GROUPS += ["model@data", "data@:x", "nosuch", "", "mu.x", "mu@x", "hydra/launcher", "hydra.mode", "hydra.job.name"]
HOSTILE = ["", "nan", "inf", "-inf", "-1", "0", "1e400", "-1e400", "5e-324", "1e308", "1e-400", "9" * 30, "0x10", "1_0"]
HOSTILE += [
    "null",
    "???",
    "true",
    "off",
    "none",
    "'",
    '"',
    "''",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "[a]",
    "[[1]]",
    "{a:1}",
]
HOSTILE += [
    "${mu}",
    "${nosuch}",
    "${oc.env:NOSUCH}",
    "${",
    "$",
    "${oc.create:{a:1}}",
    "a:b{",
    "@#",
    "a=b",
    "=",
    ",",
    "1,2",
]
HOSTILE += [
    "range(3)",
    "glob(*)",
    "choice(1,2)",
    "interval(0,1)",
    "choice(",
    "int(a)",
    "cast(1)",
    "\\",
    "a b",
    " ",
    "\t",
]
HOSTILE += ["\n", "\x07", "é", "\U0001f600", "\udcff", "'\udcff'", "../../x", "/", "/dev/null", "x" * 5000, "os.system"]
HOSTILE += [
    "torch.nn.Linear",
    "torch.nn.Module",
    "digits",
    "planted",
    "own",
    "authors",
    "<b>&amp;</b>",
    "%s",
    "{0}",
    "~",
]
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
    code, _, err = run(line.run, interpret.interpret)
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
        assert last.startswith("no readable result.json of this version: job "), err
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


# ---- configuration values


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration of a job, as Hydra composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", SMALL)


def paths(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a tree's values are, branches among them."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in pairs for path in ((*before, key), *paths(value, (*before, key)))]


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda branch, key: branch[key], path, tree)


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a tree with another value at a place; without the place for `...`."""
    tree = copy.deepcopy(tree)
    *above, last = path
    branch = at(tree, tuple(above))
    if value is ...:
        del branch[last]
    else:
        branch[last] = value
    return tree


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(HOSTILE),
    st.text(max_size=5),
    st.binary(max_size=3),
)
trees = st.recursive(leaves, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=3), of, max_size=3))
numbers_of_range = st.sampled_from(
    [1, 2, 7, 0.5, 1e-3, 1e6, True, False, "1", "0.5", "test", "mean", "cpu", "all", None]
)


@cases(36)
@given(pick=st.integers(0, 10**6), value=trees | numbers_of_range | st.just(...))
def test_configuration_values(composed: DictConfig, pick: int, value: object) -> None:
    """What is accepted is what was given, in the type of the option, and finite."""
    plain = OmegaConf.to_container(composed)
    where = paths(plain)
    path = where[pick % len(where)]
    named = ".".join(key for key in path if isinstance(key, str))
    if said := mistake(lambda: config.parse(OmegaConf.create(changed(plain, path, value)))):
        assert named in said or (isinstance(value, dict) and path[0] in said), "the culprit is named"
        return
    parsed = asdict(config.parse(OmegaConf.create(changed(plain, path, value))))
    assert all(math.isfinite(number) for number in numbers({**parsed, "model": 0}))
    if value is not ... and path[0] != "model" and not isinstance(kept := at(parsed, path), bool | dict):
        assert kept == value or (isinstance(kept, str) and kept.lower() == str(value).lower()) or kept == float(value)


@pytest.mark.parametrize(("path", "value"), [(("visualize", "rules"), {}), (("protocol",), []), (("model",), [])])
def test_the_culprit_is_named(composed: DictConfig, path: tuple[str, ...], value: object) -> None:
    spoiled = changed(OmegaConf.to_container(composed), path, value)
    assert str(mistake(lambda: config.parse(OmegaConf.create(spoiled)))).startswith(f"{'.'.join(path)}={value}: give ")


# ---- files: mutated bytes


@st.composite
def edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut, lengthen, exchange or overwrite some bytes of a file."""
    start, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    new = draw(st.binary(max_size=40) | st.integers(0, 2**64 - 1).map(lambda number: struct.pack("<Q", number)))
    kind = draw(st.sampled_from(["overwrite", "insert", "delete", "cut", "flip", "replace"]))

    def edit(content: bytes) -> bytes:
        at = int(start * len(content))
        match kind:
            case "overwrite":
                return content[:at] + new + content[at + len(new) :]
            case "insert":
                return content[:at] + new + content[at:]
            case "delete":
                return content[:at] + content[at + length :]
            case "cut":
                return content[:at]
            case "flip":
                return (
                    content[:at] + bytes(byte ^ (1 << length % 8) for byte in content[at : at + 1]) + content[at + 1 :]
                )
        return new

    edit.__qualname__ = f"{kind} at {start}: {new!r}, {length}"
    return edit


class Executed:
    """A pickle that says when it is loaded."""

    def __init__(self, told: Path) -> None:
        self.told = str(told)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.told),)


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


shapes = st.lists(st.integers(0, 5), min_size=3, max_size=3)


@cases(24)
@given(
    shape=shapes, zipped=st.booleans(), inside=st.none() | edits(), outside=st.none() | edits(), seed=st.integers(0, 99)
)
def test_idx_files(place: Path, shape: list[int], zipped: bool, inside: Any, outside: Any, seed: int) -> None:
    """Bytes edited before they are compressed, and after."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.integers(256 if "images" in name else 10, size=shape[: 3 if "images" in name else 1])
        for name in idx.FILES
    }
    content = {name: idx_file(array) for name, array in arrays.items()}
    name = idx.FILES[seed % 4]
    right = content[name]
    content[name] = inside(right) if inside else right
    if outside and not zipped:
        content[name] = outside(content[name])
    folder = place / "idx" / "MNIST" / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for one, held in content.items():
        packed = gzip.compress(held) if zipped else held
        packed = outside(packed) if outside and zipped and one == name else packed
        (folder / (f"{one}.gz" if zipped else one)).write_bytes(packed)
    sources._load.cache_clear()
    if said := mistake(lambda: data.load("mnist", place / "idx")):
        assert (name in said and (inside or outside)) or 0 in shape
        return
    loaded = data.load("mnist", place / "idx")
    if content[name] == right:
        for part, split in (("train", loaded.train), ("t10k", loaded.test)):
            images, labels = (arrays[f"{part}-{kind}"] for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
            assert np.array_equal((split.images_NCHW[:, 0] * 255).round().numpy(), images)
            assert np.array_equal(split.labels_N.numpy(), labels)
    else:  # as valid as before, with other pixels or labels
        assert len(content[name]) == len(right)


@pytest.mark.parametrize("announced", [(4, 4, 4), (2**32 - 1,) * 3, (2**10, 2**10, 2**10)])
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, announced: tuple[int, int, int]) -> None:
    """64 MB of zeros in some KB, whatever is announced."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, *announced))
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(InputError, match=path.name):
        idx.read_idx(path, ndim=3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**30 + 2**27


# ---- checkpoints and stored tensors

TINY = {"name": "keras_cnn", "_target_": "tipping.models.KerasCNN", "filters": 1, "depth": 1, "dropout": 0.0}


def tiny() -> torch.nn.Module:
    return build(TINY, (1, 2, 2), data.CLASSES, seed=0)


def spoiled(tensors: dict[str, torch.Tensor], kind: str, told: Path) -> Any:
    """What is no state dict of the network, or none that can be used."""
    first, *others = tensors
    tensor = tensors[first]
    return {
        "code": Executed(told),
        "code among tensors": {**tensors, first: Executed(told)},
        "code as a key": {**tensors, Executed(told): tensor},
        "not finite": {**tensors, first: torch.full_like(tensor, torch.nan)},
        "infinite": {**tensors, others[0]: tensors[others[0]] / 0},
        "another shape": {**tensors, first: tensor[..., :1]},
        "vast": {**tensors, first: torch.zeros(1).expand(2**40)},
        "one less": {name: tensors[name] for name in others},
        "one more": {**tensors, "more": tensor},
        "numbers as keys": dict(enumerate(tensors.values())),
        "a list": list(tensors.values()),
        "a tensor": tensor,
        "nothing": None,
        "a state dict that is none": {"state_dict": 3},
        "nested": {"state_dict": {"tensors": {"state_dict": tensors}}},
        "texts": dict.fromkeys(tensors, "0"),
        "complex": {name: one.to(torch.complex64) for name, one in tensors.items()},
        "sparse": {**tensors, others[-1]: tensors[others[-1]].to_sparse()},
        "on no device": {name: one.to("meta") for name, one in tensors.items()},
    }[kind]


SPOILED = ["code", "code among tensors", "code as a key", "not finite", "infinite", "another shape", "vast", "one less"]
SPOILED += [
    "one more",
    "numbers as keys",
    "a list",
    "a tensor",
    "nothing",
    "a state dict that is none",
    "nested",
    "texts",
]
SPOILED += ["complex", "sparse", "on no device"]


def refused(load: Callable[[], object], path: Path, told: Path) -> bool:
    """Whether a file is, in one line that names it; nothing in it has run."""
    said = mistake(load)
    assert not told.exists(), "code in a file was run"
    assert said is None or (str(path) in said and ": " in said), "the culprit and the remedy"
    return said is not None


@pytest.mark.parametrize("kind", SPOILED)
def test_a_checkpoint_of_something_else(tmp_path: Path, kind: str) -> None:
    path, told = tmp_path / "checkpoint.pt", tmp_path / "executed"
    torch.save(spoiled(dict(tiny().state_dict()), kind, told), path)
    warnings.simplefilter("ignore")
    assert refused(lambda: load_checkpoint(tiny(), str(path)), path, told)


@cases(20)
@given(edit=edits(), legacy=st.booleans(), wrapped=st.sampled_from(["", "state_dict", "tensors"]))
def test_checkpoints(place: Path, edit: Callable[[bytes], bytes], legacy: bool, wrapped: str) -> None:
    path, told, model = place / "checkpoint.pt", place / "executed", tiny()
    right = {name: torch.rand_like(tensor) for name, tensor in model.state_dict().items()}
    torch.save({wrapped: right} if wrapped else right, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(edit(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older format
        if refused(lambda: load_checkpoint(model, str(path)), path, told):
            assert path.read_bytes() != content
            return
    loaded = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in loaded.values())
    assert legacy or all(torch.equal(loaded[name], right[name]) for name in right), "older files have no checksum"


@cases(20)
@given(edit=edits(), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_stored_tensors(place: Path, edit: Callable[[bytes], bytes], sizes: list[int]) -> None:
    right = {"w": torch.rand(sizes), "n": torch.arange(3)}
    shutil.rmtree(place / "kept", ignore_errors=True)
    path = Store(place / "kept").fetch("networks", {"seed": 0}, lambda: right).path
    path.write_bytes(edit(path.read_bytes()))
    found: dict[str, torch.Tensor] = {}

    def fetch() -> None:
        found.update(Store(place / "kept").fetch("networks", {"seed": 0}, dict).tensors)

    if not refused(fetch, path, place / "executed"):
        assert found.keys() == right.keys()
        assert all(torch.equal(found[name], right[name]) for name in right)


def test_a_number_that_changed_is_seen(tmp_path: Path) -> None:
    """Which torch does not look for."""
    weights = {name: torch.full_like(tensor, 0.25) for name, tensor in tiny().state_dict().items()}
    path, told = Store(tmp_path).fetch("networks", {"seed": 0}, lambda: weights).path, tmp_path / "executed"
    content = path.read_bytes()
    at = content.index(struct.pack("<8f", *[0.25] * 8))
    path.write_bytes(content[:at] + struct.pack("<f", 0.5) + content[at + 4 :])
    assert not torch.equal(torch.load(path)["tensors"]["conv1.weight"], weights["conv1.weight"])
    assert refused(lambda: Store(tmp_path).fetch("networks", {"seed": 0}, dict), path, told)
    assert refused(lambda: load_checkpoint(tiny(), str(path)), path, told)


@pytest.mark.parametrize("kind", ["code", "code among tensors", "a list", "nothing", "texts"])
@pytest.mark.parametrize("own", [True, False])
def test_a_stored_file_of_something_else(tmp_path: Path, kind: str, own: bool) -> None:
    """Also in a file of the right recipe."""
    path = Store(tmp_path).fetch("networks", {"seed": 0}, lambda: {"w": torch.ones(2)}).path
    recipe = torch.load(path, weights_only=True)["recipe"]
    content = spoiled(dict(tiny().state_dict()), kind, tmp_path / "executed")
    torch.save({"recipe": recipe, "tensors": content} if own else content, path)
    assert refused(lambda: Store(tmp_path).fetch("networks", {"seed": 0}, dict), path, tmp_path / "executed")


# ---- records


@pytest.fixture(scope="module")
def sweeps(place: Path) -> Iterator[dict[str, Path]]:
    """Sweeps of interpret.py and train.py; their charts are as they would be drawn."""
    network = ["model.filters=4", "model.depth=2", "trainer.max_epochs=2", "protocol.draws=2", "curve.points=2"]
    folders = {name: place / f"sweep of {name}" for name in TOOLS}

    def drawn(chart: Any) -> str:
        return json.dumps(chart.to_dict(), allow_nan=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "svg", drawn)
        patch.setattr(alt.TopLevelMixin, "save", lambda chart, part, **_: Path(part).write_text(drawn(chart)))
        for name, options in (("interpret", ["mu=0.1,1"]), ("train", ["curve.every_n_epochs=1"])):
            code, _, err = script(name, place, "-m", "seed=0,1", *network, *options)
            assert code == 0, err
            (place / "out").rename(folders[name])
            for tool in TOOLS[name]:
                tool([str(folders[name])])
        yield folders


def trainings(arguments: list[str]) -> int:
    """What concludes a sweep of train.py."""
    return int(bool(tables.gather_trainings(Path(*arguments))))


TOOLS = {
    "interpret": [table_command.main, report_command.main, map_command.main],
    "train": [trainings, report_command.main],
}
tools = st.sampled_from([(name, tool) for name, of in TOOLS.items() for tool in of])
LEFT_OUT = ("left out: ", "no readable result.json of this version: job ")
TABLES = ("results.csv", "trainings.csv", "tipping_points.csv")


def rows_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {name: folder / name for name in TABLES if (folder / name).is_file()}
    return {name: list(csv.DictReader(path.read_text().splitlines())) for name, path in found.items()}


def check_gathered(tool: Callable[[list[str]], int], sweep: Path, place: Path, spoil: Callable[[Path], None]) -> str:
    """A sweep of which one job is spoiled: that is named, or the job is taken as it is; the others are as they were."""
    folder = place / "spoiled"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sweep, folder)
    spoil(folder / "1")
    code, out, err = run(tool, [str(folder)])
    assert code in (0, 1)
    assert code == 1 or not err, err
    lines = err.strip().splitlines()
    assert len(lines) == 1 or all(line.startswith(LEFT_OUT) for line in lines), err
    assert "nan" not in out.replace(tipping_map.TABLE, "")
    assert not list(folder.rglob("*.part"))
    before, after = rows_of(sweep), rows_of(folder)
    for name, found in after.items():
        if name != tipping_map.TABLE:  # where nan says that networks are censored to both sides
            assert not [value for row in found for value in row.values() if value in ("nan", "inf", "-inf")]
        pairs = zip(
            *([row for row in rows if row.get("job", "1") != "1"] for rows in (before[name], found)), strict=True
        )
        assert all(old.items() <= new.items() for old, new in pairs), "there may be columns of what varies now"
    own: Any = OmegaConf.load(sweep / "1" / ".hydra" / "config.yaml")
    kind = TrainRecord if "train" in sweep.name else InterpretRecord
    records.read_own(folder / "1", config.parse(own), ROOT / "conf", kind)
    return err


json_values = st.one_of(
    st.just(...),
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [math.nan, math.inf, 1e308, -1e308, 1e-320, 0.5, 10**30, -(10**400), "", "x", "../..", "1", [], {}, [[]]]
    ),
    st.sampled_from([[0], [0.5, 0.5], [None], {"x": 1}, {"": {}}, [0, 1, 1], "\0", "\udcff", "a\nb"]),
)


@cases(22)
@given(tool=tools, pick=st.integers(0, 10**6), value=json_values)
def test_records_with_another_value(
    place: Path, sweeps: dict[str, Path], tool: tuple[str, Callable[[list[str]], int]], pick: int, value: Any
) -> None:
    name, main = tool
    record = json.loads((sweeps[name] / "1" / "result.json").read_text())
    where = paths(record)
    path = where[pick % len(where)]
    hypothesis.note(f"{path}: {value!r}")
    check_gathered(
        main,
        sweeps[name],
        place,
        lambda job: (job / "result.json").write_text(json.dumps(changed(record, path, value))) and None,
    )


FILES = ["result.json", "predictions.npz", "selection.npz", ".hydra/hydra.yaml", "../multirun.yaml"]


@cases(16)
@given(tool=tools, file=st.sampled_from(FILES), edit=edits())
def test_records_with_other_bytes(
    place: Path,
    sweeps: dict[str, Path],
    tool: tuple[str, Callable[[list[str]], int]],
    file: str,
    edit: Callable[[bytes], bytes],
) -> None:
    """Arrays that are not named as unreadable are those that were written."""
    name, main = tool

    def spoil(job: Path) -> None:
        if (job / file).is_file():
            (job / file).write_bytes(edit((job / file).read_bytes()))

    err = check_gathered(main, sweeps[name], place, spoil)
    if not err and file != "result.json":
        assert rows_of(place / "spoiled") == rows_of(sweeps[name])


def another(arrays: dict[str, np.ndarray], kind: str, told: Path) -> dict[str, np.ndarray]:
    """Arrays that are no predictions."""
    labels = arrays["labels"]
    return {
        "code": {**arrays, "selected": np.array([Executed(told)] * len(labels))},
        "texts": {**arrays, "selected": labels.astype(str)},
        "not numbers": {**arrays, "intact": labels * np.nan},
        "too few": {**arrays, "intact": labels[:-1]},
        "none": {key: array[..., :0] for key, array in arrays.items()},
        "no draws": {**arrays, "random": arrays["random"][:0]},
        "flat": {**arrays, "random": labels},
        "scalars": {key: np.array(1) for key in arrays},
        "missing": {"labels": labels},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["code", "texts", "not numbers", "too few", "none", "no draws", "flat", "scalars", "missing"]
)
def test_predictions_that_are_none(place: Path, sweeps: dict[str, Path], tmp_path: Path, kind: str) -> None:
    def spoil(job: Path) -> None:
        with np.load(job / "predictions.npz") as held:
            np.savez(job / "predictions.npz", **another(dict(held), kind, tmp_path / "executed"))

    left_out = check_gathered(map_command.main, sweeps["interpret"], place, spoil)
    assert f"left out: {place / 'spoiled' / '1'}: its record or predictions cannot be read" in left_out
    assert not (tmp_path / "executed").exists()
