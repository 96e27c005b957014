"""The charts and sentences of networks that differ only by their seed, and of trainings."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tipping.experiment.record import TrainRecord
from tipping.report.sentences import count_seeds, sentence_of, training_name
from tipping.results import charts, published
from tipping.results.charts import INTACT, RANDOM, RELEVANT, Line
from tipping.results.folder import SweepFolder
from tipping.results.jobs import Job
from tipping.results.rendering import NotDrawn
from tipping.results.sweep import Network
from tipping.results.tipping_map import Group, name_of, natural, tipping_chart
from tipping.tipping_points import along

FACETS = 24  # groups of networks that are drawn, at most
AXES = {"mu": "mu", "filters": "filters ablated"}


class Image(NamedTuple):
    """A picture as a data URI, with its content in words and a shorter caption, or why it is missing."""

    uri: str
    alt: str
    caption: str = ""
    fault: str = ""


class Facet(NamedTuple):
    """The charts and the sentence of networks that differ only by their seed.

    Attributes:
        name: the options that tell the networks apart from others.
        sweep: the name of their sweep.
        sentence: where the networks tip.
        drops: accuracy-drop charts by axis: `mu` and `filters`, or `order` for networks at one mu.
        layers: the chart of relevant filters by layer; None where it is not drawn.
    """

    name: str
    sweep: str
    sentence: str
    drops: dict[str, Image]
    layers: Image | None


def group_name(options: dict[str, str], apart: Sequence[str]) -> str:
    """Name a group of networks by those of its options that tell groups apart."""
    return name_of({key: options[key] for key in apart if key in options})


def image_of(drawn: Any, words: str) -> Image:
    """Render an altair chart as an SVG image, with its content in words; one that cannot be drawn says why."""
    try:
        return Image(data_uri(charts.svg(drawn).encode(), "svg+xml"), words)
    except NotDrawn as error:
        return Image("", words, fault=str(error))


def data_uri(content: bytes, kind: str) -> str:
    """Encode an image of a kind, such as `png`, as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def tipping_images(sweeps: Sequence[SweepFolder], apart: Sequence[str]) -> list[Image]:
    """Draw the tipping points of all networks in one chart, so that sweeps can be compared.

    Args:
        sweeps: the folders of the sweeps.
        apart: the options by which networks are named.

    Returns:
        an image for each panel of the chart; none where no network is above chance.
    """
    named = []
    for sweep in sweeps:
        suffix = f" ({sweep.name})" if len(sweeps) > 1 else ""
        named += [
            (f"{group_name(group.options, apart)}{suffix}", group) for group in sweep.groups if group.above_chance
        ]
    if not named:
        return []
    named.sort(key=lambda pair: natural(pair[0]))
    words = [f"Tipping points {axis}, with 95 % intervals" for axis in ("in mu", "in the share of filters removed")]
    panels = tipping_chart(named[: FACETS * len(sweeps)]).hconcat
    return [image_of(panel, text) for panel, text in zip(panels, words, strict=True)]


def facet_of(group: Group, apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Draw and describe a group of networks at several mu.

    Args:
        group: the networks.
        apart: the options by which networks are named.
        sweep: the name of their sweep.
        drawn: whether charts are drawn.
    """
    name = group_name(group.options, apart)
    if not drawn:
        return Facet(name, sweep, sentence_of(group), {}, None)
    return Facet(name, sweep, sentence_of(group), _drops(group, name), _layers(group.networks, name))


def _drops(group: Group, name: str) -> dict[str, Image]:
    """Draw the accuracy-drop curves of a group, by axis."""
    curves, drops = [network.curves for network in group.networks], {}
    for axis, axis_words in AXES.items():
        lines: dict[str, list[Line]] = {RELEVANT: [], RANDOM: [], INTACT: []}
        for one in curves:
            intact, curves_BP = one.intact_N.mean(), np.vstack([one.selected_PN.mean(1), one.random_PDN.mean(2).T])
            x_P, curves_BP = along(one, axis, np.full(len(curves_BP), intact), curves_BP)
            x_P = np.exp(x_P) if axis == "mu" else x_P
            lines[RELEVANT].append((x_P, curves_BP[0]))
            lines[RANDOM] += [(x_P, random_P) for random_P in curves_BP[1:]]
            lines[INTACT].append((x_P, np.full(len(x_P), intact)))
        drops[axis] = image_of(charts.drop(lines, axis), f"Accuracy of {name} against {axis_words}")
    return drops


def _layers(networks: Sequence[Network], name: str) -> Image:
    lines: dict[str, list[Line]] = {}
    for network in networks:
        for layer in network.records[0].filters.per_layer:
            counts = [record.filters.per_layer.get(layer, math.nan) for record in network.records]
            lines.setdefault(layer, []).append((network.curves.mu_P, np.array(counts)))
    return image_of(charts.by_layer(lines), f"Relevant filters of {name} by layer, against mu")


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group jobs that differ only by their seed."""
    grouped: dict[str, list[Job]] = {}
    for job in jobs:
        grouped.setdefault(json.dumps([job.options, job.record.mu], sort_keys=True), []).append(job)
    return list(grouped.values())


def facet_at_one_mu(jobs: Sequence[Job], apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Draw and describe networks at one mu: accuracy along the order of their filters, on fewer images.

    Args:
        jobs: jobs that differ only by their seed.
        apart: the options by which networks are named.
        sweep: the name of their sweep.
        drawn: whether the chart is drawn.
    """
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
    """Draw how tipping points move while networks are trained; None where no curve was measured."""
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
