"""The W&B workspace that compares jobs; `tipping dashboard` saves it."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from tipping.errors import InputError
from tipping.tracking.run import CHARTS, SERIES, SERIES_AT_MU, TABLES, logged_in, one_line, quiet

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import PanelTypes
    from wandb_workspaces.workspaces import Workspace

STAGES = ("network", "responses", "selection", "intact", "ablation", "curve")  # stages of a job, each timed
CLASSES = 10  # whose pictures are shown, by default
EXPLAINED = 5  # images explained by a job, by default
SHOWN = 100  # runs, or groups of runs, in a plot, at most


def dashboard(entity: str, project: str, classes: int = CLASSES) -> Workspace:
    """Return the workspace that compares jobs.

    A line for each architecture and protocol shows the mean over seeds, in a band from the smallest to the largest
    value. Sections show accuracy, accuracy-drop curves, tipping points, cost and pictures.

    Args:
        classes: the number of classes whose pictures are shown.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package is written for an older pydantic
        from wandb_workspaces import workspaces
    sections = {
        "Accuracy against mu": _accuracy(),
        "Accuracy as relevant filters are removed": _curves(),
        "Tipping points": [
            _against_mu("Distance of accuracy from midway between intact and chance", "tipping/distance"),
            _against_mu("Relevant filters", "filters/relevant"),
            _lines("Filters removed when a network tips, by epochs trained", "epoch", "tipping/filters", by=None),
        ],
        "Cost": [_against_mu(f"Seconds: {stage}", f"seconds/{stage}") for stage in STAGES],
        "Pictures": [
            _gallery("What the relevant filters see", [f"pictures/class_{label}" for label in range(classes)]),
            _gallery("Why images got their class", [f"pictures/image_{number}" for number in range(EXPLAINED)]),
            _gallery("Trained, and initialised anew", ["pictures/randomized"]),
        ],
        "Sweeps as a whole": [_gallery("Charts", [f"charts/{name}" for name in CHARTS]), *map(_table, TABLES)],
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="Relevant filters and tipping points",
        sections=[workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=workspaces.WorkspaceSettings(max_runs=SHOWN),
    )


def _accuracy() -> list[PanelTypes]:
    """Return the panels of accuracy against mu: all three kinds together, each kind alone, and each job as a point.

    Points show the exact mu: W&B draws a line through a group of runs at buckets of x.
    """
    kinds = {"intact": "intact", "selected": "without the relevant filters", "random": "without random filters"}
    together = _against_mu("Accuracy", *(f"ablation/{kind}" for kind in kinds), range_y=(0, 1))
    alone = [_against_mu(f"Accuracy {what}", f"ablation/{kind}", range_y=(0, 1)) for kind, what in kinds.items()]
    return [
        together,
        *alone,
        *(_each_job(f"Each job {kinds[kind]}", f"ablation/{kind}") for kind in ("selected", "random")),
    ]


def _curves() -> list[PanelTypes]:
    how = {"selected": "the strongest first", "weakest": "the weakest first", "random": "random ones instead"}
    shown: dict[str, Any] = {"by": SERIES_AT_MU, "title_x": "filters removed", "range_y": (0, 1)}
    return [_lines(f"Accuracy: {what}", "curve/removed", f"curve/{order}", **shown) for order, what in how.items()]


def _against_mu(title: str, *metrics: str, **options: Any) -> PanelTypes:
    return _lines(title, "mu", *metrics, by=SERIES, log_x=True, title_x="mu", **options)


def _lines(title: str, x: str, *metrics: str, by: str | None, **options: Any) -> PanelTypes:
    """Return a plot with a line for each value of the configuration key `by`: the mean over runs, in a band from the
    smallest to the largest value."""
    from wandb_workspaces.reports.v2.interface import Config, LinePlot

    if by:
        options |= {"groupby": Config(by), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return LinePlot(title=title, x=x, y=list(metrics), max_runs_to_show=SHOWN, **options)


def _each_job(title: str, metric: str) -> PanelTypes:
    from wandb_workspaces.reports.v2.interface import Config, ScatterPlot, SummaryMetric

    legend = f"${{config:{SERIES}}}"
    return ScatterPlot(title=title, x=Config("mu"), y=SummaryMetric(metric), log_x=True, legend_template=legend)


def _gallery(title: str, keys: list[str]) -> PanelTypes:
    from wandb_workspaces.reports.v2.interface import MediaBrowser

    return MediaBrowser(title=title, media_keys=keys)


def _table(name: str) -> PanelTypes:
    from wandb_workspaces.reports.v2.interface import WeavePanelSummaryTable

    return WeavePanelSummaryTable(table_name=name)


INSTEAD = """\
Not logged in to W&B, or WANDB_MODE says offline: the dashboard is not saved. Instead:
  wandb login                       and then this command again
  wandb sync wandb/offline-run-*    to upload what was recorded offline
  wandb leet wandb                  to look at it here, in the terminal (wandb/ lies in tracking.dir)"""


def save_dashboard(entity: str | None, project: str, classes: int = CLASSES) -> int:
    """Save the dashboard and print its URL, or print what to do without an account.

    Returns:
        the exit code: 0, or 1 if the dashboard could not be saved.
    """
    quiet()
    try:
        if os.environ.get("WANDB_MODE", "online") != "online" or not logged_in():
            print(INSTEAD)
            return 0
        import wandb

        owner = entity or wandb.Api().default_entity
        if not owner:
            raise InputError("no entity is yours by default; give --entity")
        print(dashboard(owner, project, classes).save().url)  # type: ignore[no-untyped-call]
        return 0
    except Exception as error:
        print(f"the dashboard could not be saved: {one_line(error)}", file=sys.stderr)
        return 1
