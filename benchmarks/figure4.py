"""Where the time of the report's Figure 4 goes: make bench-figure4, or python benchmarks/figure4.py SWEEP_DIR.

The folder is of a multirun of interpret.py over mu, of one network that it trained itself. Prints Markdown tables: the
seconds of each stage, the arithmetic it does, and what fraction that is of the device's speed in a large product of
matrices, measured here; and what each further mu takes besides its ablated passes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import operations, product_speed, table, timed
from torch import nn
from torch.nn import functional

from tipping import data
from tipping.ablation import evaluate_ablations
from tipping.data import Dataset
from tipping.errors import InputError
from tipping.experiment import records
from tipping.experiment.data_options import DataOptions
from tipping.experiment.network import pick_device
from tipping.experiment.record import InterpretRecord
from tipping.network import Filters, build, evaluating, load_checkpoint
from tipping.results import tables
from tipping.selection import collect

ROOT = Path(__file__).parents[1]
COUNTED = 64  # images whose arithmetic is counted, for all
STAGES = ("network", "responses", "selection", "ablation")
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is timed


class Stage(NamedTuple):
    """A stage of the sweep: its seconds, its floating-point operations, and their precision."""

    name: str
    seconds: float
    operations: float = 0
    precision: str = "float32"


class Job(NamedTuple):
    """A job's folder, record, and seconds from its beginning to its record."""

    folder: Path
    record: InterpretRecord
    seconds: float


def jobs_of(sweep: Path) -> list[Job]:
    """The jobs of a multirun, in order.

    Raises:
        InputError: they are not all there, or not of one network over mu under one of Figure 4's protocols.
    """
    found, missing = tables.read_records(sweep, InterpretRecord)
    jobs = [Job(sweep / record.job, record, _seconds(sweep / record.job)) for record in found]
    protocols = {record.protocol["name"] for record in found}
    networks = [record.made["network"] for record in found]
    if missing or len(protocols) != 1 or not protocols <= {"keras_report", "described"}:
        raise InputError(f"{sweep}: give the folder of a whole multirun over mu, under keras_report or described")
    if networks != [True] + [False] * (len(jobs) - 1) or min(job.seconds for job in jobs) < 0:
        raise InputError(f"{sweep}: its first job has to train the network, and no job to be of an earlier run")
    return jobs


def _seconds(folder: Path) -> float:
    start, end = ((folder / name).stat().st_mtime for name in (".hydra/overrides.yaml", records.RECORD))
    return end - start


def network(record: InterpretRecord, dataset: Dataset) -> nn.Module:
    """The sweep's network, from its store.

    Raises:
        InputError: it is not there.
    """
    model = build(record.model, dataset.image_shape, len(dataset.classes), record.seed)
    path = Path(record.config["store"]["dir"], "networks", f"{record.store['network']}.pt")
    if not path.is_file():
        raise InputError(f"{path} is not there: run this from the folder where the sweep ran")
    load_checkpoint(model, str(path))
    return model.to(dataset.train.labels_N.device).eval()


def stages(jobs: Sequence[Job], dataset: Dataset, model: nn.Module) -> Iterator[Stage]:
    """Of the command and of all its jobs."""
    first, few, images = jobs[0].record, dataset.train[:COUNTED], len(dataset.train)
    trainer, scope = first.config["trainer"], first.protocol["scope"]
    seconds = {stage: sum(job.record.seconds[stage] for job in jobs) for stage in STAGES}
    ablations, filters = [list(ablated(job.folder)) for job in jobs], Filters.of(model, few[:1].images_NCHW)

    def step() -> None:
        torch.autograd.backward(functional.cross_entropy(model.train()(few.images_NCHW), few.labels_N))

    def evaluate() -> None:
        for sets in ablations:
            evaluate_ablations(filters, dataset.test[:COUNTED], sets, scope=scope)

    command = [sys.executable, str(ROOT / "interpret.py"), "--cfg", "job"]
    yield Stage("the command starts", timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))[1])
    trained = operations(step) / COUNTED * images * trainer["max_epochs"]
    yield Stage("training", seconds["network"], trained, trainer["precision"])
    model.eval()
    collected = operations(lambda: collect(filters, few)) / COUNTED * images
    yield Stage("responses and Gram matrix", seconds["responses"], collected)
    yield Stage(f"selection, {len(jobs)} times", seconds["selection"])
    evaluated = operations(evaluate) / COUNTED * len(dataset.test)
    yield Stage(f"{sum(map(len, ablations))} ablations", seconds["ablation"], evaluated)
    yield Stage("all else of the jobs", sum(job.seconds for job in jobs) - sum(seconds.values()))
    ends = (jobs[-1].folder / records.RECORD, jobs[0].folder.parent / "report.html")
    last, page = (path.stat().st_mtime for path in ends)
    yield Stage("table, chart and page", page - last)


def ablated(folder: Path) -> Iterator[np.ndarray]:
    """The filters that a job ablated: the relevant ones, and each control."""
    with np.load(folder / records.SELECTION) as held:
        yield held["order"]
        yield from held["controls"]


def shares(found: Sequence[Stage], device: torch.device) -> Iterator[Sequence[Any]]:
    """Rows of the table of stages."""
    total = sum(stage.seconds for stage in found)
    speeds = {
        kind: product_speed(kind, device, SIDE[device.type])
        for kind in dict.fromkeys(stage.precision for stage in found)
    }
    for stage in found:
        row = (stage.name, f"{stage.seconds:.1f}", f"{100 * stage.seconds / total:.0f} %")
        if stage.operations:
            rate = stage.operations / stage.seconds
            yield *row, stage.operations / 1e12, rate / 1e12, f"{100 * rate / speeds[stage.precision]:.0f} %"
        else:
            yield *row, "", "", ""
    yield "**all**", f"{total:.1f}", "100 %", "", "", ""
    for kind, rate in speeds.items():
        yield f"a product of matrices in {kind}", "", "", "", rate / 1e12, "100 %"


def further(jobs: Sequence[Job]) -> Iterator[Sequence[Any]]:
    """Rows of the table of the mu after the first, with what is known before them."""
    for job in jobs[1:]:
        seconds = job.record.seconds
        passes = seconds["ablation"] + seconds["curve"]
        besides = job.seconds - passes
        yield f"{job.record.mu:g}", f"{passes:.1f}", f"{besides:.2f}", f"{seconds['selection']:.2f}"


def main() -> None:
    """Read the sweep, count, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the multirun")
    try:
        jobs = jobs_of(parser.parse_args().sweep)
        record = jobs[0].record
        device = pick_device(record.config["device"])
        dataset = data.load(**DataOptions(**record.config["data"]).place(), device=device)
        model = network(record, dataset)
    except InputError as error:
        parser.error(str(error))
    print(f"{record.device}, torch {torch.__version__}, {record.protocol['name']}")
    with evaluating(model):
        found = list(stages(jobs, dataset, model))
        heads = ("stage", "seconds", "of all", "10¹² operations", "10¹² a second", "of a product's")
        table("Where the time goes", heads, shares(found, device))
    table("Each further mu", ("mu", "ablated passes s", "besides s", "of it, selection s"), further(jobs))


if __name__ == "__main__":
    main()
