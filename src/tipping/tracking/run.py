"""Weights & Biases: one run per job, and one per sweep. A failure of W&B never ends a job."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tipping.tracking.home import avoid_home
from tipping.tracking.names import LONGEST_TAG, short

if TYPE_CHECKING:
    import wandb

    from tipping.ablation import DropCurve
    from tipping.visualize.draw import Picture

log = logging.getLogger(__name__)
TABLES, CHARTS = ("jobs", "tipping_points", "selectors"), ("accuracy_drop", "tipping_points", "arena")  # of a sweep
SERIES, SERIES_AT_MU = "series", "series_at_mu"  # configuration keys by which the dashboard groups jobs
DEFAULTS = {  # environment variables of W&B; times in seconds
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",  # counts from the last request, so requests are not retried often:
    "WANDB_X_GRAPHQL_RETRY_MAX": "3",
    "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": "20",
}
MARKS = ("multirun.yaml", ".hydra")  # made by Hydra in the folder of a sweep or search


@dataclass
class Tracking:
    """The options of Weights & Biases: whether it is used, the project, and the folder of its files."""

    enabled: bool
    project: str
    dir: str


class Run:
    """A W&B run, or a stand-in whose methods do nothing; after a failure of W&B, too, methods do nothing."""

    def __init__(self, run: wandb.Run | None) -> None:
        self._run = run
        self._failed = False
        steps = {
            "ablation/*": "mu",
            "curve/*": "curve/removed",
            "train/*": "train/step",
            "pictures/*": "epoch",
            "over_seeds/*": "mu",
        }
        for metrics, step in steps.items():
            self._attempt(partial(_define, metrics=metrics, step=step))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics of a training against its step."""
        self._attempt(lambda run: run.log({**metrics, "train/step": step}))

    def log(self, metrics: dict[str, Any]) -> None:
        """Log metrics of the job as a whole."""
        self._attempt(lambda run: run.log(metrics))

    def log_curve(self, curve: DropCurve, epoch: int, tips_at: float | None) -> None:
        """Log a network's accuracy-drop curve after `epoch` epochs, and the number of filters at its tipping point."""
        self._log_points(f"curve/epoch_{epoch}", curve.record())
        if tips_at is not None:
            self.log({"tipping/filters": tips_at, "epoch": epoch})

    def log_over_seeds(self, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
        """Log curves: for each group of networks by its name, its points of mu and mean accuracies."""
        for name, points in curves.items():
            for point in points:
                self.log(
                    {"mu": point["mu"]} | {f"over_seeds/{kind}/{name}": point[kind] for kind in point if kind != "mu"}
                )

    def _log_points(self, name: str, curve: dict[str, Any]) -> None:
        for i, removed in enumerate(curve["removed"]):
            random = [accuracies[i] for accuracies in curve["random"]]
            point = {order: curve[order][i] for order in ("selected", "weakest")}
            point["random"] = sum(random) / len(random)
            self.log({"curve/removed": removed} | {f"{name}/{key}": value for key, value in point.items()})

    def log_result(self, record: dict[str, Any], relevant_filters: Sequence[Mapping[str, Any]]) -> None:
        """Log a job's record: accuracies against mu, the accuracy-drop curve, and the table of relevant filters.

        Args:
            relevant_filters: the rows of the table.
        """
        accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
        self.log(
            {
                "mu": record["mu"],
                "ablation/intact": accuracy["intact"],
                "ablation/selected": accuracy["selected"],
                "ablation/random": sum(accuracy["random"]) / len(accuracy["random"]),
                **{f"ablation/random_{i}": value for i, value in enumerate(accuracy["random"])},
                "tipping/distance": abs(accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2),
                **{f"filters/{key}": filters[key] for key in ("relevant", "total")},
                **{f"filters/{layer}": count for layer, count in filters["per_layer"].items()},
                "selection/relative_gap": max(selection["relative_gap"]),
                "selection/certified": selection["certified"],
                **({} if selection["binds"] is None else {"selection/binds": sum(selection["binds"])}),
                **{f"seconds/{stage}": seconds for stage, seconds in record["seconds"].items()},
            }
        )
        self._log_points("curve", record["curve"])
        line = _series(record)
        groups = {SERIES: line, SERIES_AT_MU: f"{line}, mu={record['mu']:g}"}
        self._attempt(lambda run: run.config.update(groups))  # type: ignore[no-untyped-call]
        self.log_tables({"relevant_filters": relevant_filters})

    def log_tables(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Log tables under their names; a table has every column that any of its rows has."""
        for name, rows in tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            values = [_uniform([row.get(column) for row in rows]) for column in columns]
            self._log_table(name, columns, [list(row) for row in zip(*values, strict=True)])

    def _log_table(self, name: str, columns: Sequence[str], rows: list[list[Any]]) -> None:
        def table(run: wandb.Run) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=rows)})

        self._attempt(table)

    def log_charts(self, charts: Mapping[str, Path]) -> None:
        """Log image files under their names."""

        def images(run: wandb.Run) -> None:
            import wandb

            run.log({f"charts/{name}": wandb.Image(str(path)) for name, path in charts.items()})

        self._attempt(images)

    def log_summary(self, figures: Mapping[str, float]) -> None:
        """Log key figures as the summary of the run."""
        self._attempt(lambda run: run.summary.update(dict(figures)))

    def log_files(self, name: str, files: Sequence[Path]) -> None:
        """Log files as one artifact."""

        def artifact(run: wandb.Run) -> None:
            import wandb

            artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[-128:], type="report")
            for path in files:
                artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._attempt(artifact)

    def log_pictures(self, drawn: Mapping[str, Picture], epoch: int | None = None) -> None:
        """Log pictures with captions under their names; with an epoch, log them against the epoch."""

        def images(run: wandb.Run) -> None:
            import wandb

            images = {
                f"pictures/{name}": wandb.Image(picture.pixels, caption=picture.caption)
                for name, picture in drawn.items()
            }
            run.log(images if epoch is None else {**images, "epoch": epoch})

        self._attempt(images)

    def finish(self, exit_code: int) -> None:
        """Upload what remains and close the run; what cannot be uploaded in time stays on disk."""

        def close(run: wandb.Run) -> None:
            begun = time.monotonic()
            run.finish(exit_code=exit_code)
            if not run.offline and time.monotonic() - begun >= run.settings.finish_timeout:
                log.warning("W&B: not all was uploaded in time; the rest goes by: wandb sync %s", Path(run.dir).parent)

        self._failed = False  # a failed run is closed too: the next job would write into it
        self._attempt(close)

    def _attempt(self, action: Callable[[wandb.Run], object]) -> None:
        if self._run is None or self._failed:
            return
        try:
            action(self._run)
        except Exception as error:
            self._failed = True
            log.warning("W&B failed, and this job goes on without it: %s", one_line(error))


def _define(run: wandb.Run, metrics: str, step: str) -> None:
    run.define_metric(metrics, step_metric=step)


def _series(record: dict[str, Any]) -> str:
    """Return a job's architecture, data, protocol and training as one text, since a W&B plot groups by one key only."""
    options, model = record["config"], dict(record["model"])
    name, target = model.pop("name"), model.pop("_target_", "")
    architecture = " ".join([name if target.startswith("tipping.") else f"{name} {target}", *_pairs(model)])
    randomized = [] if options["randomize"] == "none" else [f"randomize={options['randomize']}"]
    others = [record["protocol"]["name"], *randomized, " ".join(_pairs(options["trainer"]))]
    return ", ".join([f"{architecture} on {record['data']}", *others])


def _pairs(options: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in options.items() if value is not None]


def _uniform(column: Sequence[Any]) -> list[Any]:
    """Return a column with values of one type, as W&B requires, and None for empty values and infinite numbers."""
    given = [value for value in column if value is not None and value != ""]
    if all(isinstance(value, bool) for value in given):
        return [None if value == "" else value for value in column]
    if all(isinstance(value, Real) for value in given):
        return [value if isinstance(value, Real) and math.isfinite(value) else None for value in column]
    return [None if value is None or value == "" else str(value) for value in column]


@contextmanager
def track(options: Mapping[str, Any], tracking: Tracking, job_type: str, directory: Path) -> Iterator[Run]:
    """Open a run for the duration of a job, and close it also when the job fails or is terminated.

    Args:
        options: the job's whole configuration, recorded with the run.
        job_type: `train` or `interpret`.
        directory: the folder of the job; the name of its sweep's folder is the group of the run.
    """
    started = _init(
        tracking,
        config=dict(options),
        job_type=job_type,
        group=short((sweep := sweep_of(directory)).name),
        name=short(f"{sweep.name}/{directory.relative_to(sweep)}"),
        tags=[short(name, LONGEST_TAG) for kind in ("data", "model", "protocol") if (name := options[kind]["name"])],
    )
    with _closing(started) as run:
        yield run


def sweep_of(directory: Path) -> Path:
    """Return the folder of the sweep or search that contains a job's folder.

    Hydra marks the folder of a sweep by its files; where no folder is marked, the parent folder is returned.
    """
    marked = (folder for folder in directory.parents if any((folder / mark).exists() for mark in MARKS))
    return next(marked, directory.parent)


def summarise(
    directory: Path,
    tracking: Tracking,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    charts: Mapping[str, Path],
    files: Sequence[Path],
    summary: Mapping[str, float],
) -> None:
    """Log one run for a sweep as a whole, beside the runs of its jobs; log nothing when tracking is off.

    Args:
        directory: the folder of the sweep; its name is the group of the runs of its jobs.
        tables: the rows of each table, by the name of the table; tables without rows are left out. The dashboard shows
            `TABLES`.
        curves: the points of each group of networks, mu and mean accuracies, by the name of the group.
        charts: the image file of each chart, by the name of the chart; the dashboard shows `CHARTS`.
        files: files to keep together as one artifact.
        summary: key figures by their names.
    """
    name = directory.absolute().name
    with _closing(_init(tracking, job_type="summary", group=short(name), name=short(f"{name}/summary"))) as run:
        run.log_tables({name: rows for name, rows in tables.items() if rows})
        run.log_over_seeds(curves)
        run.log_summary(summary)
        if charts:
            run.log_charts(charts)
        if files:
            run.log_files(f"{name}-report", files)


@contextmanager
def _closing(started: wandb.Run | None) -> Iterator[Run]:
    run = Run(started)
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)


def _init(options: Tracking, **job: Any) -> wandb.Run | None:
    """Start a W&B run: online when logged in and in reach, otherwise offline; None when switched off or impossible."""
    if not options.enabled or os.environ.get("WANDB_MODE") == "disabled":
        return None
    quiet()
    modes: list[Literal["online", "offline"]] = ["online", "offline"]
    for mode in modes:
        try:
            if mode == "online" and not _wants_online():
                continue
            return _start(mode, options, job)
        except Exception as error:
            log.warning("W&B could not start %s: %s", mode, one_line(error))
            os.environ["WANDB_MODE"] = "offline"  # later jobs do not wait again
    return None


def quiet() -> None:
    """Set W&B's environment variables to `DEFAULTS`, unless they are set: no banners, error reports or long waits."""
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)


def one_line(error: Exception) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split())


def _wants_online() -> bool:
    mode = os.environ.get("WANDB_MODE")
    return mode == "online" or (mode is None and logged_in())


def logged_in() -> bool:
    """Return whether a user is logged in to W&B."""
    import wandb

    return wandb.login(prompt=False)


def _start(mode: Literal["online", "offline"], options: Tracking, job: dict[str, Any]) -> wandb.Run:
    (folder := Path(options.dir).absolute()).mkdir(parents=True, exist_ok=True)
    avoid_home(folder)
    import wandb  # after that

    settings = wandb.Settings(console="off", reinit="finish_previous")
    run = wandb.init(project=options.project, dir=folder, mode=mode, settings=settings, **job)
    log.info("W&B: %s run %s", mode, run.url or Path(run.dir).parent)
    return run
