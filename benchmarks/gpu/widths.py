"""The map of tipping points over widths, dropout and seeds, as rows of docs/results/map.csv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gpu.work import Pace, Rows, Work, columns_of
from tipping.ablation import drop_curve, evaluate_ablations
from tipping.experiment import outcome
from tipping.experiment.config import Config
from tipping.experiment.record import InterpretRecord
from tipping.experiment.search_note import search_note
from tipping.experiment.search_options import SearchOptions
from tipping.experiment.searched import Searched
from tipping.results import sweep, tipping_map
from tipping.results.jobs import Job
from tipping.selection import explainable, selections

FILE = "widths.csv"
DROPOUT = (0.5, 0.0)
SEARCH = SearchOptions(low=0.1, high=3000, grid=9, precision=0, trials=40, storage=None)


def run(work: Work) -> None:
    """Search one network after another, all widths of a seed before the next; the row of each is kept at once.

    Raises:
        OutOfTime: some of those aimed at are left.
    """
    rows = Rows(work.out / FILE, columns_of("map"))
    pace = Pace(work, "widths, a small network")
    for seed in range(work.size.seeds):
        for filters in work.size.widths:
            for dropout in DROPOUT:
                own = (f"model.filters={filters}", f"model.dropout={dropout}", f"seed={seed}")
                options = work.options(*work.size.network, *own)
                if not rows.having(**{"model.filters": filters, "model.dropout": dropout, "seed": seed}):
                    with pace.piece(1 + (filters / 64) ** 2):
                        rows.add(searched(work, options))
                    print(f"{filters} filters, dropout {dropout:g}, seed {seed}", flush=True)


def searched(work: Work, options: Config) -> dict[str, object]:
    """The row of one network: its curve crosses the level between two neighbouring sets of relevant filters."""
    found = Searched.from_options(
        replace(options, store=replace(options.store, dir=str(work.store.folder))), SEARCH, work.device
    )
    best = explainable(found.path.problem)
    jobs: dict[float, Job] = {}
    known: dict[float, float] = {}
    while (mu := found.bracketing.next(known)) is not None and len(known) < SEARCH.trials:
        jobs[mu] = evaluated(work, found, replace(options, mu=mu), best)
        known[mu] = jobs[mu].record.accuracy.selected - found.level
    (network,), left_out = sweep.networks(list(jobs.values()))
    assert not left_out
    note = search_note(found.bracketing, known, found.level, saturation_mu=found.saturation)
    return tipping_map.network_row(network._replace(search=note))


def evaluated(work: Work, found: Searched, options: Config, best: tuple[np.ndarray, float]) -> Job:
    """A job at one mu, as interpret.py does it, without a folder."""
    subject, filters = found.subject, found.subject.filters
    images = work.dataset(options).split(options.protocol.evaluated_on)
    solution = found.path.solution([options.mu])
    (selection,) = selections(found.path.problem, filters, [options.mu], solution, subject.draws, best)
    intact_N = subject.intact(images, work.store)
    manner = subject.manner(work.store)
    predictions_AN = evaluate_ablations(filters, images, [selection.order_K, *selection.controls], **manner)
    few = images.spread(options.curve.images)
    curve = drop_curve(filters, few, selection.order_K, selection.controls, options.curve.points, **manner)
    parts = outcome.outcome(options, filters.index, selection, images, intact_N, predictions_AN, curve)
    record = InterpretRecord(
        **work.described(options), **parts, store={"weights": subject.weights}, made={}, seconds={}
    )
    selected_N, random_DN = predictions_AN[0], predictions_AN[1:]
    labels_N = images.labels_N.cpu().numpy()
    arrays = {"labels": labels_N, "intact": intact_N, "selected": selected_N, "random": random_DN}
    return Job(Path(), record, arrays)
