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
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from tipping import comparison
from tipping.atomic import replacing
from tipping.charts import ELSEWHERE, RANDOM, RELEVANT, flat, tipping_points
from tipping.config import InputError
from tipping.records import PREDICTIONS, RECORD, SCHEMA
from tipping.results import print_lines
from tipping.search import Bracketing
from tipping.tipping_point import Curves, TippingPoint, area, at_crossings, compare, partings, tipping_point

log = logging.getLogger(__name__)
EVALUATIONS, SEARCH = "evaluations", "search.json"
TABLE, CHART = "tipping_points.csv", "tipping_points.png"
APART = 0.01  # by how much accuracy without random filters must exceed that without the relevant ones, to part
APART_FROM = ("mu", "seed", "protocol.", "curve.", *ELSEWHERE)  # options in which networks of a group may differ
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)


class Network(NamedTuple):
    """The jobs of one network, by rising mu.

    Attributes:
        name: for messages.
        records: of its jobs.
        curves: what they measured.
        chance: the accuracy of always giving the most frequent class.
        search: what a search noted of it, if it was searched.
    """

    name: str
    records: list[dict[str, Any]]
    curves: Curves
    chance: float
    search: dict[str, Any]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.records[0]["seed"])

    @property
    def options(self) -> dict[str, str]:
        """What tells it apart from networks of other groups: options by names such as model.filters, as text."""
        options = {key: str(value) for key, value in flat(self.records[0]["config"]).items()}
        names = {"protocol": self.records[0]["protocol"]["name"]}
        return names | {
            key: value for key, value in options.items() if key == "model._target_" or not key.startswith(APART_FROM)
        }


class Job(NamedTuple):
    """A job's folder, its record, and the predictions for each image."""

    folder: Path
    record: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        """The job of a folder; None for one of train.py.

        Raises:
            one of `UNREADABLE`.
        """
        record = json.loads((folder / RECORD).read_text())
        if record["schema"] != SCHEMA:
            raise ValueError("of another version")
        if "filters" not in record:
            return None
        record["accuracy"]["chance"], record["curve"]["removed"][0]  # of a job that is whole
        with (folder / PREDICTIONS).open("rb") as file, np.load(file) as arrays:
            predictions = {name: arrays[name] for name in ("labels", "intact", "selected", "random")}
        return cls(folder, record, predictions)

    @property
    def network(self) -> tuple[str, ...]:
        """What jobs of one network have in common."""
        axes = {axis: value for axis, value in self.record["protocol"].items() if axis != "draws"}
        return self.record["store"]["weights"], json.dumps(axes, sort_keys=True), self.record["config"]["randomize"]


def write_search(
    directory: Path, bracketing: Bracketing, known: Mapping[float, float], level: float, **facts: Any
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
    side = "over" if all(excess > 0 for excess in known.values()) else "under"
    nowhere = f"nowhere: it is {side} it from mu={bracketing.low:g} to {bracketing.high:g}"
    where = f"at {', '.join(places)}" if places else nowhere
    end = "" if found["finished"] else "; not finished: give more search.trials"
    log.info("%s: accuracy crosses %.2f %% %s (%d evaluations%s)", directory.name, 100 * level, where, len(known), end)


def networks(sweeps: Sequence[Path]) -> tuple[list[Network], list[str]]:
    """The networks of sweeps, and a line for each job or network that had to be left out.

    Raises:
        InputError: a folder is missing or holds no job, or nothing is left.
    """
    jobs: dict[tuple[str, ...], list[Job]] = {}
    left_out = []
    for sweep in sweeps:
        paths = sorted(sweep.rglob(RECORD)) if sweep.is_dir() else []
        if not paths:
            raise InputError(f"{sweep} holds no jobs; give the folder of a sweep or a search")
        for path in paths:
            try:
                if job := Job.read(path.parent):
                    jobs.setdefault(job.network, []).append(job)
            except UNREADABLE:
                left_out.append(f"{path.parent}: its record or predictions cannot be read, or are of another version")
    found = []
    for of in jobs.values():
        try:
            found.append(_network(sorted(of, key=lambda job: float(job.record["mu"]))))
        except InputError as error:
            left_out.append(str(error))
    if not found:
        raise InputError(left_out[0] if left_out else f"{sweeps[0]} holds no jobs of interpret.py")
    return found, left_out


def _network(jobs: Sequence[Job]) -> Network:
    first = jobs[0].record
    name = f"{first['model']['name']} seed={first['seed']}, {first['protocol']['name']}"
    jobs = _each_once(name, jobs)
    records, arrays = [job.record for job in jobs], [job.predictions for job in jobs]
    mu = [float(record["mu"]) for record in records]
    if len(mu) < 2:
        raise InputError(f"{name}: {jobs[0].folder} has mu={mu[0]:g} only; give the sweep of several")
    if len({array["random"].shape for array in arrays}) > 1:
        raise InputError(f"{name}: jobs differ in protocol.draws or in their images: compare them one by one")
    labels_N = arrays[0]["labels"]
    if not all(np.array_equal(array["labels"], labels_N) for array in arrays):
        raise InputError(f"{name}: jobs differ in the labels of their images: compare them one by one")
    curves = Curves(
        mu_P=np.array(mu),
        removed_P=np.array([record["filters"]["ablated"] for record in records]),
        intact_N=arrays[0]["intact"] == labels_N,
        selected_PN=np.array([array["selected"] == labels_N for array in arrays]),
        random_PDN=np.array([array["random"] == labels_N for array in arrays]),
    )
    return Network(name, records, curves, records[0]["accuracy"]["chance"], _searched(jobs[0].folder))


def _each_once(name: str, jobs: Sequence[Job]) -> list[Job]:
    """Jobs without those that another sweep or search has run too."""
    kept = [jobs[0]]
    for job in jobs[1:]:
        before = kept[-1]
        if job.record["mu"] != before.record["mu"]:
            kept.append(job)
        elif not all(np.array_equal(job.predictions[key], before.predictions[key]) for key in job.predictions):
            mu, folders = job.record["mu"], f"{before.folder} and {job.folder}"
            raise InputError(f"{name}: mu={mu:g} gave different predictions in {folders}: leave one out")
    return kept


def _searched(job: Path) -> dict[str, Any]:
    """What a search noted of the network of a job, if it is of one."""
    note = job.parent.parent / SEARCH
    if job.parent.name != EVALUATIONS or not note.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(note.read_text())
    except ValueError as error:
        raise InputError(f"{note} cannot be read ({error}); run the search again") from error
    return found


def row(network: Network) -> dict[str, Any]:
    """A network's line of the table: its options, and what was found of it."""
    fullest, search = max(network.records, key=lambda record: record["filters"]["ablated"]), network.search
    curve, crossings = fullest["curve"], search.get("crossings", [])
    by_mu, by_filters, random = (_point([network], axis, of) for axis, of in KINDS)
    return {
        **network.options,
        "seed": network.seed,
        "evaluations": len(network.records),
        "intact": network.records[0]["accuracy"]["intact"],
        "filters": network.records[0]["filters"]["total"],
        **_columns("mu", by_mu, math.exp),
        "slope": by_mu.slope,
        **_columns("filters", by_filters),
        **_columns("random_filters", random),
        "parts_at": parts_at([network]),
        **{
            f"area_{order}": area(np.array(curve["removed"]), np.mean(np.atleast_2d(curve[order]), axis=0))
            for order in ("selected", "weakest", "random")
        },
        "crossings": len(crossings) if search else "",
        "crosses_at": crossings[0]["at"] if crossings else "",
        **{fact: "" if search.get(fact) is None else search[fact] for fact in ("saturation_mu", "stability")},
        "certified": all(record["selection"]["certified"] for record in network.records),
        "device": network.records[0]["device"],
        "commit": network.records[0]["versions"]["commit"] or "",
    }


KINDS = (("mu", "selected"), ("filters", "selected"), ("filters", "random"))


def _point(found: Sequence[Network], axis: str, of: str) -> TippingPoint:
    curves, rng = [network.curves for network in found], np.random.default_rng(0)
    point = tipping_point(curves, found[0].chance, rng, axis=axis, of=of)
    most = float(found[0].records[0]["filters"]["total"])
    return point if axis == "mu" or math.isinf(point.high) else point._replace(high=min(point.high, most))


def parts_at(found: Sequence[Network]) -> float | None:
    """The first mu at which random filters leave at least `APART` more than the relevant ones, with 95 % confidence."""
    gaps = partings([network.curves for network in found], np.random.default_rng(0))
    return next((one.mu for one in gaps if one.low > APART), None)


def _columns(name: str, point: TippingPoint, unit: Callable[[float], float] = float) -> dict[str, Any]:
    values = {"": point.at, "_low": point.low, "_high": point.high, "_logistic": point.logistic}
    shown = {f"tipping_{name}{end}": unit(value) for end, value in values.items()}
    return {**shown, f"tipping_{name}_disagree": point.disagree}


def gather(*sweeps: Path, by: str | None = None) -> list[str]:
    """Write ``tipping_points.csv`` and ``.png`` into the first folder, and print tipping points over seeds.

    Args:
        by: an option whose values are compared.

    Returns:
        what had to be left out.
    """
    found, left_out = networks(sweeps)
    over_seeds, rows = groups(found), [row(network) for network in found]
    against = compared(over_seeds, by) if by else []
    with replacing(sweeps[0] / TABLE) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for line in rows for key in line)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    with replacing(sweeps[0] / CHART) as part:
        chart(over_seeds).save(part, format="png", scale_factor=2)
    print("\nTipping points: where accuracy is midway between intact and chance; 95 % intervals\n")
    print_lines(lines(over_seeds))
    if against:
        print(f"\nBy {by}: 95 % intervals, and p by dealing networks to the two anew\n")
        print_lines(against)
    print(f"\n{sweeps[0] / TABLE}\n{sweeps[0] / CHART}")
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    return left_out


class Group(NamedTuple):
    """Networks that differ by their seed only.

    Attributes:
        settings: the options that tell it apart from the other groups, with their values.
        options: all of them.
        by_mu, by_filters, random: tipping points in ln mu, in filters, and in random filters.
    """

    settings: dict[str, str]
    options: dict[str, str]
    networks: list[Network]
    by_mu: TippingPoint
    by_filters: TippingPoint
    random: TippingPoint

    @property
    def name(self) -> str:
        """What tells it apart."""
        plain = ("data.name", "model.name", "protocol")
        return ", ".join(value if key in plain else f"{key}={value}" for key, value in self.settings.items())


def groups(found: Sequence[Network]) -> list[Group]:
    """Networks over seeds.

    Raises:
        InputError: two networks of a group have the same seed.
    """
    members: dict[tuple[tuple[str, str], ...], list[Network]] = {}
    for network in found:
        members.setdefault(tuple(network.options.items()), []).append(network)
    keys = dict.fromkeys(key for options in members for key, _ in options)
    values = {key: {dict(options).get(key, "") for options in members} for key in keys}
    varying = [key for key in keys if key == "model.name" or len(values[key]) > 1]
    all_groups = []
    for pairs, of in members.items():
        options, seeds = dict(pairs), [network.seed for network in of]
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise InputError(f"{of[0].name}: seed={twice[0]} is of two networks, whose weights differ: leave one out")
        settings = {key: options.get(key, "") for key in varying}
        by_mu, by_filters, random = (_point(of, axis, kind) for axis, kind in KINDS)
        all_groups.append(Group(settings, options, of, _exact(of, by_mu), by_filters, random))
    return all_groups


def _exact(found: Sequence[Network], by_mu: TippingPoint) -> TippingPoint:
    """The tipping point in mu of several networks by what searches found, where each crosses once."""
    crossings = [network.search.get("crossings", []) for network in found]
    if len(found) < 2 or any(len(each) != 1 for each in crossings):
        return by_mu
    return at_crossings(by_mu, [math.log(each[0]["at"]) for each in crossings])


def lines(found: Sequence[Group]) -> list[list[str]]:
    """A line for each group; headings first."""
    heads = ["tips at mu", "filters removed", "random ones", "parts at mu", "evaluations"]
    table = [[*found[0].settings, "seeds", "intact %", *heads]]
    for group in found:
        parts = parts_at(group.networks)
        table.append(
            [
                *group.settings.values(),
                ", ".join(str(seed) for seed in sorted(network.seed for network in group.networks)),
                comparison.percent([network.records[0]["accuracy"]["intact"] for network in group.networks]),
                shown(group.by_mu, math.exp),
                shown(group.by_filters),
                shown(group.random),
                "nowhere" if parts is None else f"{parts:.3g}",
                str(sum(len(network.records) for network in group.networks)),
            ]
        )
    return table


def compared(found: Sequence[Group], option: str) -> list[list[str]]:
    """Groups that differ in one option only, two by two: by what factor tipping mu differs, and by how many filters the
    number removed; with 95 % intervals and p. Headings first.

    Raises:
        InputError: no two groups differ in it alone.
    """
    if not any(option in group.options for group in found):
        raise InputError(f"--compare {option}: no network has such an option; they have {', '.join(found[0].options)}")
    others = [(g, {key: value for key, value in g.options.items() if key != option}) for g in found]
    pairs = [(a, b) for (a, same), (b, also) in itertools.combinations(others, 2) if same == also]
    if not pairs:
        named = ", ".join(found[0].settings)
        raise InputError(f"--compare {option}: no two groups of networks differ in it alone; groups differ in {named}")
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


def shown(point: TippingPoint, unit: Callable[[float], float] = float) -> str:
    """A tipping point with its interval; a bound of it where networks are censored, and of how many."""
    censored = sum(not math.isfinite(at) for at in point.each)
    some = f" ({censored} of {len(point.each)} beyond)" if censored < len(point.each) else ""
    if math.isinf(point.at):
        return f"{'under' if point.at < 0 else 'over'} {unit(point.bound):.3g}{some}"
    if math.isnan(point.at):
        return f"censored to both sides{some}"
    flag = "; logistic elsewhere" if point.disagree else ""
    return f"{unit(point.at):.3g} ({unit(point.low):.3g} to {unit(point.high):.3g}{flag})"


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
        return 1 if gather(*given.sweeps, by=given.compare) else 0
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
