"""The report of sweeps and searches: one page, ``report.html``, that is read offline and without scripts.

``python -m tipping.report SWEEP_DIR [SWEEP_DIR …]`` writes it anew, several sweeps side by side.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from tipping import charts, comparison, provenance, results, tables, tipping_map, tracking
from tipping.atomic import replacing
from tipping.charts import INTACT, RANDOM, RELEVANT, Line
from tipping.config import Tracking
from tipping.errors import InputError
from tipping.networks import TRIALS, Job, Network, job_name, networks, read, trainings
from tipping.options import flat, varying_options
from tipping.records import PICTURES
from tipping.tables import Table
from tipping.tipping_map import Group, chart, groups, name_of, natural, parts_at, shown, varying
from tipping.tipping_point import along

PAGE = "report.html"
TABLES = (results.TABLE, results.TRAININGS, tipping_map.TABLE, TRIALS)  # files
FACETS = 48  # at most so many groups of networks are drawn
PICTURED = 4_000_000  # bytes of pictures on a page, the first job's always
AXES = {"mu": "mu", "filters": "filters ablated"}


class Held(NamedTuple):
    """What the folder of a sweep or search holds, read once.

    Attributes:
        jobs: of interpret.py.
        trainings: records of train.py.
        networks: at several mu; none of a search over several options, whose trials may chance upon one twice.
        groups: these over seeds.
        single: jobs of networks at one mu; of a search over several options those of its best trial.
        trials: of a search over several options, the best first.
        left_out: a line for each job or network that is not among these.
    """

    folder: Path
    name: str
    jobs: list[Job]
    trainings: list[dict[str, Any]]
    networks: list[Network]
    groups: list[Group]
    single: list[Job]
    trials: list[dict[str, str]]
    left_out: list[str]

    @property
    def best(self) -> dict[str, str]:
        """The options of the best trial that tips its network."""
        return _best_of(self.trials)


def _best_of(trials: Sequence[dict[str, str]]) -> dict[str, str]:
    if not trials or trials[0]["tips"] != "True":
        return {}
    return {key: value for key, value in trials[0].items() if key == "mu" or "." in key}


def _as_text(record: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in flat(record["config"]).items()}


def hold(folder: Path, name: str = "") -> Held:
    """Read a folder.

    Args:
        name: what it is called, if not as the folder.

    Raises:
        InputError: it is missing or holds no job.
    """
    jobs, left_out = read([folder])
    trials = list(csv.DictReader((folder / TRIALS).read_text().splitlines())) if (folder / TRIALS).is_file() else []
    several, single = _by_number_of_mu(jobs)
    if trials:
        best = _best_of(trials)
        several, single = [], [job for job in jobs if best and best.items() <= _as_text(job.record).items()]
    found, not_found = networks(several)
    try:
        over_seeds = groups(found)
    except InputError as error:
        over_seeds, not_found = [], [*not_found, str(error)]
    left_out += [*not_found, *provenance.unfinished(folder)]
    return Held(
        folder, name or folder.resolve().name, jobs, trainings(folder), found, over_seeds, single, trials, left_out
    )


def _by_number_of_mu(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """The jobs of networks at several mu, and of those at one."""
    mu: dict[tuple[str, ...], set[float]] = {}
    for job in jobs:
        mu.setdefault(job.network, set()).add(job.record["mu"])
    several = [job for job in jobs if len(mu[job.network]) > 1]
    return several, [job for job in jobs if len(mu[job.network]) == 1]


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


class Gallery(NamedTuple):
    """The pictures of a job."""

    name: str
    images: list[Image]


class Sweep(NamedTuple):
    """What a page holds of one sweep or search."""

    name: str
    said: list[str]  # of a search over several options, or of trainings
    facets: list[Facet]
    training: Image | None
    tables: list[Table]
    checks: list[str]
    randomized: list[list[str]]
    galleries: list[Gallery]
    unseen: int  # jobs whose pictures are not on the page
    made: dict[str, str]
    left_out: list[str]


def write(held: Sequence[Held]) -> Path:
    """Write the page of sweeps into the folder of the first."""
    apart = varying([job.options for own in held for job in own.jobs])  # over all, so that names tell them apart
    pages = [sweep_of(own, apart, PICTURED // len(held)) for own in held]
    path = held[0].folder / PAGE
    with replacing(path) as part:
        part.write_text(render(pages, _tipping(held, apart)), encoding="utf-8")
    return path


def render(sweeps: Sequence[Sweep], tipping: Sequence[Image]) -> str:
    """The page; what comes from names and options is escaped.

    Args:
        tipping: charts of all tipping points.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source, script, style = (
        files("tipping").joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("jinja", "js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facets = sorted((facet for sweep in sweeps for facet in sweep.facets), key=lambda facet: natural(facet.name))
    own = {"script": Markup(script), "style": Markup(style), "digest": digest}
    template = environment.from_string(source)
    return template.render(sweeps=sweeps, tipping=tipping, facets=facets, axes=AXES, **own)


def sweep_of(held: Held, apart: Sequence[str], budget: int) -> Sweep:
    """What a page holds of a sweep.

    Args:
        apart: options by which networks are named.
        budget: bytes of pictures.
    """
    facets = [facet_of(group, apart, held.name, number < FACETS) for number, group in enumerate(held.groups)]
    several = len(facets)
    single = enumerate(_alike(held.single), start=several)
    facets += [_single(own, apart, held.name, number < FACETS) for number, own in single]
    undrawn = len(facets) - FACETS
    galleries, unseen = _galleries(held, budget)
    return Sweep(
        name=held.name,
        said=_best(held.trials, held.best) + _said_of_trainings(held.trainings),
        facets=facets,
        training=_training(held.trainings),
        tables=[table for table in _tables(held) if table.rows],
        checks=_checks(held.jobs),
        randomized=tables.of_randomized(held_records(held)),
        galleries=galleries,
        unseen=unseen,
        made=provenance.made(held.folder, [*(job.record for job in held.jobs), *held.trainings]),
        left_out=[*held.left_out, *([f"the charts of {undrawn} of {len(facets)}"] if undrawn > 0 else [])],
    )


def _name(options: dict[str, str], apart: Sequence[str]) -> str:
    return name_of({key: options[key] for key in apart if key in options})


def _image(drawn: Any, words: str) -> Image:
    return Image(_uri(charts.svg(drawn).encode(), "svg+xml"), words)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# ---- what is said and drawn of networks


def _tipping(held: Sequence[Held], apart: Sequence[str]) -> list[Image]:
    """Of all networks in one chart, so that sweeps can be compared."""
    named = []
    for own in held:
        of = f" ({own.name})" if len(held) > 1 else ""
        named += [(f"{_name(group.options, apart)}{of}", group) for group in own.groups if group.above_chance]
    if not named:
        return []
    named.sort(key=lambda pair: natural(pair[0]))
    words = [f"Tipping points {of}, with 95 % intervals" for of in ("in mu", "in the share of filters removed")]
    panels = chart(named[: FACETS * len(held)]).hconcat
    return [_image(panel, said) for panel, said in zip(panels, words, strict=True)]


def _best(trials: Sequence[dict[str, str]], best: dict[str, str]) -> list[str]:
    """What a search over several options found, in words."""
    if not trials:
        return []
    if not best:
        return [f"No network tipped in {len(trials)} trials."]
    where = ", ".join(f"{name}={float(value):.4g}" for name, value in best.items())
    tipped = sum(trial["tips"] == "True" for trial in trials)
    fewest = f"The fewest filters that tip a network: {float(trials[0]['filters']):g}, with {where}"
    return [f"{fewest}; {tipped} of {len(trials)} trials tip theirs."]


def _said_of_trainings(trained: Sequence[dict[str, Any]]) -> list[str]:
    """How accurate networks are that differ by their seed only, and what tips them when trained."""
    of: dict[str, list[dict[str, Any]]] = {}
    for record in trained:
        of.setdefault(_training_name(record, trained), []).append(record)
    sentences = []
    for name, records in of.items():
        accuracy = comparison.percent([record["accuracy"]["intact"] for record in records])
        text = (
            f"{name}: {accuracy} % of the test images are classified rightly. {_seeds([r['seed'] for r in records])}."
        )
        last = [list(record["curves"].values())[-1]["tips_at"] for record in records if record["curves"]]
        tips = [at for at in last if at is not None]
        if tips:
            within = f" ({min(tips):.1f} to {max(tips):.1f})" if len(tips) > 1 else ""
            some = "" if len(tips) == len(last) else f"; {len(last) - len(tips)} of {len(last)} do not tip"
            text += f" By the last curve they tip without {np.mean(tips):.1f}{within} relevant filters{some}."
        elif last:
            text += " By the last curve they do not tip, even without all relevant filters."
        sentences.append(text)
    return sentences


def _training_name(record: dict[str, Any], trained: Sequence[dict[str, Any]]) -> str:
    own = [key for key in varying_options(trained) if key != "model.name"]
    return ", ".join([record["model"]["name"], *(f"{key}={_as_text(record).get(key, '')}" for key in own)])


def facet_of(group: Group, apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Of networks at several mu."""
    name = _name(group.options, apart)
    if not drawn:
        return Facet(name, sweep, _sentence(group), {}, None)
    return Facet(name, sweep, _sentence(group), _drops(group, name), _layers(group.networks, name))


def _drops(group: Group, name: str) -> dict[str, Image]:
    """Its curves, by axis."""
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
        drops[axis] = _image(charts.drop(lines, axis), f"Accuracy of {name} against {said}")
    return drops


def _layers(of: Sequence[Network], name: str) -> Image:
    lines: dict[str, list[Line]] = {}
    for network in of:
        for layer in network.records[0]["filters"]["per_layer"]:
            counts = [record["filters"]["per_layer"][layer] for record in network.records]
            lines.setdefault(layer, []).append((network.curves.mu_P, np.array(counts)))
    return _image(charts.by_layer(lines), f"Relevant filters of {name} by layer, against mu")


def _sentence(group: Group) -> str:
    """Where networks tip, in words."""
    records = [record for network in group.networks for record in network.records]
    total, seeds = records[0]["filters"]["total"], sorted(network.seed for network in group.networks)
    intact = comparison.percent([network.records[0]["accuracy"]["intact"] for network in group.networks])
    if not group.above_chance:
        chance = 100 * group.networks[0].chance
        return f"Intact accuracy is {intact} %, not above chance ({chance:.2f} %): nothing tips. {_seeds(seeds)}."
    of = {1: "its test images and random controls", 2: "seeds (of two they say little)"}.get(len(seeds), "seeds")
    spread = " (smallest to largest)" if "to" in intact else ""
    parts = parts_at(group.networks, "mu")
    apart = "at no mu measured" if parts is None else f"first at mu = {parts:.3g}"
    return (
        f"Tips at mu {shown(group.by_mu, math.exp)}, without {shown(group.by_filters)} of its {total} filters; random "
        f"ones tip it without {shown(group.random)}, and leave clearly more accuracy {apart}. "
        f"{_seeds(seeds)}; 95 % intervals over {of}. Intact accuracy: {intact} %{spread}."
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that differ by their seed only."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(json.dumps([job.options, job.record["mu"]], sort_keys=True), []).append(job)
    return list(alike.values())


def _single(jobs: Sequence[Job], apart: Sequence[str], sweep: str, drawn: bool) -> Facet:
    """Of networks at one mu: accuracy along the order of their filters, on fewer images."""
    records = [job.record for job in jobs]
    name = _name(jobs[0].options, apart)
    intact, selected, random = (
        comparison.percent([float(np.mean(record["accuracy"][kind])) for record in records])
        for kind in ("intact", "selected", "random")
    )
    relevant, total = np.mean([record["filters"]["ablated"] for record in records]), records[0]["filters"]["total"]
    sentence = (
        f"At mu = {records[0]['mu']:g}, {relevant:.3g} of {total} filters are relevant: accuracy is {intact} % intact, "
        f"{selected} % without them, {random} % without as many random ones. {_seeds([r['seed'] for r in records])}. "
        f"The curve below is of {records[0]['curve']['images']} images."
    )
    lines: dict[str, list[Line]] = {RELEVANT: [], RANDOM: []}
    for record in records:
        curve = record["curve"]
        removed_P = np.array(curve["removed"])
        lines[RELEVANT].append((removed_P, np.array(curve["selected"])))
        lines[RANDOM] += [(removed_P, np.array(one)) for one in curve["random"]]
    words = f"Accuracy of {name} as its filters are ablated, strongest first, at mu = {records[0]['mu']:g}"
    drawn = drawn and len(lines[RELEVANT][0][0]) > 1
    image = _image(charts.drop(lines, "filters"), words) if drawn else None
    return Facet(name, sweep, sentence, {"order": image} if image else {}, None)


def _training(trained: Sequence[dict[str, Any]]) -> Image | None:
    """How the tipping point moves while networks are trained."""
    rows = []
    for record in trained:
        name = _training_name(record, trained)
        for epoch, curve in record["curves"].items():
            tips, most = curve["tips_at"], curve["removed"][-1]
            rows.append(
                {"name": name, "epoch": int(epoch), "at": most if tips is None else tips, "tips": tips is not None}
            )
    words = "How many relevant filters tip a network, after each epoch of its training"
    return _image(charts.by_epoch(rows), words) if rows else None


# ---- tables and checks


def _tables(held: Held) -> list[Table]:
    jobs = tables.of_jobs(held_records(held))
    return [tables.of_trials(held.trials), jobs, tables.of_trainings(held.trainings)]


def held_records(held: Held) -> list[dict[str, Any]]:
    """The records of jobs of interpret.py under their names."""
    return [{"job": job_name(held.folder, job.folder), **job.record} for job in held.jobs]


def _checks(jobs: Sequence[Job]) -> list[str]:
    """What was checked of the selections, in sentences."""
    if not jobs:
        return []
    selections = [job.record["selection"] for job in jobs]
    certified = sum(one["certified"] for one in selections)
    gap = max(max(one["relative_gap"]) for one in selections)
    unique = sum(all(one["unique"]) for one in selections)
    noise = sum(max(one["explainable"]) <= one["explainable_by_noise"] for one in selections)
    return [
        f"{certified} of {len(jobs)} selections are certified minima; the largest relative duality gap is {gap:.0e}.",
        f"In {unique} of {len(jobs)} the relevant filters are the only ones that reach the minimum.",
        f"In {len(jobs) - noise} of {len(jobs)} some class is explained better than noise would be.",
    ]


# ---- pictures


def _galleries(held: Held, budget: int) -> tuple[list[Gallery], int]:
    """The pictures of the jobs nearest their network's tipping point, as far as a budget goes, and of how many jobs
    they are left out."""
    pictured = [job for job in held.jobs if any((job.folder / PICTURES).glob("*.png"))]
    galleries: list[Gallery] = []
    for job in _by_nearness(pictured, held.groups):
        gallery = _gallery(held.folder, job)
        budget -= sum(len(image.uri) for image in gallery.images)
        if budget < 0 and galleries:
            break
        galleries.append(gallery)
    return galleries, len(pictured) - len(galleries)


def _by_nearness(jobs: Sequence[Job], over_seeds: Sequence[Group]) -> list[Job]:
    """The job of each network nearest its tipping point first, then the second of each, and so on."""
    tips = {
        network.jobs[0].network: bound
        for group in over_seeds
        for network, bound in zip(group.networks, group.by_mu.bounds, strict=True)
    }
    of: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        of.setdefault(job.network, []).append(job)
    ranked = []
    for network, own in of.items():
        own.sort(key=lambda job: abs(math.log(job.record["mu"]) - tips.get(network, 0.0)))
        ranked += list(enumerate(own))
    return [job for _, job in sorted(ranked, key=lambda pair: pair[0])]


def _gallery(folder: Path, job: Job) -> Gallery:
    record = job.record
    name = f"{job_name(folder, job.folder)}: {record['model']['name']}, seed {record['seed']}, mu = {record['mu']:g}"
    paths = sorted((job.folder / PICTURES).glob("*.png"), key=lambda path: (len(path.stem), path.stem))
    shows = [(_uri(path.read_bytes(), "png"), _shows(path.stem)) for path in paths]
    return Gallery(name, [Image(uri, f"{words} ({name})", words) for uri, words in shows])


def _shows(stem: str) -> str:
    kind, _, number = stem.partition("_")
    if kind == "class":
        return f"What the relevant filters of class {number} respond to"
    return f"Why image {number} got its class" if kind == "image" else "Trained, and with layers initialised anew"


# ---- Weights & Biases


def summarise(held: Held) -> None:
    """Log a sweep as a whole, as its jobs were: tables, curves over seeds, charts, tipping points, and the page."""
    records = held_records(held)
    every = [*records, *held.trainings]
    tracked = every[0]["config"]["tracking"]
    if not tracked["enabled"]:
        return
    folder, own, apart = held.folder, varying_options(records), varying([job.options for job in held.jobs])
    tips = {
        f"tipping_mu/{_name(group.options, apart)}, seed={network.seed}": math.exp(at)
        for group in held.groups
        if group.above_chance
        for network, at in zip(group.networks, group.by_mu.each, strict=True)
    }
    trained = varying_options(held.trainings)
    drawn = {name: path for name in tracking.CHARTS if (path := folder / f"{name}.png").is_file()}
    with tempfile.TemporaryDirectory() as own_charts:
        if held.groups and "tipping_points" not in drawn:
            drawn["tipping_points"] = Path(own_charts) / "tipping_points.png"
            chart([(group.name, group) for group in held.groups]).save(drawn["tipping_points"], scale_factor=2)
        tracking.summarise(
            folder,
            Tracking(**tracked),
            tables={
                "jobs": [results.row(record, own) for record in records],
                "tipping_points": [tipping_map.row(network) for network in held.networks],
                "trainings": [results.training_row(record, trained) for record in held.trainings],
                "trials": held.trials,
            },
            curves={_name(group.options, apart): _over_seeds(group) for group in held.groups},
            charts=drawn,
            files=[path for name in (PAGE, *TABLES) if (path := folder / name).is_file()],
            summary=tips,
        )


def _over_seeds(group: Group) -> list[dict[str, float]]:
    """The mean accuracies of networks at each mu that all were measured at."""
    by_mu: dict[float, list[dict[str, Any]]] = {}
    for record in (record for network in group.networks for record in network.records):
        by_mu.setdefault(record["mu"], []).append(record["accuracy"])
    return [
        {"mu": mu, **{kind: float(np.mean([one[kind] for one in of])) for kind in ("intact", "selected", "random")}}
        for mu, of in sorted(by_mu.items())
        if len(of) == len(group.networks)
    ]


# ---- the command line


def after(gather: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """What gathers a sweep, and then concludes it."""

    def both(sweep: Path) -> list[str]:
        missing = gather(sweep)
        conclude(sweep)
        return missing

    return both


def conclude(folder: Path) -> None:
    """Write the page of a sweep or search, log it as a whole, and say what to try next."""
    held = hold(folder)
    print(write([held]))
    summarise(held)
    if command := provenance.next_command(folder, held.networks, held.best):
        print(f"next: {command}")


def _named(given: Sequence[Path]) -> dict[Path, str]:
    """Folders, each once, and names that tell them apart; for the folder of several searches those of each."""
    each = [path.parent for folder in given for path in sorted(folder.glob(f"*/{TRIALS}"))]
    each += [folder for folder in given if not any(folder.glob(f"*/{TRIALS}"))]
    folders = list({folder.resolve(): folder for folder in each}.values())
    names = [folder.resolve().name for folder in folders]
    return {
        folder: name if names.count(name) == 1 else str(folder) for folder, name in zip(folders, names, strict=True)
    }


def write_of(sweeps: Sequence[Path]) -> Path:
    """Write the page of sweeps side by side, into the folder of the first."""
    return write([hold(sweep, name) for sweep, name in _named(sweeps).items()])


if __name__ == "__main__":
    from tipping.commands.report import main

    sys.exit(main())
