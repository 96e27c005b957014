"""What is drawn and said of networks that differ by their seed only, and of trainings."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tipping.experiment.record import TrainRecord
from tipping.report.sentences import count_seeds, sentence_of, training_name
from tipping.results import charts, published
from tipping.results.charts import INTACT, RANDOM, RELEVANT, Line
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.results.sweep import Network
from tipping.results.tipping_map import Group, chart, name_of, natural
from tipping.tipping_points import along

FACETS = 48  # at most so many groups of networks are drawn
AXES = {"mu": "mu", "filters": "filters ablated"}


class Image(NamedTuple):
    """A picture as a data URI, what it shows in words, and a shorter caption."""

    uri: str
    alt: str
    caption: str = ""


class Facet(NamedTuple):
    """What is said and drawn of networks that differ by their seed only."""

    name: str
    sweep: str
    sentence: str
    drops: dict[str, Image]  # by axis, or along the order of the filters
    layers: Image | None


def group_name(options: dict[str, str], apart: Sequence[str]) -> str:
    return name_of({key: options[key] for key in apart if key in options})


def image_of(drawn: Any, words: str) -> Image:
    return Image(data_uri(charts.svg(drawn).encode(), "svg+xml"), words)


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def tipping_images(held: Sequence[SweepFolder], apart: Sequence[str]) -> list[Image]:
    """Draw the tipping points of all networks in one chart, so that sweeps can be compared."""
    named = []
    for own in held:
        of = f" ({own.name})" if len(held) > 1 else ""
        named += [(f"{group_name(group.options, apart)}{of}", group) for group in own.groups if group.above_chance]
    if not named:
        return []
    named.sort(key=lambda pair: natural(pair[0]))
    words = [f"Tipping points {of}, with 95 % intervals" for of in ("in mu", "in the share of filters removed")]
    panels = chart(named[: FACETS * len(held)]).hconcat
    return [image_of(panel, said) for panel, said in zip(panels, words, strict=True)]


def facet_of(group: Group, apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Draw and describe networks at several mu."""
    name = group_name(group.options, apart)
    if not drawn:
        return Facet(name, sweep, sentence_of(group), {}, None)
    return Facet(name, sweep, sentence_of(group), _drops(group, name), _layers(group.networks, name))


def _drops(group: Group, name: str) -> dict[str, Image]:
    """Draw the curves of a group, by axis."""
    curves, drops = [network.curves for network in group.networks], {}
    for axis, said in AXES.items():
        lines: dict[str, list[Line]] = {RELEVANT: [], RANDOM: [], INTACT: []}
        for one in curves:
            intact, curves_BP = one.intact_N.mean(), np.vstack([one.selected_PN.mean(1), one.random_PDN.mean(2).T])
            x_P, curves_BP = along(one, axis, np.full(len(curves_BP), intact), curves_BP)
            x_P = np.exp(x_P) if axis == "mu" else x_P
            lines[RELEVANT].append((x_P, curves_BP[0]))
            lines[RANDOM] += [(x_P, random_P) for random_P in curves_BP[1:]]
            lines[INTACT].append((x_P, np.full(len(x_P), intact)))
        drops[axis] = image_of(charts.drop(lines, axis), f"Accuracy of {name} against {said}")
    return drops


def _layers(of: Sequence[Network], name: str) -> Image:
    lines: dict[str, list[Line]] = {}
    for network in of:
        for layer in network.records[0].filters.per_layer:
            counts = [record.filters.per_layer[layer] for record in network.records]
            lines.setdefault(layer, []).append((network.curves.mu_P, np.array(counts)))
    return image_of(charts.by_layer(lines), f"Relevant filters of {name} by layer, against mu")


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that differ by their seed only."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(json.dumps([job.options, job.record.mu], sort_keys=True), []).append(job)
    return list(alike.values())


def facet_at_one_mu(jobs: Sequence[Job], apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Draw and describe networks at one mu: accuracy along the order of their filters, on fewer images."""
    records = [job.record for job in jobs]
    name = group_name(jobs[0].options, apart)
    intact, selected, random = (
        published.percent([float(np.mean(getattr(record.accuracy, kind))) for record in records])
        for kind in ("intact", "selected", "random")
    )
    relevant, total = np.mean([record.filters.ablated for record in records]), records[0].filters.total
    sentence = (
        f"At mu = {records[0].mu:g}, {relevant:.3g} of {total} filters are relevant: accuracy is {intact} % intact, "
        f"{selected} % without them, {random} % without as many random ones. "
        f"{count_seeds([record.seed for record in records])}. "
        f"The curve below is of {records[0].curve.images} images."
    )
    lines: dict[str, list[Line]] = {RELEVANT: [], RANDOM: []}
    for record in records:
        curve = record.curve
        removed_P = np.array(curve.removed)
        lines[RELEVANT].append((removed_P, np.array(curve.selected)))
        lines[RANDOM] += [(removed_P, np.array(one)) for one in curve.random]
    words = f"Accuracy of {name} as its filters are ablated, strongest first, at mu = {records[0].mu:g}"
    drawn = drawn and len(lines[RELEVANT][0][0]) > 1
    image = image_of(charts.drop(lines, "filters"), words) if drawn else None
    return Facet(name, sweep, sentence, {"order": image} if image else {}, None)


def training_image(trained: Sequence[TrainRecord]) -> Image | None:
    """Draw how the tipping point moves while networks are trained."""
    rows = []
    for record in trained:
        name = training_name(record, trained)
        for epoch, curve in record.curves.items():
            tips, most = curve.tips_at, curve.removed[-1]
            rows.append(
                {"name": name, "epoch": int(epoch), "at": most if tips is None else tips, "tips": tips is not None}
            )
    words = "How many relevant filters tip a network, after each epoch of its training"
    return image_of(charts.by_epoch(rows), words) if rows else None
