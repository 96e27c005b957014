"""The sentences of the report page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tipping.errors import printable
from tipping.experiment.options import model_text, varying_options
from tipping.experiment.record import TrainRecord
from tipping.results import published
from tipping.results.folder import options_as_text
from tipping.results.jobs import Job
from tipping.results.tipping_map import Group, parts_at, point_text


def sentence_of(group: Group) -> str:
    """Say where the networks of a group tip, or that they are not above chance."""
    records = [record for network in group.networks for record in network.records]
    total, seeds = records[0].filters.total, sorted(network.seed for network in group.networks)
    intact = published.percent([network.records[0].accuracy.intact for network in group.networks])
    if not group.above_chance:
        chance = 100 * group.networks[0].chance
        return f"Intact accuracy is {intact} %, not above chance ({chance:.2f} %): nothing tips. {count_seeds(seeds)}."
    sampled = {1: "its test images and random controls", 2: "seeds (of two they say little)"}.get(len(seeds), "seeds")
    spread = " (smallest to largest)" if "to" in intact else ""
    parts = parts_at(group.networks, "mu")
    apart = "at no mu measured" if parts is None else f"first at mu = {parts:.3g}"
    return (
        f"Tips at mu {point_text(group.by_mu, math.exp)}, without {point_text(group.by_filters)} of its {total} "
        f"filters; random ones tip it without {point_text(group.random)}, and leave clearly more accuracy {apart}. "
        f"{count_seeds(seeds)}; 95 % intervals over {sampled}. Intact accuracy: {intact} %{spread}."
    )


def count_seeds(seeds: Sequence[int]) -> str:
    """List seeds in words: `Seed 0` or `Seeds 0, 1`."""
    return f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def best_trial(trials: Sequence[dict[str, str]], best: dict[str, str]) -> list[str]:
    """Say what a search over several options found.

    Args:
        trials: the trials of the search, the best first.
        best: the options of the best trial that tips its network; empty where no trial does.

    Returns:
        one sentence; none where there are no trials.
    """
    if not trials:
        return []
    if not best:
        return [f"No network tipped in {len(trials)} trials."]
    where = ", ".join(f"{name}={float(value):.4g}" for name, value in best.items())
    tipped = sum(trial["tips"] == "True" for trial in trials)
    fewest = f"The fewest filters that tip a network: {float(trials[0]['filters']):g}, with {where}"
    return [f"{fewest}; {tipped} of {len(trials)} trials tip theirs."]


def sentences_of_trainings(trained: Sequence[TrainRecord]) -> list[str]:
    """Say how accurate trained networks are, and how many filters tip them: a text for each name, over its seeds."""
    by_name: dict[str, list[TrainRecord]] = {}
    for record in trained:
        by_name.setdefault(training_name(record, trained), []).append(record)
    sentences = []
    for name, records in by_name.items():
        accuracy = published.percent([record.accuracy.intact for record in records])
        text = f"{name}: {accuracy} % of the test images are classified rightly. "
        text += f"{count_seeds([record.seed for record in records])}."
        last = [list(record.curves.values())[-1].tips_at for record in records if record.curves]
        tips = [at for at in last if at is not None]
        if tips:
            within = f" ({min(tips):.1f} to {max(tips):.1f})" if len(tips) > 1 else ""
            some = "" if len(tips) == len(last) else f"; {len(last) - len(tips)} of {len(last)} do not tip"
            text += f" By the last curve they tip without {np.mean(tips):.1f}{within} relevant filters{some}."
        elif last:
            text += " By the last curve they do not tip, even without all relevant filters."
        sentences.append(text)
    return sentences


def training_name(record: TrainRecord, trained: Sequence[TrainRecord]) -> str:
    """Name a trained network by its model and by the options in which the trainings differ."""
    varying, options = varying_options(trained), options_as_text(record)
    name = model_text(record.model["name"], options.get("model._target_"), "model._target_" not in varying)
    others = [key for key in varying if key not in ("model.name", "model._target_")]
    return ", ".join([name, *(f"{key}={options.get(key, '')}" for key in others)])


def checks_of(jobs: Sequence[Job]) -> list[str]:
    """Say how many selections of jobs are certified, unique, and better than noise."""
    if not jobs:
        return []
    selections = [job.record.selection for job in jobs]
    certified = sum(one.certified for one in selections)
    gap = max(max(one.relative_gap) for one in selections)
    unique = sum(all(one.unique) for one in selections)
    noise = sum(max(one.explainable) <= one.explainable_by_noise for one in selections)
    return [
        f"{certified} of {len(jobs)} selections are certified minima; the largest relative duality gap is {gap:.0e}.",
        f"In {unique} of {len(jobs)} the relevant filters are the only ones that reach the minimum.",
        f"In {len(jobs) - noise} of {len(jobs)} some class is explained better than noise would be.",
    ]


def caption_of(stem: str, classes: Sequence[str]) -> str:
    """Caption a picture by the name of its file, without its suffix.

    Args:
        stem: the name, such as `class_3`.
        classes: the names of the classes; a class without a name is called by its number.
    """
    kind, _, number = printable(stem).partition("_")
    if kind == "class":
        names = {str(label): name for label, name in enumerate(classes)}
        return f"What the relevant filters of class {printable(names.get(number, number))} respond to"
    return f"Why image {number} got its class" if kind == "image" else "Trained, and with layers initialised anew"
