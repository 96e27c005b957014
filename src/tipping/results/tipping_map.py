"""The tipping points of all networks of sweeps and searches, as one table: a row for each network.

`tipping map SWEEP_DIR [SWEEP_DIR …]` writes it anew, and prints it over seeds.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment.options import flat
from tipping.experiment.record import Record
from tipping.files import replacing
from tipping.results import published
from tipping.results.sweep import Network, networks, read
from tipping.results.tables import print_lines
from tipping.tipping_points import TippingPoint, area, at_crossings, compare, partings, tipping_point

if TYPE_CHECKING:
    import altair as alt

TABLE, CHART = "tipping_points.csv", "tipping_points.png"
APART = 0.01  # by how much accuracy without random filters must exceed that without the relevant ones, to part


def row(network: Network) -> dict[str, Any]:
    """Return a network's line of the table: its options, and what was found of it."""
    fullest, search = max(network.records, key=lambda record: record.filters.ablated), network.search
    curve, crossings = fullest.curve, search.get("crossings", [])
    by_mu, by_filters, random = (_point([network], axis, of) for axis, of in KINDS)
    return {
        **network.options,
        "seed": network.seed,
        "evaluations": len(network.records),
        "intact": network.records[0].accuracy.intact,
        "chance": network.chance,
        "least": min(record.accuracy.selected for record in network.records),
        "filters": network.records[0].filters.total,
        **_columns("mu", by_mu, math.exp),
        "slope": by_mu.slope,
        **_columns("filters", by_filters),
        **_columns("random_filters", random),
        "parts_at_mu": parts_at([network], "mu"),
        "parts_at_filters": parts_at([network], "filters"),
        **{
            f"area_{order}": area(np.array(curve.removed), np.mean(np.atleast_2d(getattr(curve, order)), axis=0))
            for order in ("selected", "weakest", "random")
        },
        "crossings": len(crossings) if search else "",
        "crosses_at": crossings[0]["at"] if crossings else "",
        **{fact: "" if search.get(fact) is None else search[fact] for fact in ("saturation_mu", "stability")},
        "certified": all(record.selection.certified for record in network.records),
        "device": network.records[0].device,
        "commit": network.records[0].versions["commit"] or "",
    }


KINDS = (("mu", "selected"), ("filters", "selected"), ("filters", "random"))


def _point(found: Sequence[Network], axis: str, of: str) -> TippingPoint:
    curves, rng = [network.curves for network in found], np.random.default_rng(0)
    point = tipping_point(curves, found[0].chance, rng, axis=axis, of=of)
    if axis == "mu":
        return _exact(found, point)
    most = float(found[0].records[0].filters.total)
    return point._replace(high=min(point.high, most)) if math.isfinite(point.at) else point


def _exact(found: Sequence[Network], by_mu: TippingPoint) -> TippingPoint:
    """Return the tipping point in mu by what searches found, where each network crosses once, on its way down."""
    crossings = [network.search.get("crossings", []) for network in found]
    if not math.isfinite(by_mu.at) or any(len(each) != 1 for each in crossings):
        return by_mu
    return at_crossings(by_mu, [math.log(each[0]["at"]) for each in crossings])


def parts_at(found: Sequence[Network], axis: str) -> float | None:
    """Return the first mu, or number of filters ablated, at which random filters leave at least `APART` more accuracy
    than the relevant ones, with 95 % confidence."""
    gaps = partings([network.curves for network in found], np.random.default_rng(0), axis=axis)
    first = next((one.at for one in gaps if one.low > APART), None)
    return math.exp(first) if first is not None and axis == "mu" else first


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

    Raises:
        InputError: a folder is missing or holds no job, or nothing is left.
    """
    jobs, left_out = read(sweeps)
    found, not_found = networks(jobs)
    left_out += not_found
    if not found:
        raise InputError(left_out[0] if left_out else f"{sweeps[0]} holds no jobs of interpret.py")
    over_seeds, rows = groups(found), [row(network) for network in found]
    against = compared(over_seeds, by) if by else []
    with replacing(sweeps[0] / TABLE) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for line in rows for key in line)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    with replacing(sweeps[0] / CHART) as part:
        chart([(group.name, group) for group in over_seeds]).save(part, format="png", scale_factor=2)
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
    def above_chance(self) -> bool:
        """Whether its intact networks are better than chance; if not, there is nothing to tip."""
        return all(network.curves.intact_N.mean() > network.chance for network in self.networks)

    @property
    def name(self) -> str:
        """What tells it apart."""
        return name_of(self.settings)


def varying(options: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the options that tell networks apart, and the model's name."""
    keys = dict.fromkeys(key for one in options for key in one)
    return [key for key in keys if key == "model.name" or len({one.get(key, "") for one in options}) > 1]


def name_of(settings: Mapping[str, str]) -> str:
    """Options and their values in words."""
    plain = ("data.name", "model.name", "protocol")
    return ", ".join(value if key in plain else f"{key}={value}" for key, value in settings.items())


def groups(found: Sequence[Network]) -> list[Group]:
    """Networks over seeds.

    Raises:
        InputError: two networks of a group have the same seed.
    """
    members: dict[tuple[tuple[str, str], ...], list[Network]] = {}
    for network in found:
        members.setdefault(tuple(network.options.items()), []).append(network)
    apart = varying([dict(options) for options in members])
    all_groups = []
    for pairs, of in members.items():
        options = dict(pairs)
        _each_seed_once(of)
        settings = {key: options.get(key, "") for key in apart}
        by_mu, by_filters, random = (_point(of, axis, kind) for axis, kind in KINDS)
        all_groups.append(Group(settings, options, of, by_mu, by_filters, random))
    return sorted(all_groups, key=lambda group: natural(group.name))


def _each_seed_once(found: Sequence[Network]) -> None:
    """Refuse networks of which two have the same seed, and say in what they differ."""
    by_seed: dict[int, Network] = {}
    for network in found:
        other = by_seed.setdefault(network.seed, network)
        if other is network:
            continue
        one, two = ({**flat(each.records[0].config), **_made_with(each.records[0])} for each in (other, network))
        differing = [key for key in one if one[key] != two.get(key) and key != "mu"]
        where = f"{other.jobs[0].folder} and {network.jobs[0].folder}"
        what = f"differ in {', '.join(differing)}" if differing else "were trained apart"
        raise InputError(f"{network.name}: {where} are of two networks of one seed, which {what}: leave one out")


def _made_with(record: Record) -> dict[str, Any]:
    return {"device": record.device, **record.versions}


def natural(name: str) -> list[Any]:
    """Return a key that sorts names such that the numbers in them rise."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", name))]


def lines(found: Sequence[Group]) -> list[list[str]]:
    """Return a line for each group, headings first."""
    heads = ["tips at mu", "filters removed", "random ones", "parts at mu", "at filters", "evaluations"]
    table = [[*found[0].settings, "seeds", "intact %", *heads]]
    for group in found:
        parts = [parts_at(group.networks, axis) for axis in ("mu", "filters")]
        table.append(
            [
                *group.settings.values(),
                ", ".join(str(seed) for seed in sorted(network.seed for network in group.networks)),
                published.percent([network.records[0].accuracy.intact for network in group.networks]),
                *(
                    [shown(group.by_mu, math.exp), shown(group.by_filters), shown(group.random)]
                    if group.above_chance
                    else ["not above chance"] * 3
                ),
                *("nowhere" if part is None else f"{part:.3g}" for part in parts),
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
    """Return the difference of two tipping points as written, and p; none where that cannot be said."""
    if not all(map(math.isfinite, (*one.each, *other.each))):
        return "censored", ""
    if min(len(one.each), len(other.each)) < 2:
        return "one network", ""
    found = compare(one.each, other.each)
    return written(found[:3]), f"{found.p:.3f}"


def chart(found: Sequence[tuple[str, Group]]) -> alt.HConcatChart:
    """Tipping points in mu, and in the share of filters removed, of groups under their names."""
    from tipping.results.charts import RANDOM, RELEVANT, tipping_points  # with altair, which a table does without

    by_mu, by_filters = [], []
    for name, group in found:
        if not group.above_chance:
            continue
        total = group.networks[0].records[0].filters.total
        mu_P = np.concatenate([network.curves.mu_P for network in group.networks])
        by_mu += _marks(name, RELEVANT, group.by_mu, math.exp, 1, (mu_P.min(), mu_P.max()))
        by_filters += _marks(name, RELEVANT, group.by_filters, float, total, (0.0, 1.0))
        by_filters += _marks(name, RANDOM, group.random, float, total, (0.0, 1.0))
    return tipping_points(by_mu, by_filters)


def _marks(
    name: str, kind: str, point: TippingPoint, unit: Callable[[float], float], total: int, within: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return a mark for each network, those that are censored at their last position, and one for the interval, if it
    is closed, as far as it lies within what was measured, with its ends that do."""
    marks: list[dict[str, Any]] = []
    for at, bound in zip(point.each, point.bounds, strict=True):
        beyond = {} if math.isfinite(at) else {"beyond": "right" if at > 0 else "left"}
        marks.append({"name": name, "ablated": kind, "at": unit(bound) / total, **beyond})
    if math.isfinite(point.low) and math.isfinite(point.high):
        low, high = unit(point.low) / total, unit(point.high) / total
        marks.append({"name": name, "ablated": kind, "low": max(low, within[0]), "high": min(high, within[1])})
        marks += [{"name": name, "ablated": kind, "end": end} for end in (low, high) if within[0] <= end <= within[1]]
    return marks


def shown(point: TippingPoint, unit: Callable[[float], float] = float) -> str:
    """Write a tipping point with its interval; a bound of it where networks are censored, and of how many."""
    censored = sum(not math.isfinite(at) for at in point.each)
    some = f" ({censored} of {len(point.each)} beyond)" if censored < len(point.each) else ""
    if math.isinf(point.at):
        return f"{'under' if point.at < 0 else 'over'} {unit(point.bound):.3g}{some}"
    if math.isnan(point.at):
        return f"censored to both sides{some}"
    flag = "; logistic elsewhere" if point.disagree else ""
    return f"{unit(point.at):.3g} ({unit(point.low):.3g} to {unit(point.high):.3g}{flag})"
