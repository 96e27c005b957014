"""One record per job: written whole, gathered into a sweep's table and chart.

``python -m tipping.results SWEEP_DIR`` gathers a sweep again.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from tipping.atomic import replacing
from tipping.config import InputError
from tipping.models import FilterIndex
from tipping.mu_lasso import Solution
from tipping.selection import Selection

log = logging.getLogger(__name__)
SCHEMA = 1
PACKAGES = ("tipping", "torch", "numpy", "pytorch-lightning", "hydra-core", "wandb")
SELECTED, RANDOM, INTACT = "relevant filters", "random filters", "none (intact)"


class Stopwatch:
    """Seconds spent in each stage of a job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs within it."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def versions() -> dict[str, str | None]:
    """Versions of Python and the main packages, and the commit when run from a git checkout."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}, "commit": commit}


def filters(index: FilterIndex, order_K: np.ndarray, dead_F: np.ndarray) -> dict[str, Any]:
    """How many filters the network has, how many never respond, and how many are relevant, also by layer."""
    counts = np.bincount(index.layer_F[order_K], minlength=len(index.layers)).tolist()
    return {
        "total": len(index.layer_F),
        "dead": int(dead_F.sum()),
        "relevant": len(order_K),
        "per_layer": dict(zip(index.layers, counts, strict=True)),
    }


def certificate(solution: Solution) -> dict[str, Any]:
    """The relative duality gap of every class, and whether each is at or under the tolerance."""
    return {
        "relative_gap": solution.relative_gap_MC[0].tolist(),
        "certified": bool(solution.certified_MC.all()),
        "iterations": solution.iterations,
    }


def relevant_filters(index: FilterIndex, selection: Selection) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of relevant filters, strongest first: layer, channel, weight of each class."""
    weights_KC = selection.weights_FC[selection.order_K]
    columns = ["layer", "channel", *(f"class {c}" for c in range(weights_KC.shape[1]))]
    rows = [
        [index.layers[index.layer_F[f]], int(index.channel_F[f]), *weights_C.tolist()]
        for f, weights_C in zip(selection.order_K, weights_KC, strict=True)
    ]
    return columns, rows


def sentence(record: dict[str, Any]) -> str:
    """A job's result in one line."""
    accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
    certificate = "certified" if selection["certified"] else "NOT certified"
    return (
        f"mu={record['mu']:g}: {filters['relevant']} of {filters['total']} filters relevant "
        f"({certificate}, relative gap {max(selection['relative_gap']):.0e}); test accuracy "
        f"{100 * accuracy['intact']:.2f} % intact, {100 * accuracy['selected']:.2f} % without them, "
        f"{100 * float(np.mean(accuracy['random'])):.2f} % without as many random ones"
    )


def write(directory: Path, record: dict[str, Any], weights_FC: np.ndarray, index: FilterIndex) -> None:
    """Write a job's ``selection.npz`` (W, layer and channel of each filter), then its ``result.json``."""
    with replacing(directory / "selection.npz") as part, part.open("wb") as file:
        np.savez(file, weights=weights_FC, layer=np.array(index.layers)[index.layer_F], channel=index.channel_F)
    with replacing(directory / "result.json") as part:
        part.write_text(json.dumps({"schema": SCHEMA, **record}, indent=1, allow_nan=False) + "\n")


def collect(sweep: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of a sweep's jobs, each under its job's name, and the names of jobs without a readable one.

    Raises:
        InputError: the folder is missing or holds no job.
    """
    if not sweep.is_dir():
        raise InputError(f"{sweep}: no such folder; give the folder of a sweep")
    jobs = sorted((path.parent for path in sweep.glob("*/.hydra")), key=lambda path: (len(path.name), path.name))
    if not jobs:
        raise InputError(f"{sweep} holds no jobs; give the folder of a sweep")
    records, missing = [], []
    for job in jobs:
        try:
            record = json.loads((job / "result.json").read_text())
            _row({"job": job.name, **record}, [])
            records.append({"job": job.name, **record})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            missing.append(job.name)
    return records, missing


def gather(sweep: Path) -> list[str]:
    """Write a sweep's ``results.csv`` and ``accuracy_drop.png`` and print its table.

    Returns:
        the names of jobs without a readable record.
    """
    records, missing = collect(sweep)
    if records:
        rows = [_row(record, _varying(records)) for record in records]
        with replacing(sweep / "results.csv") as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with replacing(sweep / "accuracy_drop.png") as part:
            chart(records).save(part, format="png", scale_factor=2)
        _print_table(rows, _varying(records))
        print(f"\n{sweep / 'results.csv'}\n{sweep / 'accuracy_drop.png'}")
    if missing:
        print(f"no readable result.json: job {', '.join(missing)} of {sweep}", file=sys.stderr)
    return missing


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _varying(records: Sequence[dict[str, Any]]) -> list[str]:
    """The options that differ between jobs, but for mu and seed: what tells their networks apart."""
    configs = [_flat(record["config"]) for record in records]
    keys = dict.fromkeys(key for config in configs for key in config)
    different = [key for key in keys if len({json.dumps(config.get(key)) for config in configs}) > 1]
    return [key for key in different if key not in ("mu", "seed", "model._target_")]


def _row(record: dict[str, Any], varying: Sequence[str]) -> dict[str, Any]:
    accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
    config = _flat(record["config"])
    return {
        "job": record["job"],
        "data": record["data"],
        "model": record["model"]["name"],
        **{key: config.get(key, "") for key in varying if key not in ("data.name", "model.name")},
        "protocol": record["protocol"]["name"],
        "seed": record["seed"],
        "mu": record["mu"],
        "filters": filters["total"],
        "dead": filters["dead"],
        "relevant": filters["relevant"],
        "intact": accuracy["intact"],
        "selected": accuracy["selected"],
        "random_mean": float(np.mean(accuracy["random"])),
        "random_min": min(accuracy["random"]),
        "random_max": max(accuracy["random"]),
        "relative_gap": max(selection["relative_gap"]),
        "certified": selection["certified"],
        "seconds": round(sum(record["seconds"].values()), 1),
    }


def _print_table(rows: Sequence[dict[str, Any]], varying: Sequence[str]) -> None:
    shown = ["model", *(key for key in varying if key in rows[0]), "seed", "mu", "relevant"]
    shown += ["intact", "selected", "random_mean", "certified"]
    titles = {"relevant": "ablated", "intact": "intact %", "selected": "relevant %", "random_mean": "random %"}
    cells = [[titles.get(key, key) for key in shown]]
    for row in rows:
        percent = {key: f"{100 * row[key]:.2f}" for key in ("intact", "selected", "random_mean")}
        percent |= {"relevant": f"{row['relevant']} of {row['filters']}", "mu": f"{row['mu']:g}"}
        cells.append([str(percent.get(key, row[key])) for key in shown])
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown))]
    print("\nTest accuracy intact, with the relevant filters ablated, and with as many random ones\n")
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def chart(records: Sequence[dict[str, Any]]) -> alt.VConcatChart:
    """Accuracy against mu, and along each job's filters; one row for each network, lines meaned over seeds."""
    by_network: dict[str, list[dict[str, Any]]] = {}
    varying = _varying(records)
    for record in records:
        config = _flat(record["config"])
        options = [f"{key} {config[key]}" for key in varying if key in config and key != "model.name"]
        by_network.setdefault(", ".join([record["model"]["name"], *options]), []).append(record)
    rows = [
        alt.hconcat(_by_mu(jobs), _by_filters(jobs)).properties(title=alt.Title(network, fontSize=14))
        for network, jobs in by_network.items()
    ]
    return alt.vconcat(*rows).configure_axis(labelFontSize=12, titleFontSize=12).configure_view(strokeWidth=0)


_COLOR = alt.Color("ablated:N").title("ablated").scale(domain=[SELECTED, RANDOM, INTACT], range=["#c1272d", "#0067a5", "#888888"])
_ACCURACY = alt.Y("accuracy:Q").title("test accuracy").scale(domain=[0, 1]).axis(format="%")


def _by_mu(records: Sequence[dict[str, Any]]) -> alt.LayerChart:
    values = [
        {"mu": record["mu"], "ablated": kind, "accuracy": value}
        for record in records
        for kind, accuracies in (
            (SELECTED, [record["accuracy"]["selected"]]),
            (RANDOM, record["accuracy"]["random"]),
            (INTACT, [record["accuracy"]["intact"]]),
        )
        for value in accuracies
    ]
    base = alt.Chart(alt.Data(values=values), width=360, height=260).encode(
        x=alt.X("mu:Q").title("mu (log scale)").scale(type="log"), color=_COLOR
    )
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("min(accuracy):Q"), y2="max(accuracy):Q")
    line = base.mark_line(point=True).encode(y=_ACCURACY.aggregate("mean"))
    return alt.layer(band, line)


def _by_filters(records: Sequence[dict[str, Any]]) -> alt.LayerChart:
    values = [
        {"job": record["job"], "removed": removed, "ablated": kind, "accuracy": value}
        for record in records
        for kind, lines in ((SELECTED, [record["curve"]["selected"]]), (RANDOM, record["curve"]["random"]))
        for line in lines
        for removed, value in zip(record["curve"]["removed"], line, strict=True)
    ]
    base = alt.Chart(alt.Data(values=values), width=360, height=260).encode(
        x=alt.X("removed:Q").title("filters ablated, strongest first (a line for each job)"), color=_COLOR, detail="job:N"
    )
    return alt.layer(base.mark_line(point=True, opacity=0.7).encode(y=_ACCURACY.aggregate("mean")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather a sweep from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tipping.results", description=gather.__doc__)
    parser.add_argument("sweep", type=Path, metavar="SWEEP_DIR", help="the folder of a multirun")
    try:
        return 1 if gather(parser.parse_args(arguments).sweep) else 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
