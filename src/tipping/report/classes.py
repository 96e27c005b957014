"""The classes on the report page: charts of each class's accuracy, what its filters cost, and ranked filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tipping.report.facets import Image, group_name, image_of
from tipping.report.galleries import by_nearness
from tipping.report.html_tables import Cell, Table
from tipping.results.by_class import MEASURES, Matrix, compared_groups
from tipping.results.class_charts import accuracies_chart, matrix_chart
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.selection import KINDS

CHARTS, LISTS, WIDEST = 6, 6, 44  # groups of networks drawn, jobs whose filters are listed, columns, at most


def class_images(sweep: SweepFolder, apart: Sequence[str]) -> list[Image]:
    """Draw the accuracy of each class for networks that differ only by their seed, at each mu."""
    groups: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        groups.setdefault(group_name(job.options, apart), []).append(job)
    images = []
    for name, jobs in list(groups.items())[:CHARTS]:
        rows = [{**row, "mu": job.record.mu} for job in jobs for row in job.classes.rows]
        images.append(image_of(accuracies_chart(rows), f"Accuracy of each class: {name}" if name else "By class"))
    return images


def matrix_images(sweep: SweepFolder, apart: Sequence[str]) -> list[Image]:
    """Draw what removing the filters of each class costs each class, means over networks that differ by their seed."""
    groups: dict[tuple[str, float, Any], list[Matrix]] = {}
    classes: dict[tuple[str, float, Any], list[str]] = {}
    for job in sweep.jobs:
        if matrix := job.classes.matrix:
            key = group_name(job.options, apart), job.record.mu, matrix[:2]
            groups.setdefault(key, []).append(matrix)
            classes[key] = job.record.classes
    images = []
    for (name, mu, (removed, measured)), some in list(groups.items())[:CHARTS]:
        names = classes[name, mu, (removed, measured)]
        drop_CC = np.mean([matrix.drop_CC for matrix in some], axis=0)
        drawn = matrix_chart([names[label] for label in removed], [names[label] for label in measured], drop_CC)
        count = f"{len(some)} network{'s' if len(some) > 1 else ''}"
        images.append(image_of(drawn, f"What each class's filters cost each class: {name} mu = {mu:g}, {count}"))
    return images


def kinds_table(sweep: SweepFolder) -> Table:
    """Tabulate what the kinds of sets cost a class and the others, in points, means over classes and networks."""
    every = compared_groups([job.record for job in sweep.jobs])
    several = len({row["group"] for row in every}) > 1
    heads = [
        *(["networks of"] if several else []),
        "removed",
        "networks",
        "filters",
        *(f"{measure} drop" for measure in MEASURES),
    ]
    heads += ["specificity less by", "95 %", "p"]
    rows = []
    for row in every:
        mean, low, high, p = (row.get(f"specificity_difference{end}") for end in ("", "_low", "_high", "_p"))
        rows.append(
            [
                *([Cell(row["group"], row["group"])] if several else []),
                Cell(KINDS[row["kind"]], row["kind"]),
                Cell(str(row["networks"]), row["networks"]),
                Cell(f"{row['filters']:.1f}", row["filters"]),
                *(_points(row[measure]) for measure in MEASURES),
                _points(mean),
                Cell("" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}", low or 0.0),
                Cell("" if p is None else f"{p:.3f}", 2.0 if p is None else p),
            ]
        )
    return Table("Each class without its own filters", heads, rows)


def _points(value: float | None) -> Cell:
    return Cell("", -2.0) if value is None else Cell(f"{100 * value:+.1f}", value)


def ranked_tables(sweep: SweepFolder) -> list[Table]:
    """List the strongest relevant filters of some jobs, those nearest the tipping points first."""
    jobs = [job for job in by_nearness(sweep.jobs, sweep.groups) if job.classes.ranked]
    return [_ranked(job) for job in jobs[:LISTS]]


def _written(value: float | str) -> Cell:
    return Cell(("" if value == 0 else f"{value:.3g}") if isinstance(value, float) else str(value), value)


def _ranked(job: Job) -> Table:
    record, rows = job.record, job.classes.ranked
    weighted = {key for row in rows for key, value in row.items() if value != 0}
    heads, number = [key for key in rows[0] if key in weighted][:WIDEST], record.filters.ablated
    some = f" (the first {len(rows)} of {number})" if number > len(rows) else ""
    title = f"Relevant filters of job {record.job}, seed {record.seed}, mu = {record.mu:g}{some}"
    return Table(title, heads, [[_written(row[key]) for key in heads] for row in rows])
