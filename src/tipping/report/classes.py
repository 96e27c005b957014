"""The classes on the report page: charts of each class's accuracy, what its filters cost, and ranked filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tipping.experiment.records import SELECTION, UNREADABLE
from tipping.files import load_arrays
from tipping.report.facets import Image, group_name, image_of
from tipping.report.galleries import by_nearness
from tipping.report.html_tables import Cell, Table
from tipping.results.by_class import MEASURES, class_matrix, compared_by_kind, rows_by_class
from tipping.results.class_charts import accuracies_chart, matrix_chart
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.selection import KINDS, ranked_filters

CHARTS, LISTS, LISTED = 6, 6, 50  # groups of networks drawn, jobs whose filters are listed, filters of each, at most


def class_images(sweep: SweepFolder, apart: Sequence[str]) -> list[Image]:
    """Draw the accuracy of each class for networks that differ only by their seed, at each mu."""
    groups: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        groups.setdefault(group_name(job.options, apart), []).append(job)
    images = []
    for name, jobs in list(groups.items())[:CHARTS]:
        rows = [{**row, "mu": job.record.mu} for job in jobs for row in rows_by_class(job.record, job.predictions)]
        images.append(image_of(accuracies_chart(rows), f"Accuracy of each class: {name}" if name else "By class"))
    return images


def matrix_images(sweep: SweepFolder, apart: Sequence[str]) -> tuple[list[Image], list[str]]:
    """Draw what removing the filters of each class costs each class, means over networks that differ by their seed.

    Returns:
        the charts, and a line for each job whose predictions cannot be read.
    """
    groups: dict[tuple[str, float], list[Job]] = {}
    for job in sweep.jobs:
        if job.record.by_class:
            groups.setdefault((group_name(job.options, apart), job.record.mu), []).append(job)
    images, left_out = [], []
    for (name, mu), jobs in list(groups.items())[:CHARTS]:
        matrices: dict[tuple[tuple[int, ...], tuple[int, ...]], list[np.ndarray]] = {}
        for job in jobs:
            try:
                removed, measured, drop_CC = class_matrix(job.folder, job.record)
            except UNREADABLE as error:
                left_out.append(f"{job.record.job}: what its classes cost cannot be read ({error})")
                continue
            matrices.setdefault((tuple(removed), tuple(measured)), []).append(drop_CC)
        if not matrices:
            continue
        (rows, columns), drops = max(matrices.items(), key=lambda one: len(one[1]))
        classes = jobs[0].record.classes
        drawn = matrix_chart([classes[row] for row in rows], [classes[column] for column in columns], np.mean(drops, 0))
        count = f"{len(drops)} network{'s' if len(drops) > 1 else ''}"
        images.append(image_of(drawn, f"What each class's filters cost each class: {name} mu = {mu:g}, {count}"))
    return images, left_out


def kinds_table(sweep: SweepFolder) -> Table:
    """Tabulate what the kinds of sets cost a class and the others, in points, means over classes and networks."""
    heads = ["removed", "networks", "filters", *(f"{measure} drop" for measure in MEASURES)]
    heads += ["specificity less by", "95 %", "p"]
    rows = []
    for row in compared_by_kind([job.record for job in sweep.jobs]):
        mean, low, high, p = (row.get(f"specificity_difference{end}") for end in ("", "_low", "_high", "_p"))
        rows.append(
            [
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


def ranked_tables(sweep: SweepFolder) -> tuple[list[Table], list[str]]:
    """List the strongest relevant filters of some jobs, those nearest the tipping points first.

    Returns:
        the tables, and a line for each job whose selection cannot be read.
    """
    tables, left_out = [], []
    for job in by_nearness(sweep.jobs, sweep.groups)[:LISTS]:
        try:
            arrays = load_arrays(job.folder / SELECTION, sha256=job.record.files.get(SELECTION))
            tables.append(_ranked(job, arrays))
        except UNREADABLE as error:
            left_out.append(f"{job.record.job}: its selection cannot be read ({error})")
    return tables, left_out


def _written(value: float | str) -> Cell:
    return Cell(("" if value == 0 else f"{value:.3g}") if isinstance(value, float) else str(value), value)


def _ranked(job: Job, arrays: dict[str, np.ndarray]) -> Table:
    places = list(zip(arrays["layer"].tolist(), arrays["channel"].tolist(), strict=True))
    order_K, strength_F = arrays["order"], arrays.get("strength")
    rows = ranked_filters(places, arrays["weights"], order_K[:LISTED], job.record.classes, strength_F=strength_F)
    heads = list(rows[0]) if rows else []
    cells = [[_written(row[key]) for key in heads] for row in rows]
    some = f" (the first {LISTED} of {len(order_K)})" if len(order_K) > LISTED else ""
    return Table(
        f"Relevant filters of job {job.record.job}, seed {job.record.seed}, mu = {job.record.mu:g}{some}", heads, cells
    )
