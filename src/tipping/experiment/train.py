"""The job of train.py: a network, its test accuracy, and curves and pictures during its training."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from tipping.ablation import DropCurve, chance_of, drop_curve
from tipping.errors import require
from tipping.experiment import records, staging
from tipping.experiment.config import Config
from tipping.experiment.mu import require_number
from tipping.experiment.network import find_or_train, load_dataset_and_model, pick_device, warn_near_chance
from tipping.experiment.overrides import Given
from tipping.experiment.pictures import check_pictures, draw_subject
from tipping.experiment.record import TrainRecord
from tipping.experiment.record_parts import EpochCurve, TestAccuracy
from tipping.experiment.stopwatch import Stopwatch
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.experiment.versions import describe
from tipping.files import digest
from tipping.selection import Selection
from tipping.tracking import track

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from tipping.visualize.draw import Picture

log = logging.getLogger(__name__)


def job(config: Config, directory: Path, conf: Path, given: Given | None = None) -> None:
    """Run the job: data → network, kept in the store → test accuracy; with curves and pictures every few epochs.

    Args:
        directory: the folder of the job.
        conf: the folder of the presets.
        given: what the command line gave to the job, for its record.
    """
    require(config.randomize == "none", "randomize", config.randomize, "train.py trains all layers; use interpret.py")
    require_number(config.mu)
    stage, store, device = Stopwatch(), Store(config.store.dir), pick_device(config.device)
    described = describe(config, device, conf)
    dataset, model = load_dataset_and_model(config, device)

    images = dataset.split(config.protocol.evaluated_on).spread(config.curve.images)
    curves: dict[str, EpochCurve] = {}

    @lru_cache(maxsize=1)  # the curve and the pictures of an epoch share the selection
    def interpreted(weights: str) -> tuple[Subject, Selection]:
        subject = Subject.from_options(model, dataset, config)
        return subject, subject.select(subject.fresh_responses())

    def curve(model: nn.Module) -> DropCurve:
        subject, selection = interpreted(digest(model.state_dict()))
        order_K, controls, points = selection.order_K, selection.controls, config.curve.points
        return drop_curve(subject.filters, images, order_K, controls, points, **subject.manner())

    def drawn(model: nn.Module) -> dict[str, Picture]:
        explained = images.spread(config.visualize.images)
        return draw_subject(*interpreted(digest(model.state_dict())), images, explained, dataset.classes)

    with staging.place_of(directory) as place, track(asdict(config), config.tracking, "train", directory) as run:
        every = config.curve.every_n_epochs
        every_picture = config.visualize.every_n_epochs if config.visualize.enabled else 0
        if every_picture:
            check_pictures(Subject.from_options(model, dataset, config))

        def keep_curve(curve: DropCurve, epoch: int) -> None:
            from tipping.tipping_points import half_drop  # imports scipy

            tips_at = half_drop(curve.removed, curve.selected, chance_of(images))
            curves[str(epoch)] = EpochCurve(**curve.record(), tips_at=tips_at)
            run.log_curve(curve, epoch, tips_at)
            where = f"tips at {tips_at:.1f} of" if tips_at is not None else "does not tip, even without all"
            log.info("epoch %d: %s %d relevant filters", epoch, where, curve.removed[-1])

        def keep_pictures(pictures: dict[str, Picture], epoch: int) -> None:
            records.write_pictures(place / records.PICTURES / f"epoch_{epoch}", pictures)
            run.log_pictures(pictures, epoch)

        def callbacks() -> list[Callback]:
            from tipping.experiment.callbacks import AccuracyDropCurve, FilterPictures  # imports Lightning

            return [
                AccuracyDropCurve(curve, keep_curve, every),
                FilterPictures(drawn, keep_pictures, every_picture),
            ]

        anew = every + every_picture > 0  # only a training gives the curves and pictures
        with stage("network"):
            watching, metrics = callbacks() if anew else [], run.log_metrics
            network = find_or_train(model, dataset, config, store, callbacks=watching, on_metrics=metrics, anew=anew)
        with stage("test"):
            from tipping.network.training import evaluate  # imports Lightning, which takes seconds

            accuracy = evaluate(model, dataset)
            warn_near_chance(model, config, accuracy, chance_of(dataset.test))
        record = TrainRecord(
            **described,
            **(given._asdict() if given else {}),
            classes=list(dataset.classes),
            accuracy=TestAccuracy(accuracy),
            curves=curves,
            store={"network": network.key, "weights": digest(network.tensors)},
            trained_on=network.made_on,
            made={"network": not network.existed},
            seconds=stage.seconds,
            pictures=[],  # those of epochs are among the record's files alone
        )
        records.write_record(place, record)
        run.log({"test/accuracy": accuracy})
    log.info("test accuracy %.2f %%: %s", 100 * accuracy, network.path)
