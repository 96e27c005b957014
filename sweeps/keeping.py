"""The small tables under docs/results that publish.py keeps: some columns of the tables of sweeps."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tipping.errors import InputError
from tipping.experiment.config import RULES
from tipping.experiment.options import flat, varying_options
from tipping.experiment.record import InterpretRecord, TrainRecord
from tipping.experiment.records import read_record
from tipping.results.tables import job_row, read_records

KEPT = Path(__file__).parents[1] / "docs" / "results"
COLUMNS = (  # of the table of a sweep
    *("data", "model", "model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "trainer.precision"),
    *("trainer.batch_size", "trainer.learning_rate"),
    *("protocol", "control", "sites", "labels", "randomize", "seed", "mu", "filters", "dead", "relevant", "ablated"),
    *("shared", "intact", "selected", "random", "explained", "anything_relevant", "relative_gap", "certified"),
    *("overlap_jaccard", "overlap_by_chance", "curve_selected", "curve_random"),
    *("overlap_rank_correlation", "rank_correlation_by_chance", *(f"signals_alike_{rule}" for rule in RULES)),
    *("device", "commit"),
)
MAP = (  # of the table of tipping points
    *("data.name", "model.name", "model.filters", "model.depth", "model.dropout", "trainer.max_epochs"),
    *("trainer.precision", "trainer.batch_size", "trainer.learning_rate", "protocol", "seed", "evaluations", "intact"),
    *("chance", "least"),
    *("filters", "tipping_mu", "tipping_mu_low", "tipping_mu_high", "tipping_mu_logistic", "tipping_mu_disagree"),
    *("slope", "tipping_filters", "tipping_filters_low", "tipping_filters_high", "tipping_random_filters"),
    *("parts_at_mu", "parts_at_filters"),
    *("area_selected", "area_weakest", "area_random", "crossings", "crosses_at", "saturation_mu", "stability"),
    *("certified", "device", "commit"),
)


def keep(name: str, sweeps: Sequence[Path]) -> None:
    """Keep some columns of the tables of sweeps as docs/results/NAME.csv; `map` keeps those of their tipping points.

    The rows of jobs are made anew from their records, which are checked as they are read.

    Raises:
        InputError: a record is not whole.
    """
    rows: list[dict[str, Any]] = []
    columns = MAP if name == "map" else COLUMNS
    for sweep in sweeps:
        if name == "map":
            with (sweep / "tipping_points.csv").open(newline="") as file:
                rows += list(csv.DictReader(file))
            continue
        records, missing = read_records(sweep, InterpretRecord)
        if missing:
            raise InputError(f"{sweep}: no whole result.json of job {', '.join(missing)}; run the sweep again")
        rows += [job_row(record, varying_options(records)) for record in records]
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def keep_training(sweeps: Sequence[Path]) -> None:
    """Keep as docs/results/training.csv where networks tip after each epoch of their training."""
    rows = []
    for path in sorted(path for sweep in sweeps for path in sweep.glob("*/result.json")):
        record = read_record(path.parent)
        assert isinstance(record, TrainRecord), f"{path} is of no training"
        options = flat(record.config)
        shared = {key: options[key] for key in COLUMNS if key in options}
        shared |= {"data": record.data, "model": record.model["name"], "protocol": record.protocol["name"]}
        shared |= {"device": record.device, "commit": record.versions["commit"]}
        for epoch, curve in record.curves.items():
            intact, relevant = curve.selected[0], curve.removed[-1]
            rows.append({**shared, "epoch": epoch, "intact": intact, "relevant": relevant, "tips_at": curve.tips_at})
    with (KEPT / "training.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
