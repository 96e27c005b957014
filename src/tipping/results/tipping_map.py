"""The tipping points of all networks of sweeps and searches, in one table with a row for each network.

`tipping map SWEEP_DIR [SWEEP_DIR …]` writes the table again, and prints it over seeds.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tipping.errors import InputError, printable
from tipping.experiment.options import OWN, flat, model_text
from tipping.experiment.record import Record
from tipping.frames import write_rows
from tipping.results import published
from tipping.results.rows import print_lines
from tipping.results.sweep import Network, by_options, networks, read_sweeps
from tipping.tipping_points import TippingPoint, area, at_crossings, compare, partings, tipping_point

if TYPE_CHECKING:
    import altair as alt

TABLE, CHART = "tipping_points.csv", "tipping_points.png"
MARKED = 48  # groups of a chart, at most
APART = 0.01  # the least gap in accuracy, without random minus without relevant filters, where curves part


def network_row(network: Network) -> dict[str, Any]:
    """Return the row of a network: its options, its tipping points, and what else was measured."""
    fullest, search = max(network.records, key=lambda record: record.filters.ablated), network.search
    curve, crossings = fullest.curve, search.get("crossings", [])
    by_mu, by_filters, random = (_point([network], axis, kind) for axis, kind in KINDS)
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


def _point(same: Sequence[Network], axis: str, kind: str) -> TippingPoint:
    """Estimate the tipping point of networks that differ by seed, along an axis, by a kind of filters ablated."""
    curves, rng = [network.curves for network in same], np.random.default_rng(0)
    point = tipping_point(curves, same[0].chance, rng, axis=axis, of=kind)
    if axis == "mu":
        return _exact(same, point)
    most = float(same[0].records[0].filters.total)
    return point._replace(high=min(point.high, most)) if math.isfinite(point.at) else point


def _exact(same: Sequence[Network], by_mu: TippingPoint) -> TippingPoint:
    """Return the tipping point in mu from the crossings of searches, where a search saw each network cross once."""
    crossings = [network.search.get("crossings", []) for network in same]
    if not math.isfinite(by_mu.at) or any(len(each) != 1 for each in crossings):
        return by_mu
    return at_crossings(by_mu, [math.log(each[0]["at"]) for each in crossings])


def parts_at(same: Sequence[Network], axis: str) -> float | None:
    """Return the first position where random filters leave at least `APART` more accuracy than the relevant ones.

    The gap exceeds `APART` with 95 % confidence there; the position is None where that holds nowhere.

    Args:
        same: networks that differ by seed only.
        axis: `mu`, or `filters` for the number of filters ablated.
    """
    gaps = partings([network.curves for network in same], np.random.default_rng(0), axis=axis)
    first = next((one.at for one in gaps if one.low > APART), None)
    return math.exp(first) if first is not None and axis == "mu" else first


def _columns(name: str, point: TippingPoint, unit: Callable[[float], float] = float) -> dict[str, Any]:
    values = {"": point.at, "_low": point.low, "_high": point.high, "_logistic": point.logistic}
    shown = {f"tipping_{name}{end}": unit(value) for end, value in values.items()}
    return {**shown, f"tipping_{name}_disagree": point.disagree}


def write_map(*sweeps: Path, by: str | None = None) -> list[str]:
    """Write ``tipping_points.csv`` and ``.png`` into the first folder, and print tipping points over seeds.

    Args:
        sweeps: the folders of sweeps and searches.
        by: an option whose values are compared; none by default.

    Returns:
        a line for each job or network that is left out.

    Raises:
        InputError: a folder is missing or holds no job, or no network can be used.
    """
    from tipping.results.rendering import save_png  # with altair

    jobs, left_out = read_sweeps(sweeps)
    measured, unusable = networks(jobs)
    left_out += unusable
    if not measured:
        raise InputError(left_out[0] if left_out else f"{sweeps[0]} holds no jobs of interpret.py")
    over_seeds, rows = groups(measured), [network_row(network) for network in measured]
    against = comparison_lines(over_seeds, by) if by else []
    write_rows(sweeps[0] / TABLE, rows)
    fault = save_png(tipping_chart([(group.name, group) for group in over_seeds]), sweeps[0] / CHART)
    print("\nTipping points: where accuracy is midway between intact and chance; 95 % intervals\n")
    print_lines(point_lines(over_seeds))
    if against:
        print(f"\nBy {by}: 95 % intervals, and p by dealing networks to the two anew\n")
        print_lines(against)
    print(*("", printable(str(sweeps[0] / TABLE)), *(() if fault else [printable(str(sweeps[0] / CHART))])), sep="\n")
    left_out += [fault] if fault else []
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    return left_out


class Group(NamedTuple):
    """Networks that differ only by their seed.

    Attributes:
        settings: the options that tell the group apart from other groups, with their values.
        options: all options.
        networks: the networks.
        by_mu, by_filters, random: the tipping points in ln mu, in relevant filters, and in random filters.
    """

    settings: dict[str, str]
    options: dict[str, str]
    networks: list[Network]
    by_mu: TippingPoint
    by_filters: TippingPoint
    random: TippingPoint

    @property
    def above_chance(self) -> bool:
        """Whether all intact networks are better than chance; otherwise nothing can tip."""
        return all(network.curves.intact_N.mean() > network.chance for network in self.networks)

    @property
    def name(self) -> str:
        """The settings in words."""
        return name_of(self.settings)


def varying(options: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the options in which networks differ, and always the model's name.

    The model's class is among them where its name does not tell it.
    """
    keys = dict.fromkeys(key for one in options for key in one)
    names = {one.get("model.name", "") for one in options}
    classes = {(one.get("model.name", ""), one.get("model._target_", "")) for one in options}
    always = {"model.name": True, "model._target_": OWN in names or len(classes) > len(names)}
    return [key for key in keys if always.get(key, len({one.get(key, "") for one in options}) > 1)]


def name_of(settings: Mapping[str, str]) -> str:
    """Write options and their values in words."""
    plain = ("data.name", "model.name", "protocol")
    shown = {key: value for key, value in settings.items() if key != "model._target_"}
    if "model.name" in shown:
        shown["model.name"] = model_text(shown["model.name"], settings.get("model._target_"), alone=False)
    return ", ".join(value if key in plain else f"{key}={value}" for key, value in shown.items())


def groups(measured: Sequence[Network]) -> list[Group]:
    """Group networks that differ only by their seed, sorted by name.

    Raises:
        InputError: two networks of a group have the same seed.
    """
    members = by_options(measured)
    apart = varying([dict(options) for options in members])
    all_groups = []
    for pairs, same in members.items():
        options = dict(pairs)
        check_seeds(same)
        settings = {key: options.get(key, "") for key in apart}
        by_mu, by_filters, random = (_point(same, axis, kind) for axis, kind in KINDS)
        all_groups.append(Group(settings, options, same, by_mu, by_filters, random))
    return sorted(all_groups, key=lambda group: natural(group.name))


def check_seeds(same: Sequence[Network]) -> None:
    """Raise `InputError` where two networks have the same seed, and say how they differ."""
    by_seed: dict[int, Network] = {}
    for network in same:
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
    """Return a sort key by which names with numbers are in the order of the numbers."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", name))]


def point_lines(over_seeds: Sequence[Group]) -> list[list[str]]:
    """Tabulate the tipping points of groups: a line for each, headings first."""
    heads = ["tips at mu", "filters removed", "random ones", "parts at mu", "at filters", "evaluations"]
    table = [[*over_seeds[0].settings, "seeds", "intact %", *heads]]
    for group in over_seeds:
        parts = [parts_at(group.networks, axis) for axis in ("mu", "filters")]
        table.append(
            [
                *group.settings.values(),
                ", ".join(str(seed) for seed in sorted(network.seed for network in group.networks)),
                published.percent([network.records[0].accuracy.intact for network in group.networks]),
                *(
                    [point_text(group.by_mu, math.exp), point_text(group.by_filters), point_text(group.random)]
                    if group.above_chance
                    else ["not above chance"] * 3
                ),
                *("nowhere" if part is None else f"{part:.3g}" for part in parts),
                str(sum(len(network.records) for network in group.networks)),
            ]
        )
    return table


def comparison_lines(over_seeds: Sequence[Group], option: str) -> list[list[str]]:
    """Compare, two by two, the tipping points of groups that differ in one option only.

    Returns:
        the lines of a table, headings first: the ratio of the tipping points in mu, and the difference of those in
        filters, with 95 % intervals and p-values.

    Raises:
        InputError: no two groups differ in this option alone.
    """
    if not any(option in group.options for group in over_seeds):
        raise InputError(
            f"--compare {option}: no network has such an option; they have {', '.join(over_seeds[0].options)}"
        )
    others = [(g, {key: value for key, value in g.options.items() if key != option}) for g in over_seeds]
    pairs = [(a, b) for (a, same), (b, also) in itertools.combinations(others, 2) if same == also]
    if not pairs:
        named = ", ".join(over_seeds[0].settings)
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
    """Return the difference of two tipping points in words, and its p-value; the reason where there is none."""
    if not all(map(math.isfinite, (*one.each, *other.each))):
        return "censored", ""
    if min(len(one.each), len(other.each)) < 2:
        return "one network", ""
    difference = compare(one.each, other.each)
    return written(difference[:3]), f"{difference.p:.3f}"


def tipping_chart(named: Sequence[tuple[str, Group]]) -> alt.HConcatChart:
    """Draw the tipping points of named groups, in mu and in the share of filters removed; none not above chance."""
    from tipping.results.charts import RANDOM, RELEVANT, tipping_points_chart  # with altair, which a table does without

    by_mu, by_filters = [], []
    for name, group in named[:MARKED]:
        if not group.above_chance:
            continue
        total = group.networks[0].records[0].filters.total
        mu_P = np.concatenate([network.curves.mu_P for network in group.networks])
        by_mu += _marks(name, RELEVANT, group.by_mu, math.exp, 1, (mu_P.min(), mu_P.max()))
        by_filters += _marks(name, RELEVANT, group.by_filters, float, total, (0.0, 1.0))
        by_filters += _marks(name, RANDOM, group.random, float, total, (0.0, 1.0))
    chart = tipping_points_chart(by_mu, by_filters)
    return chart.properties(title=f"{MARKED} of {len(named)}; all: {TABLE}") if len(named) > MARKED else chart


def _marks(
    name: str, kind: str, point: TippingPoint, unit: Callable[[float], float], total: int, within: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return the marks of a tipping point, as `tipping_points_chart` takes them.

    A censored network is marked at its bound. The interval is drawn where it is closed, as far as it was measured.
    """
    marks: list[dict[str, Any]] = []
    for at, bound in zip(point.each, point.bounds, strict=True):
        beyond = {} if math.isfinite(at) else {"beyond": "right" if at > 0 else "left"}
        marks.append({"name": name, "ablated": kind, "at": unit(bound) / total, **beyond})
    if math.isfinite(point.low) and math.isfinite(point.high):
        low, high = unit(point.low) / total, unit(point.high) / total
        marks.append({"name": name, "ablated": kind, "low": max(low, within[0]), "high": min(high, within[1])})
        marks += [{"name": name, "ablated": kind, "end": end} for end in (low, high) if within[0] <= end <= within[1]]
    return marks


def point_text(point: TippingPoint, unit: Callable[[float], float] = float) -> str:
    """Write a tipping point with its interval in words.

    Where networks are censored, a bound is written in its place, with the number of censored networks.

    Args:
        point: the tipping point.
        unit: the function from the axis of the point to the unit shown.
    """
    censored = sum(not math.isfinite(at) for at in point.each)
    some = f" ({censored} of {len(point.each)} beyond)" if censored < len(point.each) else ""
    if math.isinf(point.at):
        return f"{'under' if point.at < 0 else 'over'} {unit(point.bound):.3g}{some}"
    if math.isnan(point.at):
        return f"censored to both sides{some}"
    flag = "; logistic elsewhere" if point.disagree else ""
    return f"{unit(point.at):.3g} ({unit(point.low):.3g} to {unit(point.high):.3g}{flag})"
