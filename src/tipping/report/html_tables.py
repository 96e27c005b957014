"""The tables of the report page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tipping.experiment.options import varying_options
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.results import tables
from tipping.results.tipping_map import natural


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: the text shown.
        value: the value by which rows are sorted.
        title: the text shown on hovering.
    """

    text: str
    value: str | float
    title: str = ""


class Table(NamedTuple):
    """A table of jobs, trainings or trials that can be sorted: its title, headings and rows."""

    title: str
    heads: list[str]
    rows: list[list[Cell]]


def trainings_table(trained: Sequence[TrainRecord]) -> Table:
    """Tabulate trained networks, with the epochs at which their accuracy-drop curves tip."""
    varying = varying_options(trained)
    rows = [tables.training_row(record, varying) for record in trained]
    heads = [key for key in rows[0] if key not in ("device", "commit")] if rows else []
    titles = {"accuracy": "accuracy %", "tips_at": "tips at, by epoch"}
    written = {"accuracy": lambda value: f"{100 * value:.2f}", "seconds": "{:.1f}".format}
    cells = [[Cell(written.get(key, str)(row[key]), row[key]) for key in heads] for row in rows]
    return Table("Trainings", [titles.get(key, key) for key in heads], cells)


def trials_table(trials: Sequence[dict[str, str]]) -> Table:
    """Tabulate the trials of a search over several options, the best first."""
    heads = [key for key in trials[0] if key != "excess"] if trials else []
    titles = {"intact": "intact %", "selected": "without them %"}
    written = {key: lambda value: f"{100 * float(value):.2f}" for key in titles}
    written["tips"] = lambda value: "yes" if value == "True" else "no"
    cells = [[Cell(written.get(key, _short)(trial[key]), trial[key]) for key in heads] for trial in trials]
    return Table("Trials", [titles.get(key, key) for key in heads], cells)


def _short(number: str) -> str:
    return f"{float(number):.4g}"


def jobs_table(records: Sequence[InterpretRecord]) -> Table:
    """Tabulate all jobs, with certificate and cost; jobs of searches are numbered because their names are long."""
    varying = varying_options(records)
    all_rows = [tables.job_row(record, varying) for record in records]
    plain = list(dict.fromkeys(tables.column(key, all_rows) for key in varying if key != "model.name"))
    heads = ["job", "model", *plain, "seed", "mu", "relevant", "intact %", "without them %", "without random %"]
    heads += ["certified", "relative gap", "seconds"]
    rows = []
    for number, record in enumerate(sorted(records, key=lambda record: natural(record.job))):
        row = tables.job_row(record, varying)
        job = Cell(record.job, record.job) if "/" not in record.job else Cell(f"{number}", number, record.job)
        percent = [Cell(f"{100 * row[key]:.2f}", row[key]) for key in ("intact", "selected", "random_mean")]
        rows.append(
            [
                job,
                *(Cell(str(row[key]), row[key]) for key in ("model", *plain, "seed")),
                Cell(f"{row['mu']:.6g}", row["mu"]),
                Cell(f"{row['relevant']} of {row['filters']}", row["relevant"]),
                *percent,
                Cell("yes" if row["certified"] else "no", int(row["certified"])),
                Cell(f"{row['relative_gap']:.0e}", row["relative_gap"]),
                Cell(f"{row['seconds']:.1f}", row["seconds"]),
            ]
        )
    return Table("Jobs", heads, rows)


def randomized_lines(records: Sequence[InterpretRecord]) -> list[list[str]]:
    """Tabulate how far networks with layers initialised anew select the filters of trained ones; headings first."""
    rows = []
    for record in records:
        row = tables.job_row(record, [])
        if row["overlap_jaccard"] in ("", None):
            continue
        alike = [row[key] for key in row if key.startswith("signals_alike_")]
        signals = ", ".join(f"{value:.2f}" for value in alike if value not in ("", None))
        shared, rank = f"{row['overlap_jaccard']:.3f}", row["overlap_rank_correlation"]
        ranks = "" if rank in ("", None) else f"{rank:.3f}"
        kinds = [row["randomize"], str(row["seed"]), f"{row['mu']:g}", shared, row["overlap_by_chance"]]
        rows.append([*kinds, ranks, row["rank_correlation_by_chance"], signals])
    heads = ["initialised anew", "seed", "mu", "overlap", "by chance", "rank correlation", "by chance", "signals alike"]
    return [heads, *rows] if rows else []
