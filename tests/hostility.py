"""Hostile input: each is either accepted and right, or one clear line; never a traceback, a hang, NaN or half a file.

200 cases in all; with --long ten times as many.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from tipping.command import fewest_filters, interpret, line, tipping_point, train
from tipping.errors import InputError
from tipping.report import page
from tipping.results import tables

LONGEST = 600  # seconds that a case may compute
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
        said = line.describe_mistake(error)
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


def script(name: str, place: Path, *arguments: str) -> tuple[int, str, str]:
    """A script of Hydra's, on the digits and a tiny network, into an empty folder."""

    mains = {"interpret": interpret.run_interpret, "train": train.run_train}
    mains |= {"tipping_point": tipping_point.run_search, "fewest_filters": fewest_filters.run_search}
    gather = {"interpret": page.then_conclude(tables.write_table)}
    shutil.rmtree(place / "out", ignore_errors=True)
    GlobalHydra.instance().clear()
    flags = [one for one in arguments if one.startswith("-")]
    places = [f"store.dir={place / 'store'}", f"hydra.run.dir={place / 'out'}", f"hydra.sweep.dir={place / 'out'}"]
    keys = {one.split("=")[0].lstrip("+~") for one in arguments}
    own = [one for one in SMALL if one.split("=")[0] not in keys and one.split(".")[0] not in keys]
    sys.argv = [f"{name}.py", *flags, *places, *own, *(one for one in arguments if one not in flags)]
    return run(line.run, mains[name], gather.get(name))


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
