"""Weights & Biases: one run per job. The only room that imports it; its failures never end a job."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning.loggers import Logger

from tipping import config
from tipping.evaluation import DropCurve

if TYPE_CHECKING:
    import wandb

    from tipping.visualize import Picture

log = logging.getLogger(__name__)


class Run(Logger):
    """A W&B run as a Lightning logger; without a run, each call does nothing."""

    def __init__(self, run: wandb.Run | None) -> None:
        super().__init__()
        self._run = run
        self._failed = False
        steps = {
            "ablation/*": "mu",
            "curve/*": "curve/removed",
            "train/*": "train/step",
            "pictures/*": "epoch",
        }
        for metrics, step in steps.items():
            self._attempt(partial(_define, metrics=metrics, step=step))

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self._run.id if self._run else None

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the whole configuration is recorded at the start."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics of the training against its step."""
        self._attempt(lambda run: run.log({**metrics, "train/step": step}))

    def log(self, metrics: dict[str, Any]) -> None:
        """Log metrics of the job as a whole."""
        self._attempt(lambda run: run.log(metrics))

    def log_curve(self, curve: DropCurve, epoch: int, tips_at: float | None) -> None:
        """Log the accuracy-drop curve of a network after some epochs of its training, and at how many filters it
        tips."""
        self._log_points(f"curve/epoch_{epoch}", curve.record())
        if tips_at is not None:
            self.log({"tipping/filters": tips_at, "epoch": epoch})

    def _log_points(self, name: str, curve: dict[str, Any]) -> None:
        for i, removed in enumerate(curve["removed"]):
            random = [accuracies[i] for accuracies in curve["random"]]
            point = {order: curve[order][i] for order in ("selected", "weakest")}
            point["random"] = sum(random) / len(random)
            self.log({"curve/removed": removed} | {f"{name}/{key}": value for key, value in point.items()})

    def log_result(self, record: dict[str, Any], relevant_filters: tuple[list[str], list[list[Any]]]) -> None:
        """Log a job's record: accuracies against mu, the drop curve, and the table of relevant filters."""
        accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
        self.log(
            {
                "mu": record["mu"],
                "ablation/intact": accuracy["intact"],
                "ablation/selected": accuracy["selected"],
                "ablation/random": sum(accuracy["random"]) / len(accuracy["random"]),
                **{f"ablation/random_{i}": value for i, value in enumerate(accuracy["random"])},
                "tipping/distance": abs(accuracy["selected"] - (accuracy["intact"] + accuracy["chance"]) / 2),
                "filters/relevant": filters["relevant"],
                "filters/total": filters["total"],
                **{f"filters/{layer}": count for layer, count in filters["per_layer"].items()},
                "selection/relative_gap": max(selection["relative_gap"]),
                "selection/certified": selection["certified"],
                **{f"seconds/{stage}": seconds for stage, seconds in record["seconds"].items()},
            }
        )
        self._log_points("curve", record["curve"])
        columns, rows = relevant_filters

        def table(run: wandb.Run) -> None:
            import wandb

            run.log({"relevant_filters": wandb.Table(columns=list(columns), data=rows)})

        self._attempt(table)

    def log_pictures(self, drawn: Mapping[str, Picture], epoch: int | None = None) -> None:
        """Log pictures under their names, as bytes, with their captions; those of a training against its epoch."""

        def images(run: wandb.Run) -> None:
            import wandb

            images = {
                f"pictures/{name}": wandb.Image(picture.pixels(), caption=picture.caption)
                for name, picture in drawn.items()
            }
            run.log(images if epoch is None else {**images, "epoch": epoch})

        self._attempt(images)

    def finish(self, exit_code: int) -> None:
        """Flush and close the run."""
        self._failed = False  # a run that failed is closed too, or the next job would write into it
        self._attempt(lambda run: run.finish(exit_code=exit_code))

    def _attempt(self, action: Callable[[wandb.Run], object]) -> None:
        if self._run is None or self._failed:
            return
        try:
            action(self._run)
        except Exception as error:
            self._failed = True
            log.warning("W&B failed, and this job goes on without it: %s", " ".join(str(error).split()))


def _define(run: wandb.Run, metrics: str, step: str) -> None:
    run.define_metric(metrics, step_metric=step)


@contextmanager
def track(options: config.Config, job_type: str, directory: Path) -> Iterator[Run]:
    """A run for the time of a job, flushed and closed also when the job fails or is terminated.

    Args:
        options: the job's whole configuration, recorded with the run.
        job_type: train or interpret.
        directory: the job's; the folder around it, a sweep's, names the run's group.
    """
    run = Run(
        _init(
            options.tracking,
            config=asdict(options),
            job_type=job_type,
            group=directory.parent.name,
            name=f"{directory.parent.name}/{directory.name}",
            tags=[options.data.name, options.model["name"], options.protocol.name],
        )
    )
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)


def _init(options: config.Tracking, **job: Any) -> wandb.Run | None:
    """A W&B run: online when logged in and in reach, offline otherwise, none when switched off or impossible."""
    if not options.enabled or os.environ.get("WANDB_MODE") == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    modes: list[Literal["online", "offline"]] = ["online", "offline"]
    for mode in modes:
        try:
            if mode == "online" and not _wants_online():
                continue
            return _start(mode, options, job)
        except Exception as error:
            log.warning("W&B could not start %s: %s", mode, " ".join(str(error).split()))
            os.environ["WANDB_MODE"] = "offline"  # the jobs after this one do not wait for it again
    return None


def _wants_online() -> bool:
    import wandb

    mode = os.environ.get("WANDB_MODE")
    return mode == "online" or (mode is None and wandb.login(prompt=False))


def _start(mode: Literal["online", "offline"], options: config.Tracking, job: dict[str, Any]) -> wandb.Run:
    import wandb

    folder = Path(options.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # timeouts in seconds; what is not uploaded by then stays for `wandb sync`
    settings = wandb.Settings(console="off", reinit="finish_previous", init_timeout=30, finish_timeout=60)
    run = wandb.init(project=options.project, dir=folder, mode=mode, settings=settings, **job)
    log.info("W&B: %s run %s", mode, run.url or Path(run.dir).parent)
    return run
