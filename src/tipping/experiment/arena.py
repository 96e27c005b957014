"""The job of `tipping arena`: a contest of selectors on one network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tipping.ablation import accuracies, chance_of
from tipping.arena import MATCHED, OWN, RANDOM, Arena, ByClass, Lines, Result
from tipping.data import Split
from tipping.errors import InputError, require
from tipping.experiment import checks, contest_files, outcome, records, staging
from tipping.experiment.arena_options import ALL, CHEAP
from tipping.experiment.config import ArenaConfig
from tipping.experiment.mu import require_number
from tipping.experiment.network import find_or_train, pick_device, warn_near_chance
from tipping.experiment.overrides import Given
from tipping.experiment.record import ArenaRecord
from tipping.experiment.record_parts import BareAccuracy, Entry
from tipping.experiment.stopwatch import Stopwatch
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.experiment.versions import describe
from tipping.selectors import COSTS, MU_LASSO, SELECTORS, Budget, Scores, require_selector
from tipping.tracking import track

log = logging.getLogger(__name__)
FIELDS = ("counts_P", "removed_DPN", "kept_DPN", "removed_loss_DP", "kept_loss_DP")


@dataclass(frozen=True)
class Results:
    """The results of a contest.

    Attributes:
        entries: the entries of its record.
        lines: the curves of each entry.
        classes: the predictions without the filters of each class, of each entry that has them.
        scores: the scores by each selector.
        refused: why a selector could not take part, by its name.
    """

    entries: list[Entry]
    lines: list[Lines]
    classes: list[ByClass | None]
    scores: dict[str, Scores]
    refused: dict[str, str]


@dataclass(frozen=True)
class Contest:
    """A contest whose results the store keeps, selector by selector, so that a contest that was stopped goes on.

    Attributes:
        arena: the rules.
        store: the store.
        recipe: what decides the results of all selectors.
    """

    arena: Arena
    store: Store
    recipe: dict[str, Any]

    @property
    def labels_N(self) -> np.ndarray:
        """The labels of the images on which accuracy is measured."""
        return self.arena.images.labels_N.cpu().numpy()

    def played(self, names: Sequence[str], stage: Stopwatch, count: int) -> Results:
        """Let selectors and random orders score and be measured, one after another; who cannot is left out.

        Args:
            stage: times each.
            count: the number of first filters of whose removal a line is logged.
        """
        results, chance = Results([], [], [], {}, {}), chance_of(self.arena.images)
        for name in names:
            try:
                with stage(name):
                    played = self.result(name)
            except InputError as error:
                results.refused[name] = str(error)
                log.warning("%s is left out: %s", name, error)
                continue
            if played.scores:
                results.scores[name] = played.scores
            entries = [entry_of(name, kind, played, self.labels_N, chance) for kind in played.lines]
            results.entries.extend(entries)
            results.lines.extend(played.lines.values())
            results.classes.extend(played.classes if kind == OWN else None for kind in played.lines)
            log.info("%s", sentence_of(entries, count))
        return results

    def result(self, name: str) -> Result:
        """Return the result of a selector, or of random orders, which the store keeps.

        Raises:
            InputError: the selector does not suit the network.
        """
        tensors = self.store.fetch(
            "arena", {**self.recipe, "selector": name}, lambda: _kept(self.arena.play(name))
        ).tensors
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        lines = {
            kind: Lines(*(arrays[f"{kind}.{field}"] for field in FIELDS))
            for kind in (OWN, MATCHED)
            if f"{kind}.counts_P" in arrays
        }
        scores = Scores(arrays["values"], arrays.get("error")) if "values" in arrays else None
        by_class = [arrays[f"class.{field}"] for field in ByClass._fields if f"class.{field}" in arrays]
        return Result(scores, float(arrays["seconds"]), lines, ByClass(*by_class) if by_class else None)


def _kept(result: Result) -> dict[str, Tensor]:
    """Return a result as tensors, for the store."""
    arrays: dict[str, Any] = {"seconds": result.seconds}
    if result.scores:
        arrays["values"] = result.scores.values
        if result.scores.error_F is not None:
            arrays["error"] = result.scores.error_F
    for kind, lines in result.lines.items():
        arrays |= {f"{kind}.{field}": getattr(lines, field) for field in FIELDS}
    if result.classes:
        arrays |= {f"class.{field}": array for field, array in result.classes._asdict().items()}
    return {key: torch.as_tensor(array) for key, array in arrays.items()}


def job(config: ArenaConfig, directory: Path, conf: Path, given: Given | None = None) -> ArenaRecord:
    """Run the job: data → network → scores by each selector → curves without and with their first filters → record.

    Args:
        directory: the folder of the job.
        conf: the folder of the presets.
        given: what the command line gave to the job, for its record.
    """
    require_number(config.mu)
    stage, store, device = Stopwatch(), Store(config.store.dir), pick_device(config.device)
    described, names = describe(config, device, conf), names_of(config)
    with stage("data"):
        dataset, model, _ = checks.untrained(config, device)
        images = dataset.split(config.protocol.evaluated_on).spread(config.arena.images)

    with staging.place_of(directory) as place, track(asdict(config), config.tracking, "arena", directory) as run:
        with stage("network"):
            network = find_or_train(model, dataset, config, store, on_metrics=run.log_metrics)
        subject = Subject.from_options(model, dataset, config)
        contest = contest_of(config, subject, images, store, described["versions"]["code"])
        with stage("intact"):
            intact_N = subject.intact(images, store)
            (intact,), chance = accuracies(intact_N[None], images.labels_N), chance_of(images)
            warn_near_chance(model, config, intact, chance)
        with stage("selection"):
            relevant = contest.arena.reference
            if not relevant.solution.certified_MC.all():
                log.warning("mu=%g: the mu-lasso, with whose filters orders are matched, is NOT certified", config.mu)
        results = contest.played(names, stage, len(relevant.order_K))
        record = ArenaRecord(
            **described,
            **(given._asdict() if given else {}),
            classes=list(dataset.classes),
            accuracy=BareAccuracy(intact, chance),
            filters=outcome.count_filters(subject.filters.index, relevant),
            selection=outcome.certificate("homotopy", relevant, config.mu),
            images=len(images),
            entries=results.entries,
            refused=results.refused,
            store={"network": network.key, "weights": subject.weights},
            trained_on=network.made_on,
            made={"network": not network.existed},
            seconds=stage.seconds,
            pictures=[],
            self_test=outcome.self_test(subject.filters),
        )
        contest_files.write_scores(place / records.SELECTION, subject.filters, relevant.order_K, results.scores)
        contest_files.write_lines(place / records.PREDICTIONS, contest.labels_N, results.lines, results.classes)
        records.write_record(place, record)
        run.log_tables({"arena": [row_of_entry(entry) for entry in results.entries]})
    return record


def names_of(config: ArenaConfig) -> list[str]:
    """Return the names of the selectors that meet, random orders first, then the cheap ones.

    Raises:
        InputError: there is no such selector; or the options ask for other filters than the mu-lasso's in the job.
    """
    require(config.selector == MU_LASSO, "selector", config.selector, "the arena compares many; give arena.selectors")
    require(config.randomize == "none", "randomize", config.randomize, "the arena takes networks as they are")
    positive, remedy = config.selection.positive, "the arena has it as arena.selectors=mu_lasso_positive; leave it out"
    require(not positive, "selection.positive", positive, remedy)
    chosen = config.arena.selectors
    if chosen in (ALL, [ALL]):
        chosen = list(SELECTORS)
    elif chosen in (CHEAP, [CHEAP]):
        chosen = [name for name, one in SELECTORS.items() if one.cost != "ablations"]
    chosen = chosen if isinstance(chosen, list) else [chosen]
    for name in chosen:
        require_selector(name, "arena.selectors")
    costs, raw = list(COSTS), config.protocol.scale == "raw"  # of which responses of a layer do not add up
    random = [name for name in RANDOM if not (raw and name == "random_norm")]
    return [*random, *sorted(chosen, key=lambda name: costs.index(SELECTORS[name].cost))]


def contest_of(config: ArenaConfig, subject: Subject, images: Split, store: Store, code: str | None) -> Contest:
    """Return the contest of a network.

    Args:
        images: the images on which accuracy is measured.
        store: keeps the results.
        code: the digest of the code, which is part of what decides them.
    """
    options = config.arena
    budget = Budget(options.ablation_images, options.single_images, options.permutations, options.removals)
    evidence = subject.evidence(config.mu, budget, store)
    arena = Arena(evidence, images, config.protocol.draws, options.within_layers)
    recipe = {
        "weights": subject.weights,
        "images": subject.train.fingerprint,
        "evaluated": images.fingerprint,
        **subject.measure.recipe(subject.filters),
        "sites": list(subject.filters.sites.items()),
        **{key: getattr(config.protocol, key) for key in ("scope", "value", "sites", "draws")},
        "mu": config.mu,
        "seed": config.seed,
        "arena": {key: value for key, value in asdict(options).items() if key != "selectors"},
        "code": code,
    }
    return Contest(arena, store, recipe)


def entry_of(name: str, kind: str, played: Result, labels_N: np.ndarray, chance: float) -> Entry:
    """Return the entry of a record for the result of a selector, by one kind of order."""
    lines = played.lines[kind]
    removed_DP, kept_DP = lines.accuracies(labels_N)
    point = lines.tipping_point(labels_N, chance)
    ends = (None if np.isinf(value) else value for value in (max(point.at, 0.0), max(point.low, 0.0), point.high))
    family, cost = ("random", "weights") if name in RANDOM else (SELECTORS[name].family, SELECTORS[name].cost)
    curves = (line.tolist() for line in (removed_DP, kept_DP, lines.removed_loss_DP, lines.kept_loss_DP))
    by_class = played.classes if kind == OWN else None
    drops = by_class and by_class.mean_drops(lines.removed_DPN[0, 0], labels_N)
    return Entry(
        name, family, cost, kind, played.seconds, lines.counts_P.tolist(), *curves, *ends, *(drops or (None, None))
    )


def row_of_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as the row of a table: its names and its numbers of filters that tip."""
    return {key: value for key, value in asdict(entry).items() if not isinstance(value, list)}


def sentence_of(entries: Sequence[Entry], count: int) -> str:
    """Say in one line what is left without the first filters of a selector's orders.

    Args:
        entries: the entries of the selector.
        count: the number of first filters.
    """
    words = {OWN: "in its own order", MATCHED: "with as many of each layer as the mu-lasso"}
    parts = []
    for entry in entries:
        without = np.mean([line[entry.counts.index(count)] for line in entry.removed])
        parts.append(f"{100 * without:.2f} % {words[entry.orders]}")
    return f"{entries[0].selector}: without {count} filters {', '.join(parts)}"
