"""The tables of contests of selectors: each result, comparisons over networks, and how alike selectors are."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipping.arena import MATCHED, OWN, Difference, corrected, mean_along, paired_difference, rank_correlation, shared
from tipping.errors import InputError, printable
from tipping.experiment.config import MU_LASSO
from tipping.experiment.options import flat, varying_options
from tipping.experiment.record import ArenaRecord
from tipping.experiment.record_parts import Entry
from tipping.frames import write_rows
from tipping.results.jobs import Jobs, read_jobs
from tipping.results.rows import print_lines

TABLE, COMPARED, ALIKE, CHART = "arena.csv", "arena_compared.csv", "arena_alike.csv", "arena.png"
BASELINE = {OWN: "random", MATCHED: "random_layer"}  # random orders, by kind of order
AVERAGED = ("without", "kept", "area", "kept_area", "gap", "without_loss", "seconds")  # over contests of one network
BY_CLASS = ("own_class", "collateral", "specificity")  # of selectors that tell classes apart, in their own order
NETWORK = (  # options in rows that are kept, by which networks and contests are told apart
    *("model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "trainer.precision", "trainer.batch_size"),
    *("trainer.learning_rate", "data.responses", "arena.images", "arena.ablation_images", "arena.single_images"),
    *("arena.permutations", "arena.removals", "arena.within_layers"),
)
Row = dict[str, Any]


class Contested(NamedTuple):
    """A contest on one network: its record, and the scores of the A filters that may be ablated, by selector (A,)."""

    record: ArenaRecord
    scores: dict[str, np.ndarray]


def read_contests(sweep: Path) -> tuple[list[Contested], list[str]]:
    """Read the contests of a sweep.

    Returns:
        the contests, and the names of jobs without a readable record.

    Raises:
        InputError: the folder is missing or holds no contest.
    """
    jobs = read_jobs(sweep)
    contests = contested(jobs)
    missing = [path.name for path in jobs.direct if path not in jobs.contests]
    if not contests and not missing:
        raise InputError(f"{sweep} holds no contest of selectors; give the folder of a sweep of tipping arena")
    return contests, missing


def contested(jobs: Jobs) -> list[Contested]:
    """Return the contests among jobs that were read with their scores."""
    return [Contested(record, _overall(jobs.scores[path])) for path, record in jobs.contests.items()]


def _overall(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    scores = {name.removeprefix("score "): one for name, one in arrays.items() if name.startswith("score ")}
    ablatable_F = arrays.get("ablatable", np.ones(len(arrays["channel"]), dtype=bool))  # which older records lack
    return {name: (one if one.ndim == 1 else one.sum(1))[ablatable_F] for name, one in scores.items()}


def contest_rows(record: ArenaRecord, varying: Sequence[str]) -> list[Row]:
    """Return a row for each result of a contest.

    The measures are the accuracy `without` the K first filters, where K is the number of the mu-lasso's, and with only
    these `kept`; the `area` under accuracy as filters are removed, divided by its width, so that it is the mean
    accuracy; the area where they are kept; the `gap` of both; the loss without the K first; and how many filters have
    to be removed until accuracy tips. Of random orders, means over draws. Of selectors that tell classes apart, the
    drops of a class and of the others without as many filters as the mu-lasso has for it, and the first minus the
    second, `specificity`.

    Args:
        varying: the options in which the contests of the table differ.
    """
    options, relevant = flat(record.config), record.filters.ablated
    network = {
        "job": record.job,
        "weights": record.store["weights"],
        "data": record.data,
        "model": record.model["name"],
        **{key: options.get(key, "") for key in varying if key not in ("data.name", "model.name")},
        "seed": record.seed,
        "mu": record.mu,
        "filters": record.filters.total,
        "relevant": relevant,
        "images": record.images,
        "intact": record.accuracy.intact,
        "chance": record.accuracy.chance,
        "protocol": record.protocol["name"],
        "certified": record.selection.certified,
    }
    end = {"device": record.device, "commit": record.versions["commit"] or ""}
    return [{**network, **measures_of(entry, relevant), **end} for entry in record.entries]


def measures_of(entry: Entry, relevant: int) -> Row:
    """Return the measures of a result, as `contest_rows` says them.

    Args:
        relevant: the number K of first filters.
    """
    at = entry.counts.index(relevant)
    area, kept_area = (mean_along(entry.counts, lines) for lines in (entry.removed, entry.kept))
    return {
        "selector": entry.selector,
        "family": entry.family,
        "cost": entry.cost,
        "orders": entry.orders,
        "without": float(np.mean([line[at] for line in entry.removed])),
        "kept": float(np.mean([line[at] for line in entry.kept])),
        "area": area,
        "kept_area": kept_area,
        "gap": kept_area - area,
        "without_loss": float(np.mean([line[at] for line in entry.removed_loss])),
        **{key: getattr(entry, key) for key in ("tips_at", "tips_low", "tips_high")},
        "own_class": entry.own_class,
        "collateral": entry.collateral,
        "specificity": None if entry.own_class is None else entry.own_class - (entry.collateral or 0.0),
        "seconds": round(entry.seconds, 3),
    }


def compared(rows: Sequence[Row], varying: Sequence[str]) -> list[Row]:
    """Compare each selector with random orders and with the mu-lasso, over networks that differ only by their seed, and
    over all networks where there are several kinds.

    Several contests of one network, as at several mu, count as one, by their means.

    Args:
        rows: the rows of all contests.
        varying: the options in which contests differ, beside the seed.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = " ".join(f"{option}={row.get(option, '')}" for option in varying) or str(row["model"])
        groups.setdefault(name, []).append(row)
    if len(groups) > 1:
        groups["all networks"] = list(rows)
    lines = []
    for name, some in groups.items():
        for orders in (OWN, MATCHED):
            lines += _compared([row for row in by_network(some) if row["orders"] == orders], name, orders)
    return lines


def by_network(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each network, selector and kind of order: means over the contests of a network, which has the
    same weights in all of them."""
    contests: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        contests.setdefault((row["weights"], row["selector"], row["orders"]), []).append(row)
    return [{**some[0], **_means(some)} for some in contests.values()]


def _means(rows: Sequence[Row]) -> Row:
    """Return the means of measures; of the numbers of filters that tip, None where one contest does not tip."""
    tips = [row["tips_at"] for row in rows]
    means = {key: float(np.mean([row[key] for row in rows])) for key in AVERAGED}
    by_class = {key: _mean([row.get(key) for row in rows]) for key in BY_CLASS}
    return {**means, **by_class, "tips_at": None if None in tips else float(np.mean(tips))}


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where a value is missing."""
    return None if None in values else float(np.mean([value for value in values if value is not None]))


def _compared(rows: Sequence[Row], name: str, orders: str) -> list[Row]:
    """Compare selectors by one kind of order, the best first: that with the smallest area."""
    by_selector: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_selector.setdefault(row["selector"], {})[row["weights"]] = row
    lines: dict[str, Row] = {}
    for selector, its_rows in by_selector.items():
        first = next(iter(its_rows.values()))
        lines[selector] = {
            "networks": len(its_rows),
            "group": name,
            "orders": orders,
            "selector": selector,
            "family": first["family"],
            **{
                key: float(np.mean([row[key] for row in its_rows.values()]))
                for key in ("without", "area", "kept_area", "gap")
            },
            **{key: _mean([row.get(key) for row in its_rows.values()]) for key in BY_CLASS},
            "seconds": float(np.mean([row["seconds"] for row in its_rows.values()])),
            **_tips(list(its_rows.values())),
        }
    for baseline in (BASELINE[orders], MU_LASSO):
        for measure in ("area", "without", "specificity"):
            differences = _differences(by_selector, baseline, measure)
            for selector, one in differences.items():
                lines[selector] |= {f"{measure}_to_{baseline}{key}": value for key, value in _named(one).items()}
    return sorted(lines.values(), key=lambda line: float(line["area"]))


def _tips(rows: Sequence[Row]) -> Row:
    """Return how many filters tip networks: the median, inf where half of them or more do not tip."""
    each = [np.inf if row["tips_at"] is None else row["tips_at"] for row in rows]
    median = float(np.median(each))
    return {"tips_at": median if np.isfinite(median) else None, "tipped": int(np.isfinite(each).sum())}


def _differences(by_selector: Mapping[str, Mapping[str, Row]], baseline: str, measure: str) -> dict[str, Difference]:
    """Return the differences of selectors to one of them, over the networks of both, with corrected p-values."""
    if baseline not in by_selector:
        return {}
    base, differences = by_selector[baseline], {}
    for selector, its_rows in by_selector.items():
        both = [
            weights
            for weights, row in its_rows.items()
            if weights in base and row.get(measure) is not None and base[weights].get(measure) is not None
        ]
        if selector != baseline and both:
            pair = ([float(rows[weights][measure]) for weights in both] for rows in (its_rows, base))
            differences[selector] = paired_difference(*pair)
    return corrected(differences)


def _named(one: Difference) -> Row:
    finite = {key: value if np.isfinite(value) else None for key, value in one._asdict().items()}
    return {"": finite["mean"], "_low": finite["low"], "_high": finite["high"], "_p": finite["corrected"]}


def alike(contests: Sequence[Contested]) -> list[Row]:
    """Say how alike pairs of selectors are: Spearman's correlation of their scores, and the share of the K filters with
    the largest scores that both have, beside that of random filters; means over networks. Filters that may not be
    ablated do not count."""
    pairs: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for record, scores in contests:
        count = record.filters.ablated
        for first, second in itertools.combinations(scores, 2):
            correlation = rank_correlation(scores[first], scores[second])
            pairs.setdefault((first, second), []).append((correlation, *shared(scores[first], scores[second], count)))
    rows = []
    for (first, second), values in pairs.items():
        correlation, both, chance = np.mean(values, axis=0).tolist()
        rank = None if np.isnan(correlation) else correlation
        rows.append({"first": first, "second": second, "rank_correlation": rank, "shared": both, "by_chance": chance})
    return rows


def write_arena(sweep: Path) -> list[str]:
    """Write the tables and the chart of a sweep of contests, and print what selectors cost networks.

    Returns:
        the names of jobs without a readable record, and the chart if it could not be drawn.

    Raises:
        InputError: the folder is missing or holds no contest.
    """
    from tipping.results.arena_chart import arena_chart  # with altair, which a table does without
    from tipping.results.rendering import many_charts, save_png

    contests, missing = read_contests(sweep)
    faults = []
    if contests:
        varying = network_options([contest.record for contest in contests])
        rows = [row for contest in contests for row in contest_rows(contest.record, varying)]
        summary = compared(rows, varying)
        for name, some in ((TABLE, rows), (COMPARED, summary), (ALIKE, alike(contests))):
            write_rows(sweep / name, some)
        with many_charts():
            fault = save_png(arena_chart(rows, varying), sweep / CHART)
        _print(summary)
        _say_refused([contest.record for contest in contests])
        written = [TABLE, COMPARED, ALIKE, *([] if fault else [CHART])]
        print("", *(printable(str(sweep / name)) for name in written), sep="\n")
        if fault:
            print(fault, file=sys.stderr)
            faults = [CHART]
    if missing:
        names, how = ", ".join(map(printable, missing)), "the same command again runs what is left"
        print(f"{printable(str(sweep))}: no whole record of job {names}; {how}", file=sys.stderr)
    return [*missing, *faults]


def network_options(records: Sequence[ArenaRecord]) -> list[str]:
    """Return the options in which several contests differ, beside the seed: those of networks, and of contests."""
    mu = ["mu"] if len({record.mu for record in records}) > 1 else []
    return [*mu, *(option for option in varying_options(records) if not option.startswith("arena.selectors"))]


def _print(summary: Sequence[Row]) -> None:
    """Print the comparison: of all networks where there are several kinds."""
    last = summary[-1]["group"]
    for orders, words in ((OWN, "in their own order"), (MATCHED, "with as many of each layer as the mu-lasso's")):
        lines = [line for line in summary if line["group"] == last and line["orders"] == orders]
        baseline = BASELINE[orders]
        heads = ["selector", "family", "networks", "without K %", "mean accuracy %", f"to {baseline}", "p"]
        cells = [heads, *(_cells(line, baseline) for line in lines)]
        print(f"\nAccuracy as the filters that selectors score highest are removed, {words}: {last}\n")
        print_lines(cells)


def _cells(line: Row, baseline: str) -> list[str]:
    percent = [f"{100 * line[key]:.2f}" for key in ("without", "area")]
    start = [line["selector"], line["family"], str(line["networks"])]
    return [*start, *percent, *difference_cells(line, f"area_to_{baseline}")]


def difference_cells(line: Row, measure: str) -> list[str]:
    """Write a difference of a comparison, such as `area_to_random`, in points with its interval, and its p-value."""
    mean, low, high, p = (line.get(f"{measure}{end}") for end in ("", "_low", "_high", "_p"))
    difference = "" if mean is None else f"{100 * mean:+.1f}"
    difference += "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return [difference, "" if p is None else f"{p:.3f}"]


def _say_refused(records: Sequence[ArenaRecord]) -> None:
    reasons = dict.fromkeys(json.dumps([name, why]) for record in records for name, why in record.refused.items())
    for name, why in map(json.loads, reasons):
        print(f"left out: {printable(name)}: {printable(why)}")
