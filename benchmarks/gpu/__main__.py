"""Turns minutes of a borrowed GPU into rows: make gpu OUT=folder MINUTES=9; docs/gpu.md says what comes of it.

Each stage is a process of its own, with a share of the time that is left: one that fails, hangs or is cut off loses
neither its finished rows nor the others' time.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpu import summary
from gpu.work import SIZES, OutOfTime, Work, using, versions
from tipping.command.line import Arguments
from tipping.errors import InputError, require_positive
from tipping.experiment.store import Store

LOG = "log.txt"
LEFT, CUT = "some left for want of time", "cut off"
LATE, UNFINISHED = 5, 75  # seconds after its end at which a stage is killed; its exit code where rows are left


class Stage(NamedTuple):
    """A stage: its module, its share of the time, and the seconds under which the full size does nothing."""

    name: str
    share: float
    least: float


STAGES = (  # in the order of their worth
    Stage("right", 0.2, 30),
    Stage("answer", 0.35, 40),
    Stage("selectors", 0.15, 40),
    Stage("stages", 0.1, 30),
    Stage("selecting", 0.1, 15),
    Stage("widths", 0.1, 20),
)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        InputError: it cannot be understood, or the device is not there.
    """
    parser = Arguments(prog="python -m gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows; where it has some, they go on")
    parser.add_argument("--minutes", type=float, default=9, help="of all stages together; default: 9")
    parser.add_argument(
        "--device", choices=["cuda", "cpu", "card"], default="cuda", help="card: the tests' pretended one"
    )
    parser.add_argument("--size", choices=list(SIZES), help="default: full on cuda, tiny elsewhere")
    parser.add_argument("--stages", default=",".join(stage.name for stage in STAGES), help="some of them, with commas")
    parser.add_argument("--store", type=Path, default="artifacts", help="folder of networks; default: artifacts")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of a stage's own process
    given = parser.parse_args(arguments)
    given.size = given.size or ("full" if given.device == "cuda" else "tiny")
    given.stages = given.stages.split(",")
    if unknown := set(given.stages) - {stage.name for stage in STAGES}:
        raise InputError(
            f"STAGES={','.join(sorted(unknown))}: give some of {', '.join(stage.name for stage in STAGES)}"
        )
    require_positive("MINUTES", given.minutes)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise InputError("make gpu: this machine has no GPU that torch can use; DEVICE=cpu tries it in tiny sizes")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all stages, or one in its own process."""
    try:
        given = parsed(arguments)
        return conduct(given) if given.until is None else run_stage(given)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def run_stage(given: argparse.Namespace) -> int:
    """One stage, in this process: 0 when nothing is left to do, `UNFINISHED` for want of time."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    stage = importlib.import_module(f"gpu.{given.stages[0]}")
    with using(given.device) as device:
        try:
            stage.run(Work(given.out, device, SIZES[given.size], given.until, Store(given.store)))
        except OutOfTime:
            return UNFINISHED
    return 0


def conduct(given: argparse.Namespace) -> int:
    """Run the stages one after another, each in a process of its own; then those go on that have more to do.

    Returns:
        1 if one failed, or what it computes is not right.

    Raises:
        InputError: the folder holds rows of another size.
    """
    end = time.time() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    noted = begin(given)
    done: list[dict[str, Any]] = noted["calls"][-1]["stages"]
    chosen = [stage for stage in STAGES if stage.name in given.stages]
    for number, stage in enumerate(chosen):
        share = stage.share / sum(other.share for other in chosen[number:])
        done.append(take_turn(stage, given, time.time() + share * (end - time.time())))
        summary.write(given.out, noted)
    for stage in chosen:
        first = next(one for one in done if one["stage"] == stage.name)
        if first["ended"] in (LEFT, CUT) and end - time.time() >= least(stage, given):
            done.append(take_turn(stage, given, end))
            summary.write(given.out, noted)
    print((given.out / summary.PAGE).read_text())
    return int(any(one["ended"].startswith("failed") for one in done) or bool(summary.wrong(given.out)))


def begin(given: argparse.Namespace) -> dict[str, Any]:
    """The notes of a folder, with this call added."""
    noted = summary.read_calls(given.out)
    if noted["calls"] and noted["size"] != given.size:
        raise InputError(f"OUT={given.out} holds rows of the {noted['size']} size: give another folder")
    all_versions = {**versions(), "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    described = {"device": device_name(given.device), "size": given.size, "versions": all_versions}
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    call = {**described, "began": began, "minutes": given.minutes, "stages": []}
    return {**described, "calls": [*noted["calls"], call]}


def least(stage: Stage, given: argparse.Namespace) -> float:
    """Seconds under which a stage does nothing."""
    return stage.least if given.size == "full" else 1.0


def take_turn(stage: Stage, given: argparse.Namespace, until: float) -> dict[str, Any]:
    """Run one stage in a process of its own, and say how it ended."""
    start = time.time()
    if until - start < least(stage, given):
        return _ended(stage, start, f"left out: {until - start:.0f} s are too few, it takes {least(stage, given):.0f}")
    command = [sys.executable, "-m", "gpu", "--stages", stage.name, "--until", str(until)]
    for option in ("out", "device", "size", "store"):
        command += [f"--{option}", str(getattr(given, option))]
    with (given.out / LOG).open("ab") as log:
        log.write(f"\n--- {stage.name}\n".encode())
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=max(1.0, until + LATE - time.time()))
        except subprocess.TimeoutExpired:
            return _ended(stage, start, CUT)
        finally:  # also when this process is stopped; what it started may hold the card
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for part in given.out.glob(".*.part"):  # of a file that it was writing
                part.unlink()
    if code == UNFINISHED:
        return _ended(stage, start, LEFT)
    return _ended(stage, start, "done" if code == 0 else f"failed: {_last_line(given.out / LOG)}")


def _ended(stage: Stage, start: float, how: str) -> dict[str, Any]:
    seconds = time.time() - start
    print(f"{stage.name}: {how} ({seconds:.0f} s)", flush=True)
    return {"stage": stage.name, "seconds": round(seconds, 1), "ended": how}


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def device_name(device: str) -> str:
    """What computes, with its driver."""
    if device != "cuda":
        return f"{device} ({torch.get_num_threads()} threads)"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return torch.cuda.get_device_name()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
