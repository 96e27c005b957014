"""One record per job: written whole, gathered into a sweep's table and chart.

``python -m tipping.results SWEEP_DIR`` gathers a sweep again; ``--against report`` compares it with the report.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from tipping import comparison, config
from tipping.atomic import replacing
from tipping.charts import accuracy_drop, flat, varying_options
from tipping.config import InputError
from tipping.controls import MATCHES
from tipping.data import Split
from tipping.evaluation import DropCurve
from tipping.layers import FilterIndex, Probe
from tipping.selection import Selection

SCHEMA = 5
RECORD, SELECTION, PREDICTIONS = "result.json", "selection.npz", "predictions.npz"
TABLE, CHART = "results.csv", "accuracy_drop.png"
NAMED = {"data.name": "data", "model.name": "model", "protocol.name": "protocol", "randomize": "randomize"}
NAMED |= {f"protocol.{axis}": axis for axis in ("dense", *config.AXES)}  # options with a column of their own
ALWAYS = ("model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "trainer.precision")  # in each table
PACKAGES = ("tipping", "torch", "numpy", "pytorch-lightning", "hydra-core", "wandb")


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


def describe(options: config.Config, device: torch.device, conf: Path) -> dict[str, Any]:
    """What any record begins with: what was run, and on what.

    Args:
        conf: the folder of the presets.
    """
    cpu = f"cpu, {torch.get_num_threads()} threads"
    return {
        "schema": SCHEMA,
        "config": asdict(options),
        "mu": options.mu,
        "seed": options.seed,
        "model": options.model,
        "data": options.data.name,
        "protocol": {**asdict(options.protocol), "name": _full_name(options.protocol, conf)},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "versions": _versions(),
    }


def _full_name(protocol: config.Protocol, conf: Path) -> str:
    """A preset's name with the axes that were set otherwise, such as ``described, control=live``."""
    path = conf / "protocol" / f"{protocol.name}.yaml"
    if not path.is_file():
        return protocol.name
    preset: Any = OmegaConf.load(path)
    preset = preset.get("protocol", preset)
    axes = [axis for axis in ("dense", *config.AXES) if getattr(protocol, axis) != preset[axis]]
    return ", ".join([protocol.name, *sorted(f"{axis}={str(getattr(protocol, axis)).lower()}" for axis in axes)])


def _versions() -> dict[str, str | None]:
    """Versions of Python and the main packages, and the commit when run from a git checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    packages = {name: version(name) for name in PACKAGES}
    return {"python": sys.version.split()[0], **packages, "commit": commit if (root / ".git").exists() else None}


def filters(index: FilterIndex, selection: Selection) -> dict[str, Any]:
    """How many filters the network has, how many never respond, are relevant, and are ablated, these also by layer,
    and how many of these each control has too."""
    counts = np.bincount(index.layer_F[selection.order_K], minlength=len(index.layers)).tolist()
    return {
        "total": len(index.layer_F),
        "dead": int((~selection.live_F).sum()),
        "relevant": int(selection.relevant_F.sum()),
        "ablated": len(selection.order_K),
        "shared": [len(np.intersect1d(selection.order_K, control)) for control in selection.controls],
        "per_layer": dict(zip(index.layers, counts, strict=True)),
    }


def certificate(selection: Selection) -> dict[str, Any]:
    """Of every class: the relative duality gap, whether its support is the only one, the solver's iterations, and the
    share of its variance that the weights explain, that any weights could, and that noise would seem to."""
    solution = selection.solution
    return {
        "relative_gap": solution.relative_gap_MC[0].tolist(),
        "certified": bool(solution.certified_MC.all()),
        "unique": solution.unique_MC[0].tolist(),
        "iterations": solution.iterations_MC[0].tolist(),
        "explained": selection.explained_C.tolist(),
        "explainable": selection.explainable_C.tolist(),
        "explainable_by_noise": selection.noise,
    }


def relevant_filters(probe: Probe, selection: Selection) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of relevant filters, strongest first: layer, channel, where it was measured, and
    the weight of each class."""
    layer_R, channel_R, map_R = _of_responses(probe)
    columns = ["layer", "channel", "maps", *(f"class {c}" for c in range(selection.weights_RC.shape[1]))]
    strongest = np.argsort(-selection.strength_F[probe.filter_R], kind="stable")
    rows = [
        [layer_R[r], int(channel_R[r]), map_R[r], *selection.weights_RC[r].tolist()]
        for r in strongest
        if selection.weights_RC[r].any()
    ]
    return columns, rows


def _of_responses(probe: Probe) -> tuple[list[str], np.ndarray, list[str]]:
    """Layer and channel of the filter of each response, and the submodule whose maps were measured."""
    index = probe.index
    sizes = np.bincount(index.layer_F)
    layer_R = [index.layers[index.layer_F[f]] for f in probe.filter_R]
    map_R = [module for layer, module in probe.maps for _ in range(sizes[index.layers.index(layer)])]
    return layer_R, index.channel_F[probe.filter_R], map_R


def sentence(record: dict[str, Any]) -> str:
    """A job's result in one line."""
    accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
    protocol, overlap = record["protocol"], record["overlap"]
    certificate = "certified" if selection["certified"] else "NOT certified"
    certificate += "" if all(selection["unique"]) else ", others may do as well"
    only = "" if filters["ablated"] == filters["relevant"] else f", {filters['ablated']} of them ablated"
    text = (
        f"{protocol['name']}, mu={record['mu']:g}: {filters['relevant']} of {filters['total']} filters relevant{only} "
        f"({certificate}, relative gap {max(selection['relative_gap']):.0e}); {protocol['evaluated_on']} accuracy "
        f"{100 * accuracy['intact']:.2f} % intact, {100 * accuracy['selected']:.2f} % without them, "
        f"{100 * float(np.mean(accuracy['random'])):.2f} % without {MATCHES[protocol['control']]}"
    )
    if max(selection["explainable"]) <= selection["explainable_by_noise"]:
        text += "; but nothing is relevant: no class is explained better than by noise"
    if overlap and overlap["jaccard"] is not None:
        shared, low, high = (round(100 * share) for share in (overlap["jaccard"], *overlap["jaccard_by_chance"]))
        text += f"; {shared} % overlap with the trained network's ({low} to {high} % by chance)"
    return text


def clear(directory: Path) -> None:
    """Remove what an earlier job left in a directory, so that a job that fails has no record."""
    for name in (RECORD, SELECTION, PREDICTIONS):
        (directory / name).unlink(missing_ok=True)


def write_selection(directory: Path, selection: Selection, probe: Probe) -> None:
    """Write a job's ``selection.npz``: W (R, C), and of each response the layer and channel of its filter, and the
    submodule whose maps were measured."""
    layer_R, channel_R, map_R = _of_responses(probe)
    with replacing(directory / SELECTION) as part, part.open("wb") as file:
        np.savez(file, weights=selection.weights_RC, layer=layer_R, channel=channel_R, maps=map_R)


def write_predictions(
    directory: Path, evaluated: Split, intact_N: np.ndarray, predictions_AN: np.ndarray, images: Split, curve: DropCurve
) -> None:
    """Write a job's ``predictions.npz``: the class predicted for each image, and its label.

    ``intact`` (N,), ``selected`` (N,) and ``random`` (draws, N) for the images evaluated; ``curve`` (orders, points,
    images) for those of the accuracy-drop curve, with the orders selected, weakest and random; ``labels`` and
    ``curve_labels``.
    """
    arrays = {
        "labels": evaluated.labels_N.cpu().numpy().astype(intact_N.dtype),
        "intact": intact_N,
        "selected": predictions_AN[0],
        "random": predictions_AN[1:],
        "curve": curve.predictions_OPN,
        "curve_labels": images.labels_N.cpu().numpy().astype(intact_N.dtype),
    }
    with replacing(directory / PREDICTIONS) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write(directory: Path, record: dict[str, Any]) -> None:
    """Write a job's ``result.json``, its last file."""
    with replacing(directory / RECORD) as part:
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


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
            record = {"job": job.name, **json.loads((job / RECORD).read_text())}
            if record["schema"] != SCHEMA or not record["curve"]["removed"]:
                raise ValueError("of another schema")
            _row(record, [])
            records.append(record)
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
        rows = [_row(record, varying_options(records)) for record in records]
        with replacing(sweep / TABLE) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with replacing(sweep / CHART) as part:
            accuracy_drop(records).save(part, format="png", scale_factor=2)
        _print_table(rows, varying_options(records))
        print(f"\n{sweep / TABLE}\n{sweep / CHART}")
    else:
        for name in (TABLE, CHART):
            (sweep / name).unlink(missing_ok=True)
    if missing:
        print(f"no readable result.json: job {', '.join(missing)} of {sweep}", file=sys.stderr)
    return missing


def _row(record: dict[str, Any], varying: Sequence[str]) -> dict[str, Any]:
    accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
    options = flat(record["config"])
    return {
        "job": record["job"],
        "data": record["data"],
        "model": record["model"]["name"],
        **{key: options.get(key, "") for key in dict.fromkeys([*ALWAYS, *varying]) if key not in NAMED},
        "protocol": record["protocol"]["name"],
        **{axis: record["protocol"][axis] for axis in ("dense", *config.AXES)},
        "randomize": record["config"]["randomize"],
        "seed": record["seed"],
        "mu": record["mu"],
        "filters": filters["total"],
        "dead": filters["dead"],
        "relevant": filters["relevant"],
        "ablated": filters["ablated"],
        "shared": float(np.mean(filters["shared"])),
        "intact": accuracy["intact"],
        "selected": accuracy["selected"],
        "random_mean": float(np.mean(accuracy["random"])),
        "random_min": min(accuracy["random"]),
        "random_max": max(accuracy["random"]),
        "random": " ".join(map(str, accuracy["random"])),
        "relative_gap": max(selection["relative_gap"]),
        "certified": selection["certified"],
        **{f"overlap_{key}": (record["overlap"] or {}).get(key, "") for key in ("jaccard", "rank_correlation")},
        "overlap_by_chance": _range((record["overlap"] or {}).get("jaccard_by_chance")),
        "rank_correlation_by_chance": _range((record["overlap"] or {}).get("rank_correlation_by_chance")),
        "seconds": round(sum(record["seconds"].values()), 1),
        "device": record["device"],
        "commit": record["versions"]["commit"] or "",
    }


def _range(ends: Sequence[float] | None) -> str:
    return " to ".join(f"{end:.3f}" for end in ends or ())


def _implied(option: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether an option is one of a protocol's axes that its name already tells."""
    axis = option.removeprefix("protocol.")
    told = {(row["protocol"], row.get(axis)) for row in rows}
    return axis in config.AXES and len(told) == len({row["protocol"] for row in rows})


def _print_table(rows: Sequence[dict[str, Any]], varying: Sequence[str]) -> None:
    shown = [NAMED.get(key, key) for key in dict.fromkeys(["model.name", *varying]) if not _implied(key, rows)]
    shown += ["seed", "mu", "relevant"]
    shown += ["intact", "selected", "random_mean", "certified"]
    titles = {"intact": "intact %", "selected": "without them %", "random_mean": "without random %"}
    cells = [[titles.get(key, key) for key in shown]]
    for row in rows:
        percent = {key: f"{100 * row[key]:.2f}" for key in ("intact", "selected", "random_mean")}
        percent |= {"relevant": f"{row['relevant']} of {row['filters']}", "mu": f"{row['mu']:g}"}
        cells.append([str(percent.get(key, row[key])) for key in shown])
    controls = {row["control"] for row in rows}
    random = MATCHES[controls.pop()] if len(controls) == 1 else "random ones"
    images = {row["evaluated_on"] for row in rows}
    which = images.pop().capitalize() if len(images) == 1 else "Test or training"
    print(f"\n{which} accuracy intact, without the relevant filters, and without {random}\n")
    _print_lines(cells)


def _print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Print a table whose columns line up, the first line its headings."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def print_against_report(sweeps: Sequence[Path]) -> None:
    """Print the report's numbers beside those of sweeps, cell by cell.

    Raises:
        InputError: there is nothing to compare.
    """
    rows = [row for sweep in sweeps for row in comparison.read(sweep / TABLE)]
    tables = comparison.against_report(rows)
    if not tables:
        raise InputError("--against report: no job of keras_cnn or matconvnet on mnist at a mu of the report's")
    for title, lines in tables:
        print(f"\n{title}\n")
        _print_lines(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather sweeps from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tipping.results", description="Write the table and the chart of each sweep."
    )
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun")
    parser.add_argument("--against", choices=["report"], help="print the report's numbers beside those of the sweeps")
    given = parser.parse_args(arguments)
    try:
        missing = [job for sweep in given.sweeps for job in gather(sweep)]
        if given.against:
            print_against_report(given.sweeps)
        return 1 if missing else 0
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
