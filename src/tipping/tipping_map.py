"""The tipping points of all networks of sweeps and searches, as one table: a row for each network.

``python -m tipping.tipping_map SWEEP_DIR [SWEEP_DIR …]`` writes it anew, and prints it over seeds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from tipping import comparison
from tipping.atomic import replacing
from tipping.charts import RANDOM, RELEVANT, flat, tipping_points
from tipping.config import InputError
from tipping.records import PREDICTIONS, RECORD, SCHEMA
from tipping.results import print_lines
from tipping.search import Bracketing
from tipping.tipping_point import TippingPoint, Trial, area, compare, partings, tipping_point

log = logging.getLogger(__name__)
EVALUATIONS, SEARCH = "evaluations", "search.json"
TABLE, CHART = "tipping_points.csv", "tipping_points.png"
APART = 0.01  # by how much accuracy without random filters must exceed that without the relevant ones, to part
SAME = ("data.name", "model.name", *comparison.NETWORK[2:], "protocol.name", "randomize")  # options of one group


class Network(NamedTuple):
    """The jobs of one network, by rising mu.

    Attributes:
        records: of its jobs.
        trial: what they measured.
        chance: the accuracy of always giving the most frequent class.
        search: what a search noted of it, if it was searched.
    """

    records: list[dict[str, Any]]
    trial: Trial
    chance: float
    search: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """All options of its jobs, under names such as model.filters."""
        return {**flat(self.records[0]["config"]), "protocol.name": self.records[0]["protocol"]["name"]}


def write_search(
    directory: Path, bracketing: Bracketing, known: Mapping[float, float], level: float, **facts: float | None
) -> None:
    """Note what a search found of a network, and what else is known of it, in its folder, and say it."""
    found = {
        "level": level,
        "evaluations": len(known),
        "finished": bracketing.finished(known),
        "crossings": [bracket._asdict() for bracket in bracketing.brackets(known)],
        "breakpoints": len(bracketing.breakpoints),
        **facts,
    }
    with replacing(directory / SEARCH) as part:
        part.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    places = [f"mu={bracket.at:.4g}" for bracket in bracketing.brackets(known)]
    where = f"at {', '.join(places)}" if places else f"nowhere from {bracketing.low:g} to {bracketing.high:g}"
    end = "" if found["finished"] else "; not finished: give more search.trials"
    log.info("%s: accuracy crosses %.2f %% %s (%d evaluations%s)", directory.name, 100 * level, where, len(known), end)


def networks(sweeps: Sequence[Path]) -> tuple[list[Network], list[str]]:
    """The networks of sweeps, and the jobs that have no readable record.

    Raises:
        InputError: a folder is missing or holds no job, or jobs do not belong together.
    """
    jobs: dict[tuple[str, ...], list[tuple[Path, dict[str, Any]]]] = {}
    missing = []
    for sweep in sweeps:
        paths = sorted(sweep.rglob(RECORD)) if sweep.is_dir() else []
        if not paths:
            raise InputError(f"{sweep} holds no jobs; give the folder of a sweep or a search")
        for path in paths:
            try:
                record = json.loads(path.read_text())
                if record["schema"] != SCHEMA:
                    raise ValueError("of another version")
                if "filters" in record:  # not of train.py
                    axes = {axis: value for axis, value in record["protocol"].items() if axis != "draws"}
                    key = (record["store"]["weights"], json.dumps(axes, sort_keys=True), record["config"]["randomize"])
                    jobs.setdefault(key, []).append((path.parent, record))
            except (OSError, ValueError, KeyError, TypeError):
                missing.append(str(path.parent))
    return [_network(of) for of in jobs.values()], missing


def _network(jobs: list[tuple[Path, dict[str, Any]]]) -> Network:
    jobs = sorted(jobs, key=lambda job: float(job[1]["mu"]))
    records, folders = [record for _, record in jobs], [folder for folder, _ in jobs]
    mu = [float(record["mu"]) for record in records]
    name = f"{records[0]['model']['name']} seed={records[0]['seed']}, {records[0]['protocol']['name']}"
    if twice := [value for value in mu if mu.count(value) > 1]:
        raise InputError(
            f"{name}: mu={twice[0]:g} is there twice, in {folders[mu.index(twice[0])]}: leave one sweep out"
        )
    if len(mu) < 2:
        raise InputError(f"{name}: {folders[0]} has mu={mu[0]:g} only; give the sweep of several")
    arrays = [_predictions(folder) for folder in folders]
    if len({array["random"].shape for array in arrays}) > 1:
        raise InputError(f"{name}: jobs differ in protocol.draws or in their images: compare them one by one")
    labels_N = arrays[0]["labels"]
    trial = Trial(
        mu_P=np.array(mu),
        removed_P=np.array([record["filters"]["ablated"] for record in records]),
        intact_N=arrays[0]["intact"] == labels_N,
        selected_PN=np.array([array["selected"] == labels_N for array in arrays]),
        random_PDN=np.array([array["random"] == labels_N for array in arrays]),
    )
    note = folders[0].parent.parent / SEARCH
    search = json.loads(note.read_text()) if folders[0].parent.name == EVALUATIONS and note.is_file() else {}
    return Network(records, trial, records[0]["accuracy"]["chance"], search)


def _predictions(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / PREDICTIONS) as arrays:
        return {name: arrays[name] for name in ("labels", "intact", "selected", "random")}


def row(network: Network) -> dict[str, Any]:
    """A network's line of the table: its options, and what was found of it."""
    one, fullest = [network.trial], max(network.records, key=lambda record: record["filters"]["ablated"])
    curve, search = fullest["curve"], network.search
    by_mu, by_filters, random = (_point(one, network.chance, axis, of) for axis, of in KINDS)
    return {
        **{option: network.options.get(option, "") for option in SAME},
        "seed": network.records[0]["seed"],
        "evaluations": len(network.records),
        "intact": network.records[0]["accuracy"]["intact"],
        "filters": network.records[0]["filters"]["total"],
        **_columns("mu", by_mu, math.exp),
        "slope": by_mu.slope,
        **_columns("filters", by_filters),
        **_columns("random_filters", random),
        "parts_at": parts_at(one),
        **{
            f"area_{order}": area(np.array(curve["removed"]), np.mean(np.atleast_2d(curve[order]), axis=0))
            for order in ("selected", "weakest", "random")
        },
        "crossings": len(search["crossings"]) if search else "",
        "crosses_at": search["crossings"][0]["at"] if search and search["crossings"] else "",
        **{fact: "" if search.get(fact) is None else search[fact] for fact in ("saturation_mu", "stability")},
        "commit": network.records[0]["versions"]["commit"] or "",
    }


KINDS = (("mu", "selected"), ("filters", "selected"), ("filters", "random"))


def _point(trials: Sequence[Trial], chance: float, axis: str, of: str) -> TippingPoint:
    return tipping_point(trials, chance, np.random.default_rng(0), axis=axis, of=of)


def parts_at(trials: Sequence[Trial]) -> float | None:
    """The first mu at which random filters leave at least `APART` more than the relevant ones, with 95 % confidence."""
    return next((one.mu for one in partings(trials, np.random.default_rng(0)) if one.low > APART), None)


def _columns(name: str, point: TippingPoint, unit: Callable[[float], float] = float) -> dict[str, Any]:
    values = {"": point.at, "_low": point.low, "_high": point.high, "_logistic": point.logistic}
    shown = {f"tipping_{name}{end}": unit(value) for end, value in values.items()}
    return {**shown, f"tipping_{name}_disagree": point.disagree}


def gather(*sweeps: Path) -> list[str]:
    """Write ``tipping_points.csv`` and ``.png`` into the first folder, and print tipping points over seeds.

    Returns:
        the jobs without a readable record.
    """
    found, missing = networks(sweeps)
    if found:
        over_seeds = groups(found)
        rows = [row(network) for network in found]
        with replacing(sweeps[0] / TABLE) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with replacing(sweeps[0] / CHART) as part:
            chart(over_seeds).save(part, format="png", scale_factor=2)
        print("\nTipping points: where accuracy is midway between intact and chance; 95 % intervals\n")
        print_lines(lines(over_seeds))
        print(f"\n{sweeps[0] / TABLE}\n{sweeps[0] / CHART}")
    if missing:
        print(f"no readable {RECORD} of this version: {', '.join(missing)}", file=sys.stderr)
    return missing


class Group(NamedTuple):
    """Networks that differ by their seed only.

    Attributes:
        options: those of `SAME`, as text.
        varying: of these, the ones that tell the groups apart.
        by_mu, by_filters, random: tipping points in ln mu, in filters, and in random filters.
    """

    options: dict[str, str]
    varying: tuple[str, ...]
    networks: list[Network]
    by_mu: TippingPoint
    by_filters: TippingPoint
    random: TippingPoint

    @property
    def name(self) -> str:
        """What tells it apart."""
        plain = ("data.name", "model.name", "protocol.name")
        named = [value if option in plain else f"{option}={value}" for option, value in self.settings().items()]
        return ", ".join(named) or self.options["model.name"]

    def settings(self) -> dict[str, str]:
        """The options that tell it apart, with their values."""
        return {option: self.options[option] for option in self.varying}


def groups(found: Sequence[Network]) -> list[Group]:
    """Networks over seeds.

    Raises:
        InputError: two networks of a group have the same seed.
    """
    members: dict[tuple[str, ...], list[Network]] = {}
    for network in found:
        members.setdefault(tuple(str(network.options.get(option, "")) for option in SAME), []).append(network)
    values = {option: {key[i] for key in members} for i, option in enumerate(SAME)}
    varying = tuple(option for option in SAME if option == "model.name" or len(values[option]) > 1)
    all_groups = []
    for key, of in members.items():
        options, seeds = dict(zip(SAME, key, strict=True)), [network.records[0]["seed"] for network in of]
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            name = f"{options['model.name']}, {options['protocol.name']}"
            raise InputError(f"{name}: seed={twice[0]} is of two networks, trained apart: leave one out")
        trials, chance = [network.trial for network in of], of[0].chance
        points = (_point(trials, chance, axis, kind) for axis, kind in KINDS)
        all_groups.append(Group(options, varying, of, *points))
    return all_groups


def lines(found: Sequence[Group]) -> list[list[str]]:
    """A line for each group; headings first."""
    heads = [*found[0].varying, "seeds", "intact %", "tips at mu", "filters removed", "random ones", "parts at mu"]
    table = [heads]
    for group in found:
        trials, parts = [network.trial for network in group.networks], parts_at([n.trial for n in group.networks])
        ends_mu = [float(np.log(trial.mu_P[p])) for trial in trials for p in (0, -1)]
        ends = [float(trial.removed_P[p]) for trial in trials for p in (0, -1)]
        table.append(
            [
                *group.settings().values(),
                ", ".join(str(seed) for seed in sorted(network.records[0]["seed"] for network in group.networks)),
                comparison.percent([network.records[0]["accuracy"]["intact"] for network in group.networks]),
                shown(group.by_mu, ends_mu, math.exp),
                shown(group.by_filters, ends),
                shown(group.random, ends),
                "nowhere" if parts is None else f"{parts:.3g}",
            ]
        )
    return table


def compared(found: Sequence[Group], option: str) -> list[list[str]]:
    """Groups that differ in one option only, two by two: by what factor tipping mu differs, and by how many filters the
    number removed; with 95 % intervals and p. Headings first.

    Raises:
        InputError: no two groups differ in it alone.
    """
    others = [(g, {key: value for key, value in g.options.items() if key != option}) for g in found]
    pairs = [(a, b) for (a, same), (b, also) in itertools.combinations(others, 2) if same == also]
    if option not in SAME or not pairs:
        raise InputError(f"--compare {option}: no two groups of networks differ in it alone, but in {_options(found)}")
    table = [["networks", "against", "mu: ratio", "p", "filters: difference", "p"]]
    for one, other in pairs:
        mu = _against(one.by_mu, other.by_mu, lambda values: "{:.2f} ({:.2f} to {:.2f})".format(*np.exp(values)))
        filters = _against(
            one.by_filters, other.by_filters, lambda values: "{:+.1f} ({:.1f} to {:.1f})".format(*values)
        )
        table.append([one.name, f"{option}={other.options[option]}", *mu, *filters])
    return table


def _against(one: TippingPoint, other: TippingPoint, written: Callable[[Sequence[float]], str]) -> tuple[str, str]:
    """The difference of two tipping points as written, and p; none where that cannot be said."""
    if not all(map(math.isfinite, (*one.each, *other.each))):
        return "censored", ""
    if min(len(one.each), len(other.each)) < 2:
        return "one network", ""
    found = compare(one.each, other.each)
    return written(found[:3]), f"{found.p:.3f}"


def _options(found: Sequence[Group]) -> str:
    return ", ".join(found[0].varying) or "none"


def chart(found: Sequence[Group]) -> alt.HConcatChart:
    """Tipping points in mu, and in the share of filters removed."""
    by_mu, by_filters = [], []
    for group in found:
        total = group.networks[0].records[0]["filters"]["total"]
        by_mu += _marks(group.name, RELEVANT, group.by_mu, math.exp)
        by_filters += _marks(group.name, RELEVANT, group.by_filters, float, total)
        by_filters += _marks(group.name, RANDOM, group.random, float, total)
    return tipping_points(by_mu, by_filters)


def _marks(
    name: str, kind: str, point: TippingPoint, unit: Callable[[float], float], total: int = 1
) -> list[dict[str, Any]]:
    """A mark for each network that is not censored, and one for the interval, if it is closed."""
    marks = [{"name": name, "ablated": kind, "at": unit(at) / total} for at in point.each if math.isfinite(at)]
    if math.isfinite(point.low) and math.isfinite(point.high):
        marks.append({"name": name, "ablated": kind, "low": unit(point.low) / total, "high": unit(point.high) / total})
    return marks


def shown(point: TippingPoint, ends: Sequence[float], unit: Callable[[float], float] = float) -> str:
    """A tipping point with its interval; under the smallest or over the largest position where it is censored."""
    if math.isinf(point.at):
        return f"under {unit(min(ends)):.3g}" if point.at < 0 else f"over {unit(max(ends)):.3g}"
    if math.isnan(point.at):
        return "some under, some over"
    low, high = (unit(end) if math.isfinite(end) else end for end in (point.low, point.high))
    flag = "; logistic elsewhere" if point.disagree else ""
    return f"{unit(point.at):.3g} ({low:.3g} to {high:.3g}{flag})"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tipping.tipping_map", description="Write the tipping points of all networks of sweeps."
    )
    parser.add_argument(
        "sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun or a search"
    )
    parser.add_argument("--compare", metavar="OPTION", help="compare networks that differ in it, such as model.dropout")
    given = parser.parse_args(arguments)
    try:
        missing = gather(*given.sweeps)
        if given.compare:
            table = compared(groups(networks(given.sweeps)[0]), given.compare)
            print(f"\nTipping points by {given.compare}; 95 % intervals, and p by dealing networks to the two anew\n")
            print_lines(table)
        return 1 if missing else 0
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
