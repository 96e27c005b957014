"""The log of a whole sweep in Weights & Biases."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tipping import tracking
from tipping.experiment.options import varying_options
from tipping.experiment.record_parts import Accuracy
from tipping.experiment.search_note import TRIALS
from tipping.report.facets import group_name
from tipping.results import arena, by_class, tables, tipping_map
from tipping.results.arena import contest_rows, network_options
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.results.rendering import save_png
from tipping.results.tipping_map import Group, tipping_chart, varying
from tipping.tracking import Tracking


def log_sweep(sweep: SweepFolder) -> None:
    """Log a whole sweep where its jobs were logged: tables, curves over seeds, charts, tipping points, and the page.

    Nothing is logged where the tracking of the first job is off.
    """
    records = [job.record for job in sweep.jobs]
    contests = [contest.record for contest in sweep.contests]
    every = [*records, *sweep.trainings, *contests]
    if not every:  # all of them are left out
        return
    settings = Tracking(**every[0].config["tracking"])
    if not settings.enabled:
        return
    folder, options, apart = sweep.folder, varying_options(records), varying([job.options for job in sweep.jobs])
    tips = {
        f"tipping_mu/{group_name(group.options, apart)}, seed={network.seed}": math.exp(at)
        for group in sweep.groups
        if group.above_chance
        for network, at in zip(group.networks, group.by_mu.each, strict=True)
    }
    trained, contested = varying_options(sweep.trainings), network_options(contests)
    drawn = {name: path for name in tracking.CHARTS if (path := folder / f"{name}.png").is_file()}
    with tempfile.TemporaryDirectory() as drawn_here:
        if sweep.groups and "tipping_points" not in drawn:
            path = Path(drawn_here) / "tipping_points.png"
            if not save_png(tipping_chart([(group.name, group) for group in sweep.groups]), path):
                drawn["tipping_points"] = path
        tracking.summarise(
            folder,
            settings,
            tables={
                "classes": [row for job in sweep.jobs for row in _classes(job)],
                "class_ablations": [row for job in sweep.jobs for row in _class_ablations(job)],
                "class_ablations_compared": by_class.compared_groups(records),
                "jobs": [tables.job_row(record, options) for record in records],
                "tipping_points": [tipping_map.network_row(network) for network in sweep.networks],
                "trainings": [tables.training_row(record, trained) for record in sweep.trainings],
                "trials": sweep.trials,
                "selectors": [row for record in contests for row in contest_rows(record, contested)],
            },
            curves={group_name(group.options, apart): _over_seeds(group) for group in sweep.groups},
            charts=drawn,
            files=[path for name in (PAGE, *TABLES) if (path := folder / name).is_file()],
            summary=tips,
        )


def _start(job: Job) -> dict[str, Any]:
    return {"job": job.record.job, "seed": job.record.seed, "mu": job.record.mu}


def _classes(job: Job) -> list[dict[str, Any]]:
    return [{**_start(job), **row} for row in job.classes.rows]


def _class_ablations(job: Job) -> list[dict[str, Any]]:
    return [{**_start(job), **row} for row in by_class.ablation_rows(job.record)]


def _over_seeds(group: Group) -> list[dict[str, float]]:
    """Return the mean accuracies of a group at each mu at which all of its networks were measured."""
    by_mu: dict[float, list[Accuracy]] = {}
    for record in (record for network in group.networks for record in network.records):
        by_mu.setdefault(record.mu, []).append(record.accuracy)
    return [
        {
            "mu": mu,
            **{
                kind: float(np.mean([getattr(one, kind) for one in accuracies]))
                for kind in ("intact", "selected", "random")
            },
        }
        for mu, accuracies in sorted(by_mu.items())
        if len(accuracies) == len(group.networks)
    ]


PAGE = "report.html"


TABLES = (
    tables.TABLE,
    tables.TRAININGS,
    tipping_map.TABLE,
    TRIALS,
    arena.TABLE,
    arena.COMPARED,
    arena.ALIKE,
    by_class.TABLE,
    by_class.ABLATED,
    by_class.COMPARED,
)  # names of files
