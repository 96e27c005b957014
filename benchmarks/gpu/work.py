"""What each stage is given, and the rows it writes."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from tipping import data
from tipping.data import Dataset
from tipping.experiment import config
from tipping.experiment.network import pick_device
from tipping.experiment.store import Store
from tipping.experiment.versions import describe
from tipping.experiment.versions import versions as code_versions
from tipping.files import replacing

ROOT = Path(__file__).parents[2]
CONF = config.presets()
CARRIED = ROOT / "build" / "carry" / "code.json"  # of benchmarks/gpu/carry.sh


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        network: options of the report's network, beside its dropout and seed.
        mu: at which the report's network is interpreted.
        seeds: networks aimed at, of each dropout.
        images: at most so many for training, and for testing, where a device is held against the CPU; all for 0.
        protocols: what is compared there, with the options of the networks.
        tests: files of tests that are run; all that take a device, if empty.
        problems: filters and classes of the mu-lassos that are timed.
        widths: filters a layer of the map.
        contest: options of the contests of selectors.
    """

    network: tuple[str, ...]
    mu: tuple[float, ...]
    seeds: int
    images: tuple[int, int]
    protocols: Mapping[str, tuple[str, ...]]
    tests: tuple[str, ...]
    problems: tuple[tuple[int, int], ...]
    widths: tuple[int, ...]
    contest: tuple[str, ...]


SMALL = ("model.filters=16", "trainer.max_epochs=1")
FULL = Size(
    network=("model.filters=128", "trainer.max_epochs=5", "trainer.precision=bf16"),
    mu=(10, 30, 60, 100, 150, 200, 300, 500, 600, 700, 1000, 1500),
    seeds=10,
    images=(4000, 2000),
    protocols={
        "described": SMALL,
        "keras_report": SMALL,
        "authors": SMALL,
        "matconvnet_report": ("model=matconvnet", "trainer.max_epochs=1"),
    },
    tests=(),
    problems=((512, 10), (1024, 100), (2048, 300), (4096, 1000)),
    widths=(8, 16, 32, 64, 128, 256),
    contest=(),
)
FEW = ("data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=2")
TINY = Size(
    network=FEW,
    mu=(0.1, 0.5, 2),
    seeds=2,
    images=(300, 200),
    protocols=dict.fromkeys(FULL.protocols, FEW),
    tests=("tests/ablation/test_masks.py",),
    problems=((40, 3), (80, 5)),
    widths=(2, 4),
    contest=("mu=2", "protocol.draws=2", "arena.selectors=[mu_lasso,l1]", "arena.images=100", "data.responses=200"),
)
SIZES = {"full": FULL, "tiny": TINY}


@dataclass(frozen=True)
class Work:
    """A stage's: where it computes, how much, until when, and where its rows go.

    Attributes:
        until: in seconds, as `time.time` gives them.
    """

    out: Path
    device: torch.device
    size: Size
    until: float
    store: Store

    def left(self) -> float:
        """Seconds left."""
        return self.until - time.time()

    def options(self, *overrides: str, name: str = "config") -> config.Config:
        """The options of a job, as its command line would give them; `name` is that of the presets' first file."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            plain = ["tracking=off", "visualize=off", "curve.points=4", "selection=homotopy", f"device={self._option}"]
            return config.parse(compose(name, [*plain, *overrides]))

    def described(self, options: config.Config) -> dict[str, Any]:
        """What the record of a job begins with."""
        return {**describe(options, self.device, CONF), "versions": versions()}

    def dataset(self, options: config.Config) -> Dataset:
        """All images of a job, on the device."""
        return data.load(options.data.name, options.data.root, self.device)

    @property
    def _option(self) -> str:
        return "cuda" if self.device.type == "cuda" else "cpu"

    @property
    def made_by(self) -> dict[str, str]:
        """What decides how fast and how right a row is: what computes, and the code, also of tests and benchmarks."""
        return {"device": self._name, "code": f"{versions()['code'][:8]}-{_beside()}"}

    @property
    def _name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"


class OutOfTime(Exception):
    """A stage has rows left to make."""


class Pace:
    """Whether a further piece of work fits into what is left, by the slowest of its kind so far, for its size, in this
    call or an earlier one with the same store.

    The first is always tried: what runs beyond the end is killed, and loses no row.

    Args:
        kind: of the pieces, a name.
    """

    def __init__(self, work: Work, kind: str) -> None:
        self.work, self.kind = work, f"{kind} on {work.made_by['device']}"
        self.path = work.store.folder / ".paces.json"
        self.slowest: float = self._noted().get(self.kind, 0.0)  # seconds for a size of 1

    def _noted(self) -> dict[str, float]:
        return dict(json.loads(self.path.read_text())) if self.path.is_file() else {}

    @contextmanager
    def piece(self, size: float = 1.0) -> Iterator[None]:
        """Work of some size; of none, it is tried in any case.

        Raises:
            OutOfTime: it does not fit.
        """
        if self.work.left() < self.slowest * size:
            raise OutOfTime
        start = time.time()
        yield
        seconds = time.time() - start
        self.slowest = max(self.slowest, seconds / size if size else 0.0)
        print(f"{self.kind}: {seconds:.1f} s", flush=True)
        noted = self._noted() | {self.kind: self.slowest}
        with replacing(self.path) as part:
            part.write_text(json.dumps(noted))


class Rows:
    """The rows of a CSV file, which holds each of them from the moment it is added.

    Args:
        columns: those of the file; by default those of the rows.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path, self.columns = path, list(columns)
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Add rows, all of them or none."""
        self.rows += [dict(row) for row in rows]
        columns = self.columns or list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def having(self, **values: object) -> list[dict[str, Any]]:
        """The rows with some values."""
        return [row for row in self.rows if all(str(row.get(key)) == str(value) for key, value in values.items())]


@cache
def versions() -> dict[str, Any]:
    """Of Python, the packages and the code; the commit also where there is no git, if it was carried along and the code
    is still its own."""
    found = code_versions(CONF)
    if found["commit"] is None and CARRIED.is_file():
        carried = json.loads(CARRIED.read_text())
        found = {**found, "commit": carried["commit"] if carried["code"] == found["code"] else None}
    return found


@cache
def _beside() -> str:
    """A hash of the tests and of these benchmarks."""
    content = hashlib.sha256()
    for path in sorted([*(ROOT / "tests").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]):
        content.update(f"{path.relative_to(ROOT)} {path.stat().st_size} ".encode() + path.read_bytes())
    return content.hexdigest()[:8]


def columns_of(published: str) -> list[str]:
    """The columns of a published table, by its name under docs/results."""
    with (ROOT / "docs" / "results" / f"{published}.csv").open(newline="") as file:
        return next(csv.reader(file))


def spread(dataset: Dataset, images: tuple[int, int]) -> Dataset:
    """At most so many training and test images of a data set, evenly spread."""
    return replace(dataset, train=dataset.train.spread(images[0]), test=dataset.test.spread(images[1]))


@contextmanager
def using(device: str) -> Iterator[torch.device]:
    """A device by its name: cuda, cpu, or the pretended card of the tests.

    Raises:
        InputError: it is not there.
    """
    if device != "card":
        yield pick_device(device)
        return
    sys.path.insert(0, str(ROOT / "tests"))
    import card  # of the tests

    with card.plugged_in() as there:
        yield there
