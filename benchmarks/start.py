"""How long a command takes to begin: python benchmarks/start.py (make bench-start).

Prints Markdown tables: the seconds to the end of what ends at once (the help, a mistake in the options), and to the
first line of a job whose network is in the store, beside importing torch and Lightning alone; and what a job of
interpret.py imports until then. Each command is a process of its own; they take turns, and the median of runs counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from measuring import table

ROOT = Path(__file__).parents[1]
SCRIPTS = ("interpret.py", "train.py", "sweeps/tipping_point.py", "sweeps/fewest_filters.py")
SHOWN = 12  # packages


def seconds_to_first_line(command: Sequence[str]) -> float:
    """The seconds from a command to its first line; the rest of it is cut short."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.readline()
        taken = time.perf_counter() - start
        process.kill()
    return taken


def seconds_to_end(command: Sequence[str]) -> float:
    """The seconds from a command to its end."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - start


def python(*words: str) -> list[str]:
    """A command line of this Python."""
    return [sys.executable, *words]


def ending() -> dict[str, list[str]]:
    """What ends at once."""
    commands = {
        "import torch": python("-c", "import torch"),
        "import torch, pytorch_lightning": python("-c", "import torch, pytorch_lightning"),
    }
    commands |= {f"{script} --help": python(script, "--help") for script in SCRIPTS}
    return commands | {"interpret.py -m mu=1,2 nosuch=3": python("interpret.py", "-m", "mu=1,2", "nosuch=3")}


def job(script: str, name: str, folder: Path, store: str = "store") -> list[str]:
    """A small job on some data, whose network is looked for in a store of the folder."""
    small = ["model.filters=8", "curve.points=1", "curve.images=50", "visualize=off", "tracking=off", "resume=false"]
    places = [f"store.dir={folder / store}", f"hydra.run.dir={folder / name}"]
    return python(script, f"data={name}", *small, *places)


def rows(ends: Mapping[str, Sequence[str]], begins: Mapping[str, Sequence[str]], runs: int) -> Iterator[Sequence[str]]:
    """What each command takes."""
    taken: dict[str, list[float]] = {name: [] for name in (*ends, *begins)}
    for _ in range(runs):
        for name, command in ends.items():
            taken[name].append(seconds_to_end(command))
        for name, command in begins.items():
            taken[name].append(seconds_to_first_line(command))
    for name, each in taken.items():
        where = "its first line" if name in begins else "its end"
        yield f"`{name}`", where, f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}"


def imported(command: Sequence[str]) -> dict[str, float]:
    """The seconds that the modules of each package take to be imported, by themselves, until a job's first line; the
    slowest first."""
    with tempfile.TemporaryFile("w+") as said:
        timed = [command[0], "-X", "importtime", *command[1:]]
        with subprocess.Popen(timed, cwd=ROOT, stdout=subprocess.PIPE, stderr=said) as process:
            assert process.stdout
            process.stdout.readline()
            process.kill()
        said.seek(0)
        lines = re.findall(r"^import time: +(\d+) \| +\d+ \| +([\w.]+)$", said.read(), re.MULTILINE)
    taken: dict[str, float] = {}
    for microseconds, module in lines:
        package = module.partition(".")[0]
        package = "Python's own" if package in sys.stdlib_module_names else package
        taken[package] = taken.get(package, 0) + int(microseconds) / 1e6
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each command, whose median counts")
    own = Path(os.environ.get("TIPPING_DATA", "data"))
    parser.add_argument("--data", type=Path, default=own, help="folder of MNIST, left out where it is not")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    os.environ["TIPPING_DATA"] = str(arguments.data.absolute())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start")
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), ["digits", *(["mnist"] if (arguments.data / "MNIST").is_dir() else [])]
        stored = {f"{script} data={one}": job(script, one, folder) for script in SCRIPTS[:2] for one in data}
        for command in stored.values():
            subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        trained = {"interpret.py data=digits, to be trained": job("interpret.py", "digits", folder, "empty")}
        columns = ("command", "until", "seconds", "runs")
        table("From the command on", columns, rows(ending(), stored | trained, arguments.runs))
        for one in data:
            taken = imported(stored[f"interpret.py data={one}"])
            lines = [(package, f"{taken[package]:.2f}") for package in list(taken)[:SHOWN]]
            lines.append(("all", f"{sum(taken.values()):.2f}"))
            table(f"Imports until the first line of `interpret.py data={one}`", ("package", "seconds"), iter(lines))


if __name__ == "__main__":
    main()
