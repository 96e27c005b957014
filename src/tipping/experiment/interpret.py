"""The job of interpret.py: which filters a network relies on, and its accuracy without these filters."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from tipping.ablation import accuracies, chance_of, drop_curve, evaluate_ablations
from tipping.experiment import checks, outcome, records, staging
from tipping.experiment.by_class import ablate_by_class
from tipping.experiment.config import Config
from tipping.experiment.network import find_or_train, pick_device, warn_near_chance
from tipping.experiment.overrides import Given
from tipping.experiment.pictures import compare_signals, draw_subject
from tipping.experiment.reached import remark_on_mu
from tipping.experiment.record import InterpretRecord
from tipping.experiment.record_parts import ClassEntry
from tipping.experiment.stopwatch import Stopwatch
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.experiment.versions import describe
from tipping.frames import write_rows
from tipping.tracking import track

log = logging.getLogger(__name__)


def job(config: Config, directory: Path, conf: Path, given: Given | None = None) -> InterpretRecord:
    """Run the job: data → network → responses → selection → ablation → record, for one mu.

    Args:
        directory: the folder of the job.
        conf: the folder of the presets.
        given: what the command line gave to the job, for its record; None for a job of a search.
    """
    stage, store, device = Stopwatch(), Store(config.store.dir), pick_device(config.device)
    described = describe(config, device, conf)
    with stage("data"):
        dataset, model, randomized = checks.untrained(config, device)
        images = dataset.split(config.protocol.evaluated_on)

    with staging.place_of(directory) as place, track(asdict(config), config.tracking, "interpret", directory) as run:
        with stage("network"):
            network = find_or_train(model, dataset, config, store, on_metrics=run.log_metrics)
            trained = checks.as_trained(model, dataset, config, store)
            checks.randomize_layers(model, randomized, dataset.image_shape, dataset.width, config)
        subject = Subject.from_options(model, dataset, config)
        with stage("responses"):
            problem, responses = subject.responses(store)
        with stage("selection"):
            reach = subject.reach(problem, store)
            subject = subject.at_mu(reach)
            selection = subject.select(problem)
            if remark := remark_on_mu(subject.options.mu, selection, reach):
                log.warning("%s", remark)
        with stage("intact"):
            manner = subject.manner(store)
            intact_N = subject.intact(images, store)
            warn_near_chance(model, config, accuracies(intact_N[None], images.labels_N)[0], chance_of(images))
        with stage("ablation"):
            ablations = [selection.order_K, *selection.controls]
            predictions_AN = evaluate_ablations(subject.filters, images, ablations, **manner)
        with stage("curve"):
            few = images.spread(config.curve.images)
            curve = drop_curve(
                subject.filters, few, selection.order_K, selection.controls, config.curve.points, **manner
            )
        by_class, entries, alone_K = None, list[ClassEntry](), None
        if config.ablate == "class" and len(selection.order_K):
            with stage("by class"):
                by_class, entries, alone_K = ablate_by_class(subject, selection, images, intact_N, store)
        both = None
        if trained and randomized and config.visualize.enabled:
            with stage("visualize"):
                both = compare_signals(*trained, subject, store)

        index = subject.filters.index
        record = InterpretRecord(
            **{**described, "mu": subject.options.mu},
            **(given._asdict() if given else {}),
            classes=list(dataset.classes),
            **outcome.outcome(subject.options, index, selection, images, intact_N, predictions_AN, curve, reach),
            overlap=checks.overlap_with(trained, selection, index.layer_F, config.seed),
            signals_alike=both.similarity if both else {},
            store={
                "network": network.key,
                "weights": subject.weights,
                "responses": responses.key,
                "trained": trained[0].weights if trained else None,
            },
            trained_on=network.made_on,
            made={"network": not network.existed, "responses": not responses.existed},
            seconds=stage.seconds,
            pictures=None if config.visualize.enabled else [],
            self_test=outcome.self_test(subject.filters),
            by_class=entries,
        )
        records.write_selection(place, selection, subject.filters)
        more = by_class.arrays() if by_class else None
        records.write_predictions(place, images, intact_N, predictions_AN, few, curve, more)
        ranked = outcome.ranked(subject.filters, selection, record.classes, alone_K)
        write_rows(place / records.RANKED, ranked)
        records.write_record(place, record)
        run.log_result(record.as_json(), ranked)
        if config.visualize.enabled:  # after all other results are written
            from tipping.visualize.draw import picture_beside  # imports matplotlib

            with stage("pictures"):
                explained = images.spread(config.visualize.images)
                drawn = draw_subject(subject, selection, few, explained, dataset.classes, store)
                if both and both.names:
                    drawn["randomized"] = picture_beside(both, ("trained", config.randomize))
                records.write_pictures(place / records.PICTURES, drawn)
            records.write_record(place, replace(record, pictures=sorted(drawn), seconds=stage.seconds))
            run.log_pictures(drawn)
    log.info("%s", outcome.sentence(record))
    return record
