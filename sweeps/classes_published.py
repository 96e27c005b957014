"""The published tables of what each class relies on, from the rows kept of jobs with ``ablate=class``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from keeping import KEPT

from tipping.errors import InputError
from tipping.experiment.options import flat
from tipping.experiment.record import InterpretRecord
from tipping.experiment.record_parts import ClassEntry, Estimate
from tipping.results.arena import difference_cells
from tipping.results.by_class import MEASURES, compared_by_kind, entry_row
from tipping.results.jobs import read_jobs
from tipping.selection import KINDS

OPTIONS = ("model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "data.responses", "by_class.images")
ENTRY = ("label", "kind", "filters", *MEASURES, "tips_at")
Row = dict[str, Any]


def keep_classes(sweeps: Sequence[Path]) -> None:
    """Keep what sets of filters of each class cost as docs/results/by_class.csv, made anew from the records of jobs.

    Raises:
        InputError: a record is not whole.
    """
    rows: list[Row] = []
    for sweep in sweeps:
        jobs = read_jobs(sweep, predictions=False)
        missing = [path.name for path in jobs.direct if path not in jobs.interpreted]
        if missing:
            raise InputError(f"{sweep}: no whole result.json of job {', '.join(missing)}; run the sweep again")
        rows += [row for record in jobs.interpreted.values() for row in _rows(record)]
    with (KEPT / "by_class.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(record: InterpretRecord) -> list[Row]:
    options = flat(record.config)
    job = {"data": record.data, "model": record.model["name"], **{option: options[option] for option in OPTIONS}}
    job |= {"protocol": record.protocol["name"], "seed": record.seed, "mu": record.mu, "intact": record.accuracy.intact}
    job |= {"selected": record.accuracy.selected, "certified": record.selection.certified}
    end = {"device": record.device, "commit": record.versions["commit"] or ""}
    entries = [entry_row(entry, record.classes) for entry in record.by_class]
    kept = [{key: _rounded(entry[key]) for key in ENTRY} for entry in entries]
    return [{**job, **entry, **end} for entry in kept]


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def kept_classes() -> list[dict[str, str]]:
    """Read the rows kept."""
    path = KEPT / "by_class.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def groups_of_classes() -> list[tuple[str, str, str]]:
    """Return the data, widths and mu of the networks whose rows are kept."""
    return list(dict.fromkeys((row["data"], row["model.filters"], row["mu"]) for row in kept_classes()))


def classes_table(
    data: str, filters: str, mu: str, table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]
) -> str:
    """Tabulate what sets of filters cost a class and the others: means over classes and networks, with differences.

    Args:
        table: writes headings and rows as a table.
    """
    networks: dict[str, list[ClassEntry]] = {}
    for row in kept_classes():
        if (row["data"], row["model.filters"], row["mu"]) == (data, filters, mu):
            networks.setdefault(f"{row['model.dropout']} {row['seed']}", []).append(_entry(row))
    records: Any = [SimpleNamespace(by_class=entries, store={"weights": name}) for name, entries in networks.items()]
    heads = ["removed", "filters", "own-class drop", "collateral drop", "specificity", "less by (95 %)", "p"]
    return table(heads, [_cells(row) for row in compared_by_kind(records)])


def _entry(row: dict[str, str]) -> ClassEntry:
    own_class, collateral, specificity = (Estimate(float(row[key]), 0.0, 0.0) if row[key] else None for key in MEASURES)
    tips, start = float(row["tips_at"]) if row["tips_at"] else None, (row["kind"], int(row["label"]))
    return ClassEntry(*start, int(row["filters"]), own_class, collateral, specificity, tips, None, None)


def _cells(row: Row) -> list[str]:
    drops = [f"{100 * row[key]:.1f}" for key in MEASURES]
    return [KINDS[row["kind"]], f"{row['filters']:.1f}", *drops, *difference_cells(row, "specificity_difference")]
