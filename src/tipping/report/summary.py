"""A sweep as a whole, for Weights & Biases."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from tipping import tracking
from tipping.experiment.options import varying_options
from tipping.experiment.record import Accuracy
from tipping.experiment.search_note import TRIALS
from tipping.report.facets import group_name
from tipping.results import tables, tipping_map
from tipping.results.folder import SweepFolder
from tipping.results.tipping_map import Group, chart, varying
from tipping.tracking import Tracking


def summarise(held: SweepFolder) -> None:
    """Log a sweep as a whole, as its jobs were: tables, curves over seeds, charts, tipping points, and the page."""
    records = [job.record for job in held.jobs]
    every = [*records, *held.trainings]
    settings = Tracking(**every[0].config["tracking"])
    if not settings.enabled:
        return
    folder, own, apart = held.folder, varying_options(records), varying([job.options for job in held.jobs])
    tips = {
        f"tipping_mu/{group_name(group.options, apart)}, seed={network.seed}": math.exp(at)
        for group in held.groups
        if group.above_chance
        for network, at in zip(group.networks, group.by_mu.each, strict=True)
    }
    trained = varying_options(held.trainings)
    drawn = {name: path for name in tracking.CHARTS if (path := folder / f"{name}.png").is_file()}
    with tempfile.TemporaryDirectory() as own_charts:
        if held.groups and "tipping_points" not in drawn:
            drawn["tipping_points"] = Path(own_charts) / "tipping_points.png"
            chart([(group.name, group) for group in held.groups]).save(drawn["tipping_points"], scale_factor=2)
        tracking.summarise(
            folder,
            settings,
            tables={
                "jobs": [tables.row(record, own) for record in records],
                "tipping_points": [tipping_map.row(network) for network in held.networks],
                "trainings": [tables.training_row(record, trained) for record in held.trainings],
                "trials": held.trials,
            },
            curves={group_name(group.options, apart): _over_seeds(group) for group in held.groups},
            charts=drawn,
            files=[path for name in (PAGE, *TABLES) if (path := folder / name).is_file()],
            summary=tips,
        )


def _over_seeds(group: Group) -> list[dict[str, float]]:
    """Return the mean accuracies of networks at each mu that all were measured at."""
    by_mu: dict[float, list[Accuracy]] = {}
    for record in (record for network in group.networks for record in network.records):
        by_mu.setdefault(record.mu, []).append(record.accuracy)
    return [
        {
            "mu": mu,
            **{kind: float(np.mean([getattr(one, kind) for one in of])) for kind in ("intact", "selected", "random")},
        }
        for mu, of in sorted(by_mu.items())
        if len(of) == len(group.networks)
    ]


PAGE = "report.html"


TABLES = (tables.TABLE, tables.TRAININGS, tipping_map.TABLE, TRIALS)  # files
