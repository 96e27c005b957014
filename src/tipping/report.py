"""The report of sweeps and searches: one page, ``report.html``, that is read offline and without scripts.

``python -m tipping.report SWEEP_DIR [SWEEP_DIR …]`` writes it anew, several sweeps side by side.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from omegaconf import OmegaConf

from tipping import charts, comparison, results, tipping_map, tracking
from tipping.atomic import replacing
from tipping.charts import INTACT, RANDOM, RELEVANT, Line
from tipping.config import InputError, Tracking
from tipping.networks import UNREADABLE, Job, Network, networks, read
from tipping.records import PICTURES, RECORD, SCHEMA
from tipping.tipping_map import Group, chart, groups, name_of, natural, parts_at, shown, varying
from tipping.tipping_point import along

PAGE = "report.html"
FACETS = 48  # at most so many groups of networks are drawn
PICTURED = 4_000_000  # bytes of pictures on a page, the first job's always
AXES = {"mu": "mu", "filters": "filters ablated"}
SEARCHES = ("tipping_point", "fewest_filters")  # scripts in sweeps/


class Image(NamedTuple):
    """A picture as a data URI, and what it shows in words."""

    uri: str
    alt: str


class Facet(NamedTuple):
    """What is said and drawn of networks that differ by their seed only."""

    name: str
    sweep: str
    sentence: str
    drops: dict[str, Image]  # by axis, or along the order of the filters
    layers: Image | None


class Cell(NamedTuple):
    """A cell of the table of jobs, and what it is sorted by."""

    text: str
    value: str | float


class Table(NamedTuple):
    """Jobs or trainings, that can be sorted."""

    title: str
    heads: list[str]
    rows: list[list[Cell]]


class Gallery(NamedTuple):
    """The pictures of a job."""

    name: str
    images: list[Image]


class Sweep(NamedTuple):
    """What a page holds of one sweep or search."""

    name: str
    tipping: list[Image]
    facets: list[Facet]
    training: Image | None
    tables: list[Table]
    checks: list[str]
    randomized: list[list[str]]
    galleries: list[Gallery]
    unseen: int  # jobs whose pictures are not on the page
    made: dict[str, str]
    left_out: list[str]


def write(sweeps: Sequence[Path]) -> Path:
    """Write the page of sweeps into the folder of the first.

    Raises:
        InputError: a folder is missing or holds no job.
    """
    held = [read([sweep]) for sweep in sweeps]
    apart = varying([job.options for jobs, _ in held for job in jobs])  # over all sweeps, so that names tell them apart
    pages = [sweep_of(sweep, *own, apart, PICTURED // len(sweeps)) for sweep, own in zip(sweeps, held, strict=True)]
    path = sweeps[0] / PAGE
    with replacing(path) as part:
        part.write_text(render(pages), encoding="utf-8")
    return path


def render(sweeps: Sequence[Sweep]) -> str:
    """The page; what comes from names and options is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source, script, style = (
        files("tipping").joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("jinja", "js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    facets = sorted((facet for sweep in sweeps for facet in sweep.facets), key=lambda facet: natural(facet.name))
    own = {"script": Markup(script), "style": Markup(style), "digest": digest}
    return environment.from_string(source).render(sweeps=sweeps, facets=facets, axes=AXES, **own)


def sweep_of(folder: Path, jobs: Sequence[Job], left_out: Sequence[str], apart: Sequence[str], budget: int) -> Sweep:
    """What a page holds of a sweep.

    Args:
        jobs, left_out: as `read`.
        apart: options by which networks are named.
        budget: bytes of pictures.
    """
    several, single = _by_number_of_mu(jobs)
    found, not_found = networks(several)
    try:
        over_seeds = groups(found)
    except InputError as error:
        over_seeds, not_found = [], [*not_found, str(error)]
    title = folder.resolve().name
    facets = [facet_of(group, apart, title) for group in over_seeds[:FACETS]]
    facets += [_single(own, apart, title) for own in _alike(single)[: FACETS - len(facets)]]
    galleries, unseen = _galleries(folder, jobs, over_seeds, budget)
    trained = _trained(folder)
    return Sweep(
        name=title,
        tipping=_tipping(over_seeds),
        facets=facets,
        training=_training(list(trained.values())),
        tables=[table for table in (_jobs(folder, jobs), _trainings(folder, trained)) if table.rows],
        checks=_checks(jobs),
        randomized=_randomized(jobs, folder),
        galleries=galleries,
        unseen=unseen,
        made=_made(folder, [*(job.record for job in jobs), *trained.values()]),
        left_out=[*left_out, *not_found, *_unfinished(folder)],
    )


def _by_number_of_mu(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """The jobs of networks at several mu, and of those at one."""
    mu: dict[tuple[str, ...], set[float]] = {}
    for job in jobs:
        mu.setdefault(job.network, set()).add(job.record["mu"])
    several = [job for job in jobs if len(mu[job.network]) > 1]
    return several, [job for job in jobs if len(mu[job.network]) == 1]


def _unfinished(folder: Path) -> list[str]:
    """The jobs of a sweep that left no record; those of a search are in folders of their networks."""
    hydra = _hydra(folder)
    if hydra is None or hydra.job.name in SEARCHES:
        return []
    jobs = sorted((path.parent for path in folder.glob("*/.hydra")), key=lambda job: natural(job.name))
    return [f"job {job.name} failed or was stopped" for job in jobs if not (job / RECORD).is_file()]


def _name(options: dict[str, str], apart: Sequence[str]) -> str:
    return name_of({key: options[key] for key in apart if key in options})


def _image(drawn: Any, words: str) -> Image:
    return Image(_uri(charts.svg(drawn).encode(), "svg+xml"), words)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# ---- what is said and drawn of networks


def _tipping(over_seeds: Sequence[Group]) -> list[Image]:
    if not over_seeds:
        return []
    words = [f"Tipping points {of}, with 95 % intervals" for of in ("in mu", "in the share of filters removed")]
    panels = chart(over_seeds[:FACETS]).hconcat
    return [_image(panel, said) for panel, said in zip(panels, words, strict=True)]


def facet_of(group: Group, apart: Sequence[str], sweep: str) -> Facet:
    """Of networks at several mu."""
    name, curves = _name(group.options, apart), [network.curves for network in group.networks]
    drops: dict[str, Image] = {}
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
    return Facet(name, sweep, _sentence(group), drops, _layers(group.networks, name))


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
    of = "its test images and random controls" if len(seeds) == 1 else "seeds"
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


def _single(jobs: Sequence[Job], apart: Sequence[str], sweep: str) -> Facet:
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
    drawn = len(lines[RELEVANT][0][0]) > 1
    image = _image(charts.drop(lines, "filters"), words) if drawn else None
    return Facet(name, sweep, sentence, {"order": image} if image else {}, None)


def _trained(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records of train.py, by their folders."""
    found = {}
    for path in sorted(folder.rglob(RECORD), key=lambda path: (len(str(path)), path)):
        try:
            record = json.loads(path.read_text())
            if record["schema"] == SCHEMA and "curves" in record:
                found[path.parent] = record
        except UNREADABLE:
            continue  # `read` names it
    return found


def _training(trained: Sequence[dict[str, Any]]) -> Image | None:
    """How the tipping point moves while networks are trained."""
    own = [key for key in charts.varying_options(trained) if key != "model.name"]
    rows = []
    for record in trained:
        options = charts.flat(record["config"])
        name = ", ".join([record["model"]["name"], *(f"{key}={options.get(key, '')}" for key in own)])
        rows += [
            {"name": name, "epoch": int(epoch), "tips_at": curve["tips_at"]}
            for epoch, curve in record["curves"].items()
            if curve["tips_at"] is not None
        ]
    words = "How many relevant filters tip a network, after each epoch of its training"
    return _image(charts.by_epoch(rows), words) if rows else None


# ---- tables


def _trainings(folder: Path, trained: dict[Path, dict[str, Any]]) -> Table:
    """Of networks trained, with their accuracy-drop curves by epoch."""
    own = charts.varying_options(list(trained.values()))
    heads = [
        "job",
        "model",
        *(key for key in own if key != "model.name"),
        "seed",
        "accuracy %",
        "tips at, by epoch",
    ]
    rows = []
    for path, record in trained.items():
        options = charts.flat(record["config"])
        tips = [curve["tips_at"] for curve in record["curves"].values()]
        values = [_job_name(folder, path), record["model"]["name"]]
        values += [options.get(key, "") for key in heads[2:-3]] + [record["seed"]]
        intact = record["accuracy"]["intact"]
        cells = [Cell(str(value), value) for value in values]
        cells.append(Cell(f"{100 * intact:.2f}", intact))
        words = ", ".join("nowhere" if at is None else f"{at:.1f}" for at in tips)
        rows.append([*cells, Cell(words, words)])
    return Table(
        "Trainings", [*heads, "seconds"], [[*row, _seconds(r)] for row, r in zip(rows, trained.values(), strict=True)]
    )


def _seconds(record: dict[str, Any]) -> Cell:
    seconds = sum(record["seconds"].values())
    return Cell(f"{seconds:.1f}", seconds)


def _jobs(folder: Path, jobs: Sequence[Job]) -> Table:
    """Of all jobs, with certificate and cost."""
    records = [{"job": _job_name(folder, job.folder), **job.record} for job in jobs]
    own = [key for key in charts.varying_options(records) if not key.startswith("protocol.")]
    plain = [results.NAMED.get(key, key) for key in own if key != "model.name"]
    if len({record["protocol"]["name"] for record in records}) > 1:
        plain.append("protocol")
    heads = ["job", "model", *plain, "seed", "mu", "relevant", "intact %", "without them %", "without random %"]
    heads += ["certified", "relative gap", "seconds"]
    rows = []
    for record in sorted(records, key=lambda record: natural(record["job"])):
        row = results.row(record, own)
        percent = [Cell(f"{100 * row[key]:.2f}", row[key]) for key in ("intact", "selected", "random_mean")]
        rows.append(
            [
                *(Cell(str(row[key]), row[key]) for key in ("job", "model", *plain, "seed")),
                Cell(f"{row['mu']:.6g}", row["mu"]),
                Cell(f"{row['relevant']} of {row['filters']}", row["relevant"]),
                *percent,
                Cell("yes" if row["certified"] else "no", int(row["certified"])),
                Cell(f"{row['relative_gap']:.0e}", row["relative_gap"]),
                _seconds(record),
            ]
        )
    return Table("Jobs", heads, rows)


def _job_name(folder: Path, job: Path) -> str:
    return str(job.relative_to(folder)) if job != folder else folder.resolve().name


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


def _randomized(jobs: Sequence[Job], folder: Path) -> list[list[str]]:
    """Of networks with layers initialised anew: how far their selection is the trained network's; heads first."""
    rows = []
    for job in jobs:
        row = results.row({"job": _job_name(folder, job.folder), **job.record}, [])
        if row["overlap_jaccard"] in ("", None):
            continue
        alike = [row[key] for key in row if key.startswith("signals_alike_")]
        signals = ", ".join(f"{value:.2f}" for value in alike if value not in ("", None))
        shared, rank = f"{row['overlap_jaccard']:.3f}", row["overlap_rank_correlation"]
        ranks = "" if rank in ("", None) else f"{rank:.3f}"
        kinds = [row["randomize"], str(row["seed"]), f"{row['mu']:g}", shared, row["overlap_by_chance"]]
        rows.append([*kinds, ranks, row["rank_correlation_by_chance"], signals])
    heads = ["initialised anew", "seed", "mu", "overlap", "by chance", "rank correlation", "by chance", "signals alike"]
    return [heads, *rows] if rows else []


def _made(folder: Path, records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """How a sweep was made."""
    networks = {record["store"]["weights"] for record in records}
    facts = {"command": _command(folder), "jobs": f"{len(records)}, of {len(networks)} networks"}
    ended = max(path.stat().st_mtime for path in folder.rglob(RECORD))
    facts["last job ended"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(ended))
    seconds = sum(sum(record["seconds"].values()) for record in records)
    trained = sum(record["made"]["network"] for record in records)
    facts["time"] = f"{seconds / 60:.1f} minutes in all jobs; {trained} networks trained in them"
    versions = [{key: value for key, value in record["versions"].items() if value} for record in records]
    facts["commit"] = _distinct(one.pop("commit", "no git checkout") for one in versions)
    facts["versions"] = _distinct(", ".join(f"{key} {value}" for key, value in one.items()) for one in versions)
    facts["machine"] = _distinct(record["device"] for record in records)
    facts["seeds"] = _distinct(str(seed) for seed in sorted({record["seed"] for record in records}))
    return {key: value for key, value in facts.items() if value}


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(values))


def _command(folder: Path) -> str:
    """The command that was last run in a folder, as Hydra has kept it; none where it has not."""
    hydra = _hydra(folder)
    if hydra is None:
        return ""
    name, given = hydra.job.name, hydra.overrides
    script = f"sweeps/{name}.py" if name in SEARCHES else f"{name}.py"
    flag = ["-m"] if hydra.mode == "MULTIRUN" and name not in SEARCHES else []
    return shlex.join(["python", script, *flag, *given.task, *(o for o in given.hydra if "hydra.mode=" not in o)])


def next_command(folder: Path) -> str:
    """What to try after a sweep: a search where it looked at some mu, those where it trained, and a comparison of
    options where it searched; none where nothing is to be compared."""
    hydra = _hydra(folder)
    if hydra is None:
        return ""
    options = [option for option in hydra.overrides.task if not option.startswith(("mu=", "curve.", "randomize="))]
    compared = [option.split("=")[0] for option in options if "," in option and not option.startswith("seed=")]
    match hydra.job.name:
        case "train":
            return shlex.join(["python", "interpret.py", "-m", "mu=10,100,500,700", *options])
        case "interpret":
            return shlex.join(["python", "sweeps/tipping_point.py", *options])
        case "tipping_point" if compared:
            return shlex.join(["python", "-m", "tipping.tipping_map", str(folder), "--compare", compared[0]])
    return ""


def _hydra(folder: Path) -> Any:
    for path in (folder / "multirun.yaml", folder / ".hydra" / "hydra.yaml", folder.parent / ".hydra" / "hydra.yaml"):
        if path.is_file():
            return OmegaConf.load(path).hydra
    return None


# ---- pictures


def _galleries(
    folder: Path, jobs: Sequence[Job], over_seeds: Sequence[Group], budget: int
) -> tuple[list[Gallery], int]:
    """The pictures of the jobs nearest their network's tipping point, as far as a budget goes, and of how many jobs
    they are left out."""
    pictured = [job for job in jobs if any((job.folder / PICTURES).glob("*.png"))]
    galleries: list[Gallery] = []
    for job in _by_nearness(pictured, over_seeds):
        gallery = _gallery(folder, job)
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
    name = f"{_job_name(folder, job.folder)}: {record['model']['name']}, seed {record['seed']}, mu = {record['mu']:g}"
    paths = sorted((job.folder / PICTURES).glob("*.png"), key=lambda path: (len(path.stem), path.stem))
    return Gallery(name, [Image(_uri(path.read_bytes(), "png"), f"{_shows(path.stem)} ({name})") for path in paths])


def _shows(stem: str) -> str:
    kind, _, number = stem.partition("_")
    if kind == "class":
        return f"What the relevant filters of class {number} respond to"
    return f"Why image {number} got its class" if kind == "image" else "Trained, and with layers initialised anew"


# ---- Weights & Biases


def summarise(folder: Path) -> None:
    """Log a sweep as a whole, as its jobs were: tables, charts, tipping points, and the page."""
    jobs, _ = read([folder])
    trackings = [job.record["config"]["tracking"] for job in jobs]
    if not trackings or not trackings[0]["enabled"]:
        return
    found, _ = networks(jobs)
    records = [{"job": _job_name(folder, job.folder), **job.record} for job in jobs]
    own, apart = charts.varying_options(records), varying([network.options for network in found])
    points = [tipping_map.row(network) for network in found]
    names = [f"{_name(network.options, apart)}, seed={network.seed}" for network in found]
    tips = {f"tipping_mu/{name}": point["tipping_mu"] for name, point in zip(names, points, strict=True)}
    tables = {"jobs": [results.row(record, own) for record in records], "tipping_points": points}
    drawn = {name: folder / f"{name}.png" for name in tracking.CHARTS if (folder / f"{name}.png").is_file()}
    files = [path for name in (PAGE, results.TABLE, tipping_map.TABLE) if (path := folder / name).is_file()]
    tracking.summarise(folder, Tracking(**trackings[0]), tables, drawn, files, tips)


# ---- the command line


def after(gather: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """What gathers a sweep, and then writes its page."""

    def both(sweep: Path) -> list[str]:
        missing = gather(sweep)
        print(write([sweep]))
        summarise(sweep)
        if command := next_command(sweep):
            print(f"next: {command}")
        return missing

    return both


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tipping.report", description="Write the page of sweeps.")
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun or search")
    given = parser.parse_args(arguments)
    try:
        print(write(given.sweeps))
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
