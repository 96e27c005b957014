"""Scripts and sweeps as a user runs them, in this process or in one of their own, and what they leave."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from tipping.experiment import invocation
from tipping.experiment.config import Config, parse
from tipping.experiment.record import sealed
from tipping.experiment.subject import Subject

ROOT = Path(__file__).parent.parent
BENCHMARKS = str(ROOT / "benchmarks")


def table_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table in a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def options_of(*overrides: str) -> Config:
    """The options of a job with this command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(compose("config", list(overrides)))


def run_here(script: str, *options: str) -> tuple[int, str, str]:
    """A script in this process, which has loaded all it needs: its exit code, and what it prints."""
    before = sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    sys.argv = [str(ROOT / script), *options]
    GlobalHydra.instance().clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = exit_.value.code
    if isinstance(code, str):  # which Python prints
        return 1, out.getvalue(), f"{err.getvalue()}{code}\n"
    return int(code or 0), out.getvalue(), err.getvalue()


def tipping_here(*words: str) -> tuple[int, str, str]:
    """Run the command `tipping` in this process, as ``python -m tipping``: its exit code, and what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invocation, "used", [])
        return run_here("src/tipping/__main__.py", *words)


def printed(script: str, *options: str) -> str:
    """What a script prints in this process, without failure."""
    code, out, err = run_here(script, *options)
    assert code == 0, err
    return out


SMALL = [
    "data=digits",
    "model.filters=4",
    "model.depth=2",
    "trainer.max_epochs=2",
    "protocol.draws=2",
    "curve.points=2",
]
SMALL += ["curve.images=100", "visualize.images=1", "visualize.filters_per_class=1"]
SWEEP = ["seed=0,1", "mu=1,5"]
TWO_WORKERS = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
MARKUP = "<script>document.title=1</script>&amp;"  # a name that is no good
TIMES = {"seconds": 0, "ended": 0, "made": 0, "digest": 0, "pictures": 0}  # pictures are drawn when all else is written


def command(folder: Path, *options: str, tracking: str = "off") -> list[str]:
    places = [f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}", f"tracking.dir={folder}"]
    return [sys.executable, str(ROOT / "interpret.py"), "-m", *SMALL, *places, f"tracking={tracking}", *options]


def run(given: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.run(given, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def here(given: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in this process."""
    return subprocess.CompletedProcess(given, *run_here(*given[1:]))


def findings(folder: Path) -> dict[str, Any]:
    """All that the jobs of a sweep found, but for times: each record with its arrays, each of which can be read."""
    found = {}
    for path in sorted((folder / "sweep").glob("*/result.json")):
        record, arrays = json.loads(path.read_text()) | TIMES, {}
        record["overrides"] = [one for one in record["overrides"] if not one.startswith(("store.dir=", "tracking"))]
        record["files"] = {name: digest for name, digest in record["files"].items() if name.endswith(".npz")}
        for name in ("selection", "predictions"):
            with np.load(path.with_name(f"{name}.npz"), allow_pickle=False) as held:
                arrays |= {key: held[key].tolist() for key in held}
        record["config"] |= {"store": "", "tracking": ""}
        found[path.parent.name] = (record, arrays)
    return found


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def children(parent: int, name: str) -> list[int]:
    """Processes started by another, of which the command line has a name."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_text()
            above = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if above == parent and name in line:
            found.append(int(path.name))
    return found


@contextmanager
def started(given: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command, of which nothing is left when the test is over, however it ends."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = forked.Popen(
        given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def said(script: str, *options: str, code: int = 0) -> str:
    """What a command prints, to both."""
    ended, out, err = run_here(script, *options)
    assert ended == code, out + err
    return out + err


def records(folder: Path) -> list[dict]:
    return [json.loads((folder / job / "result.json").read_text()) for job in ("0", "1")]


def rows_of(folder: Path) -> list[dict]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def points_of(chart: Any) -> dict[tuple[float | None, str, float], tuple[float, float, float]]:
    """Mean, smallest and largest accuracy that a chart draws, by mu (along filters), what was ablated, and where."""
    rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows if "label" not in row]
    return {(row.get("mu"), row["ablated"], row["x"]): (row["mean"], row["low"], row["high"]) for row in rows}


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / f"{name}.py"), *arguments, "data=digits"]


def inspected(folder: Path) -> tuple[list[dict], Path]:
    """The records of the one offline W&B run in a folder, as W&B's own reader gives them."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines], run


def rewrite(folder: Path, **values: Any) -> None:
    """Write other values into the record in a folder, as the package would have written them, with their digest."""
    path = folder / "result.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **values})))


def rewrite_arrays(folder: Path, name: str, **arrays: Any) -> None:
    """Write other arrays into a file of a job, and the file's digest into its record."""
    path = folder / name
    with np.load(path, allow_pickle=False) as held:
        arrays = {**held, **arrays}
    np.savez(path, **arrays)
    rewrite(folder, files={**record_of(folder)["files"], name: hashlib.sha256(path.read_bytes()).hexdigest()})


def record_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def relevant_of(folder: Path) -> list[int]:
    with np.load(folder / "selection.npz", allow_pickle=False) as saved:
        return np.flatnonzero(saved["weights"].any(1)).tolist()


def looks_at_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each selection of a job, at which another must not get the lock."""
    select, looks = Subject.select, []

    def looking(*given: Any) -> Any:
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
        looks.append(1)
        return select(*given)

    monkeypatch.setattr(Subject, "select", looking)
    return looks
