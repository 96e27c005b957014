"""The table and the chart of a sweep, from the records of its jobs.

`tipping table SWEEP_DIR` writes both again; ``--against report`` compares the sweep with the report, and
``--differences`` compares selected filters with random ones over seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tipping.errors import InputError, printable
from tipping.experiment import config
from tipping.experiment.options import flat, varying_options
from tipping.experiment.record import InterpretRecord, Record, TrainRecord
from tipping.experiment.records import Kind
from tipping.frames import write_rows
from tipping.results import by_class, meynen2023, published
from tipping.results.jobs import Jobs, read_jobs
from tipping.results.rows import print_lines
from tipping.selection import MATCHES

TABLE, CHART = "results.csv", "accuracy_drop.png"
TRAININGS = "trainings.csv"
NAMED = {"data.name": "data", "model.name": "model", "protocol.name": "protocol"}
NAMED |= {"randomize": "randomize", "selector": "selector"}
NAMED |= {f"protocol.{axis}": axis for axis in ("dense", *config.AXES)}  # options that have a column
ALWAYS = published.NETWORK[2:]  # in each table


def read_records(sweep: Path, kind: type[Kind]) -> tuple[list[Kind], list[str]]:
    """Read the records of a sweep's jobs.

    Args:
        sweep: the folder of the sweep.
        kind: the class of the records; a record of another class counts as unreadable.

    Returns:
        the records, and the names of jobs without a readable record.

    Raises:
        InputError: the folder is missing or holds no job.
    """
    records, missing = _direct(_read(sweep), kind)
    return list(records.values()), missing


def _direct(jobs: Jobs, kind: type[Kind]) -> tuple[dict[Path, Kind], list[str]]:
    """Return the records of one class of a sweep's own jobs, by their folders, and the names of its other jobs."""
    every: dict[Path, Record] = {**jobs.trained, **jobs.interpreted}
    records = {path: record for path in jobs.direct if isinstance(record := every.get(path), kind)}
    return records, [path.name for path in jobs.direct if path not in records]


def _read(sweep: Path) -> Jobs:
    jobs = read_jobs(sweep, predictions=False)
    if not jobs.direct:
        raise InputError(f"{sweep} holds no jobs; give the folder of a sweep")
    if jobs.contests and not (jobs.trained or jobs.interpreted):
        raise InputError(f"{sweep} holds contests of selectors; tipping arena {sweep} writes their tables")
    return jobs


def write_table(sweep: Path) -> list[str]:
    """Write the tables and ``accuracy_drop.png`` of a sweep of interpret.py, and print them.

    The tables are ``results.csv``, with a row for each job, and ``classes.csv``, with one for each of its classes;
    where the filters of each class were ablated, ``class_ablations.csv`` and ``class_ablations_compared.csv`` too.

    Returns:
        the names of jobs without a readable record.
    """
    from tipping.results.charts import accuracy_drop  # with altair, which a table does without
    from tipping.results.rendering import many_charts, save_png

    jobs = _read(sweep)
    interpreted, missing = _direct(jobs, InterpretRecord)
    records = list(interpreted.values())
    if records:
        varying = varying_options(records)
        rows = [job_row(record, varying) for record in records]
        write_rows(sweep / TABLE, rows)
        _write_classes(sweep, [jobs.classes[path].rows for path in interpreted], records, rows)
        with many_charts():
            fault = save_png(accuracy_drop(records), sweep / CHART)
        _print_table(rows, varying)
        print(*("", printable(str(sweep / TABLE)), *(() if fault else [printable(str(sweep / CHART))])), sep="\n")
    _say_missing(sweep, missing)
    if records and fault:
        print(fault, file=sys.stderr)
        return [*missing, CHART]
    return missing


def _write_classes(
    sweep: Path,
    classes: Sequence[list[by_class.Row]],
    records: Sequence[InterpretRecord],
    rows: Sequence[by_class.Row],
) -> None:
    """Write the tables by class, whose rows begin as those of the jobs do, up to mu."""
    starts = [{key: row[key] for key in list(row)[: list(row).index("mu") + 1]} for row in rows]
    every = zip(starts, classes, strict=True)
    write_rows(sweep / by_class.TABLE, [{**start, **row} for start, some in every for row in some])
    ablated = [
        {**start, **row}
        for start, record in zip(starts, records, strict=True)
        for row in by_class.ablation_rows(record)
    ]
    if ablated:
        compared = by_class.compared_groups(records)
        write_rows(sweep / by_class.ABLATED, ablated)
        write_rows(sweep / by_class.COMPARED, compared)
        by_class.print_by_kind(compared)


def write_training_table(sweep: Path) -> list[str]:
    """Write the ``trainings.csv`` of a sweep of train.py, and print it.

    Returns:
        the names of jobs without a readable record.
    """
    records, missing = read_records(sweep, TrainRecord)
    if records:
        rows = [training_row(record, varying_options(records)) for record in records]
        write_rows(sweep / TRAININGS, rows)
        shown = [key for key in rows[0] if key not in ("data", "seconds", "device", "commit")]
        print("\nTest accuracy, and how many relevant filters tip a network after each epoch with a curve\n")
        cells = [[f"{100 * row[key]:.2f}" if key == "accuracy" else str(row[key]) for key in shown] for row in rows]
        print_lines([["accuracy %" if key == "accuracy" else key.replace("_", " ") for key in shown], *cells])
        print(f"\n{printable(str(sweep / TRAININGS))}")
    _say_missing(sweep, missing)
    return missing


def _say_missing(sweep: Path, missing: Sequence[str]) -> None:
    if missing:
        names, how = ", ".join(map(printable, missing)), "the same command again runs what is left"
        print(f"{printable(str(sweep))}: no whole result.json of job {names}; {how}", file=sys.stderr)


def training_row(record: TrainRecord, varying: Sequence[str]) -> dict[str, Any]:
    """Return the row of a training: its options, its accuracy, and how many relevant filters tip it at each epoch.

    Args:
        record: the record of the training.
        varying: the options in which the trainings of the table differ.
    """
    options, tips = flat(record.config), [curve.tips_at for curve in record.curves.values()]
    return {
        "job": record.job,
        "data": record.data,
        "model": record.model["name"],
        **{key: options.get(key, "") for key in varying if key not in NAMED},
        "seed": record.seed,
        "accuracy": record.accuracy.intact,
        "tips_at": ", ".join("nowhere" if at is None else f"{at:.1f}" for at in tips),
        "seconds": round(sum(record.seconds.values()), 1),
        "device": record.device,
        "commit": record.versions["commit"] or "",
    }


def job_row(record: InterpretRecord, varying: Sequence[str]) -> dict[str, Any]:
    """Return the row of a job of interpret.py.

    Args:
        record: the record of the job.
        varying: the options in which the jobs of the table differ.
    """
    accuracy, filters, selection = record.accuracy, record.filters, record.selection
    options = flat(record.config)
    return {
        "job": record.job,
        "data": record.data,
        "model": record.model["name"],
        **{key: options.get(key, "") for key in dict.fromkeys([*ALWAYS, *varying]) if key not in NAMED},
        "protocol": record.protocol["name"],
        **{axis: record.protocol[axis] for axis in ("dense", *config.AXES)},
        "randomize": record.config["randomize"],
        "selector": record.config.get("selector", config.MU_LASSO),
        "seed": record.seed,
        "mu": record.mu,
        "filters": filters.total,
        "dead": filters.dead,
        "relevant": filters.relevant,
        "ablated": filters.ablated,
        "shared": float(np.mean(filters.shared)),
        "intact": accuracy.intact,
        "selected": accuracy.selected,
        "random_mean": float(np.mean(accuracy.random)),
        "random_min": min(accuracy.random),
        "random_max": max(accuracy.random),
        "random": " ".join(map(str, accuracy.random)),
        **{f"curve_{order}": float(np.mean(getattr(record.curve, order))) for order in ("selected", "random")},
        "explained": float(np.mean(selection.explained)),
        "anything_relevant": max(selection.explainable) > selection.explainable_by_noise,
        "relative_gap": max(selection.relative_gap),
        "certified": selection.certified,
        "binds": "" if selection.binds is None else sum(selection.binds),
        "saturation": _largest(selection.saturation),
        **{f"overlap_{key}": getattr(record.overlap, key, "") for key in ("jaccard", "rank_correlation")},
        "overlap_by_chance": _range(getattr(record.overlap, "jaccard_by_chance", None)),
        "rank_correlation_by_chance": _range(getattr(record.overlap, "rank_correlation_by_chance", None)),
        **{f"signals_alike_{rule}": record.signals_alike.get(rule, "") for rule in config.RULES},
        "seconds": round(sum(record.seconds.values()), 1),
        "device": record.device,
        "commit": record.versions["commit"] or "",
    }


def _largest(values: Sequence[float | None] | None) -> float | str:
    """Return the largest value; empty where one is not known."""
    known = [value for value in values or () if value is not None]
    return max(known) if values and len(known) == len(values) else ""


def _range(ends: Sequence[float] | None) -> str:
    return " to ".join(f"{end:.3f}" for end in ends or ())


def column(option: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the column that shows a varying option; `protocol` where the protocol's name already tells its value.

    Args:
        option: the dotted name of the option.
        rows: all rows of the table.
    """
    axis = option.removeprefix("protocol.")
    pairs = {(row["protocol"], str(row.get(axis))) for row in rows}  # as text, since a list of layers is no key
    by_name = axis in config.AXES and len(pairs) == len({row["protocol"] for row in rows})
    return "protocol" if by_name else NAMED.get(option, option)


def _print_table(rows: Sequence[dict[str, Any]], varying: Sequence[str]) -> None:
    shown = list(dict.fromkeys(column(option, rows) for option in ["model.name", *varying]))
    shown += ["seed", "mu", "relevant"]
    checks = any(row["overlap_jaccard"] != "" for row in rows)
    shown += ["intact", "selected", "random_mean", *(["overlap_jaccard", "overlap_by_chance"] if checks else [])]
    shown += ["certified"]
    titles = {"intact": "intact %", "selected": "without them %", "random_mean": "without random %"}
    titles |= {"overlap_jaccard": "overlap", "overlap_by_chance": "by chance"}
    cells = [[titles.get(key, key) for key in shown]]
    for row in rows:
        percent = {key: f"{100 * row[key]:.2f}" for key in ("intact", "selected", "random_mean")}
        percent |= {"relevant": f"{row['relevant']} of {row['filters']}", "mu": f"{row['mu']:g}"}
        if row["overlap_jaccard"] not in ("", None):
            percent["overlap_jaccard"] = f"{row['overlap_jaccard']:.3f}"
        cells.append([str(percent.get(key, row[key])) for key in shown])
    controls = {row["control"] for row in rows}
    random = MATCHES[controls.pop()] if len(controls) == 1 else "random ones"
    images = {row["evaluated_on"] for row in rows}
    which = images.pop().capitalize() if len(images) == 1 else "Test or training"
    print(f"\n{which} accuracy intact, without the relevant filters, and without {random}\n")
    print_lines(cells)


def _rows_of(sweeps: Sequence[Path]) -> list[published.Row]:
    return [row for sweep in sweeps for row in published.read_rows(sweep / TABLE)]


def print_against_report(sweeps: Sequence[Path]) -> None:
    """Print the report's numbers beside those of sweeps, cell by cell.

    Raises:
        InputError: there is nothing to compare.
    """
    tables = published.against_report(_rows_of(sweeps))
    if not tables:
        raise InputError("--against report: no job of keras_cnn or matconvnet on mnist at a mu of the report's")
    for title, lines in tables:
        print(f"\n{title}\n")
        print_lines(lines)


def print_against_meynen2023(sweeps: Sequence[Path]) -> None:
    """Print what classes lose without their own filters beside the lab's numbers on ImageNet, cell by cell.

    Raises:
        InputError: no job has ablated the filters of each class.
    """
    every = [_read(sweep) for sweep in sweeps]
    jobs = [(jobs.interpreted[path], jobs.classes[path]) for jobs in every for path in jobs.interpreted]
    lines = meynen2023.against_meynen2023(jobs)
    print("\nAccuracy of classes without their own filters, means over classes, beside the published ones\n")
    print_lines(lines)


def print_differences(sweeps: Sequence[Path]) -> None:
    """Print how far selected filters of sweeps' jobs differ from random ones, over seeds, with intervals.

    Raises:
        InputError: as `published.differences`.
    """
    rows = _rows_of(sweeps)
    keys = [key for key in rows[0] if key in ("protocol", "randomize", *published.NETWORK)]
    varying = [key for key in keys if len({row.get(key, "") for row in rows}) > 1]
    heads, *lines = published.differences(rows, *dict.fromkeys(["protocol", *varying]))
    print("\nSelected against random filters, over seeds: mean (smallest to largest)\n")
    print_lines([heads, *lines])
