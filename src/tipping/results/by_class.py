"""The tables of classes: what is left of each without relevant filters, and what each class's own filters cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tipping.ablation import accuracy_by_class, confusion, count_by_class, fall_to
from tipping.errors import printable
from tipping.experiment.options import flat, varying_options
from tipping.experiment.record import InterpretRecord
from tipping.experiment.record_parts import ClassEntry
from tipping.results.rows import print_lines
from tipping.selection import ranked_filters

if TYPE_CHECKING:
    from tipping.arena import Difference

TABLE, ABLATED, COMPARED = "classes.csv", "class_ablations.csv", "class_ablations_compared.csv"
MEASURES = ("own_class", "collateral", "specificity")
PAIRED = {"random": "own", "least_relevant": "own", "others": "own", "against": "for", "kept_random": "kept"}  # kinds
LISTED = 50  # relevant filters of a job that a page lists, at most
Row = dict[str, Any]


class Matrix(NamedTuple):
    """What removing the filters of each class costs each class.

    Attributes:
        removed: the classes whose filters are removed.
        measured: the classes that have images.
        drop_CC: the drop of the accuracy of the second without the filters of the first.
    """

    removed: tuple[int, ...]
    measured: tuple[int, ...]
    drop_CC: np.ndarray


class Classes(NamedTuple):
    """What a job says of classes and of single filters.

    Attributes:
        rows: a row for each class, as `rows_by_class` returns them.
        ranked: the strongest relevant filters, `LISTED` at most, as `ranked_filters` returns them.
        matrix: what the filters of each class cost each class; None unless ``ablate=class``.
    """

    rows: list[Row]
    ranked: list[Row]
    matrix: Matrix | None


def classes_of(record: InterpretRecord, arrays: Mapping[str, np.ndarray]) -> Classes:
    """Return what a job says of classes.

    Args:
        arrays: the job's arrays, as `read_job` returns them.
    """
    ranked: list[Row] = []
    if "order" in arrays:  # records from before there were digests may do without
        places = list(zip(arrays["layer"].tolist(), arrays["channel"].tolist(), strict=True))
        first_K, strength_F = arrays["order"][:LISTED], arrays.get("strength")
        ranked = ranked_filters(places, arrays["weights"], first_K, record.classes, strength_F=strength_F)
    return Classes(rows_by_class(record, arrays), ranked, class_matrix(arrays) if record.by_class else None)


def class_matrix(arrays: Mapping[str, np.ndarray]) -> Matrix | None:
    """Return what the filters of each class cost each, from the arrays of a job with ``ablate=class``; None where there
    are no images of all classes."""
    labels_M, row = arrays["class_others_labels"], arrays["class_rows"].tolist().index("own")
    if not len(labels_M):
        return None
    classes, measured = 1 + int(labels_M.max()), np.unique(labels_M)
    intact_C = accuracy_by_class(arrays["class_others_intact"][None], labels_M, classes)[0]
    without_CC = accuracy_by_class(arrays["class_others"][:, row], labels_M, classes)
    removed = tuple(arrays["class_labels"].tolist())
    return Matrix(removed, tuple(measured.tolist()), (intact_C - without_CC)[:, measured])


def rows_by_class(record: InterpretRecord, predictions: Mapping[str, np.ndarray]) -> list[Row]:
    """Return a row for each class that has images: the share of these that are right, intact and without filters.

    A row has the accuracies on the images of the class, `intact`, without the relevant filters (`selected`), and
    without those of random controls (mean, smallest, largest). Beside each is its `floor`: the share of all images that
    are given this class then, as many as would be right if classes were given regardless of the image. `falls_to` is
    the class that most wrong images of this one are given, with their share of its images.

    Args:
        predictions: the labels, and the classes predicted, as `read_job` returns them.
    """
    labels_N, random_DN = predictions["labels"], predictions["random"]
    given = {"intact": predictions["intact"][None], "selected": predictions["selected"][None], "random": random_DN}
    classes = 1 + max(len(record.classes) - 1, *(int(one.max()) for one in (labels_N, *given.values())))
    names = [*record.classes, *map(str, range(len(record.classes), classes))]
    right = {kind: accuracy_by_class(one, labels_N, classes) for kind, one in given.items()}
    floor = {
        kind: np.mean([count_by_class(row, classes) for row in one], axis=0) / len(labels_N)
        for kind, one in given.items()
    }
    fallen = {
        kind: fall_to(confusion(np.concatenate(given[kind]), np.tile(labels_N, len(given[kind])), classes))
        for kind in ("selected", "random")
    }
    rows = []
    for label in np.unique(labels_N).tolist():
        row: Row = {"class": names[label], "label": label, "images": int((labels_N == label).sum())}
        for kind, right_AC in right.items():
            row |= _accuracies(kind, right_AC[:, label]) | {f"{kind}_floor": float(floor[kind][label])}
        for kind, falls in fallen.items():
            to, share = falls.get(label, (None, 0.0))
            row |= {f"{kind}_falls_to": "" if to is None else names[to], f"{kind}_falls_to_share": share}
        rows.append(row)
    return rows


def _accuracies(kind: str, right_A: np.ndarray) -> Row:
    if kind != "random":
        return {kind: float(right_A[0])}
    return {f"{kind}_{name}": float(getattr(np, name)(right_A)) for name in ("mean", "min", "max")}


def ablation_rows(record: InterpretRecord) -> list[Row]:
    """Return a row for each class and kind of set of a job with ``ablate=class``; none of others."""
    return [entry_row(entry, record.classes) for entry in record.by_class]


def entry_row(entry: ClassEntry, classes: Sequence[str]) -> Row:
    """Return what a kind of set costs one class as a row."""
    row: Row = {"class": classes[entry.label], "label": entry.label, "kind": entry.kind, "filters": entry.filters}
    for measure in MEASURES:
        estimate = getattr(entry, measure)
        ends = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
        row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), ends, strict=True))
    return {**row, **{end: getattr(entry, end) for end in ("tips_at", "tips_low", "tips_high")}}


def compared_groups(records: Sequence[InterpretRecord]) -> list[Row]:
    """Compare what the kinds of sets cost, as `compared_by_kind`, for each group of jobs that differ by mu and seed.

    A row has the options that tell its `group` from others.
    """
    several = [record for record in records if record.by_class]
    varying, groups = varying_options(several), dict[str, list[InterpretRecord]]()
    for record in several:
        options = flat(record.config)
        groups.setdefault(" ".join(f"{name}={options.get(name, '')}" for name in varying), []).append(record)
    return [{"group": name, **row} for name, some in groups.items() for row in compared_by_kind(some)]


def compared_by_kind(records: Sequence[InterpretRecord]) -> list[Row]:
    """Compare what the kinds of sets cost, over networks: means over classes, and differences of the kinds in `PAIRED`.

    A network's measure is its mean over the classes that have it, and over the mu at which it was measured. The
    `difference` of a row is that of the set it is paired with minus its own, paired by network: the mean with Student's
    95 % interval, and the p-value of exchanging the two on each network, corrected for the number of kinds [holm1979].
    Sets without filters do not count.

    Args:
        records: the records of jobs that differ by mu and seed only.
    """
    from tipping.arena import corrected  # with scipy.stats, which tables of other jobs do without

    by_kind: dict[str, dict[str, list[ClassEntry]]] = {}
    for record in records:
        for entry in record.by_class:
            if not entry.filters and entry.kind not in ("kept", "kept_random"):
                continue
            networks = by_kind.setdefault(entry.kind, {})
            networks.setdefault(str(record.store["weights"]), []).append(entry)
    lines: dict[str, Row] = {}
    for kind, networks in by_kind.items():
        every = [entry for entries in networks.values() for entry in entries]
        lines[kind] = {"kind": kind, "networks": len(networks), "filters": float(np.mean([e.filters for e in every]))}
    for measure in MEASURES:
        means = {kind: _means(networks, measure) for kind, networks in by_kind.items()}
        differences = {
            kind: _paired(means.get(PAIRED[kind], {}), some) for kind, some in means.items() if kind in PAIRED
        }
        tested = corrected({kind: one for kind, one in differences.items() if one is not None})
        for kind, line in lines.items():
            line[measure] = float(np.mean(list(means[kind].values()))) if means[kind] else None
            if kind in tested:
                one = tested[kind]
                ends = {"": one.mean, "_low": one.low, "_high": one.high, "_p": one.corrected}
                line |= {f"{measure}_difference{end}": value for end, value in ends.items() if np.isfinite(value)}
    return list(lines.values())


def _means(networks: Mapping[str, Sequence[ClassEntry]], measure: str) -> dict[str, float]:
    means = {}
    for weights, entries in networks.items():
        values = [estimate.mean for entry in entries if (estimate := getattr(entry, measure)) is not None]
        if values:
            means[weights] = float(np.mean(values))
    return means


def _paired(first: Mapping[str, float], second: Mapping[str, float]) -> Difference | None:
    from tipping.arena import paired_difference

    both = [weights for weights in first if weights in second]
    return paired_difference([first[one] for one in both], [second[one] for one in both]) if both else None


def print_by_kind(rows: Sequence[Row]) -> None:
    """Print what the kinds of sets cost: the class whose filters they are, and the others."""
    print("\nEach class without filters: the drop of its accuracy, of the other classes', and the difference\n")
    groups = len({row["group"] for row in rows}) > 1
    heads = [
        *(["networks of"] if groups else []),
        "removed",
        "networks",
        "filters",
        *(f"{measure} points" for measure in MEASURES),
    ]
    heads += ["specificity less by", "p"]
    print_lines([heads, *([*([row["group"]] if groups else []), *_printed(row)] for row in rows)])


def _printed(row: Row) -> list[str]:
    drops = ["" if row[measure] is None else f"{100 * row[measure]:+.2f}" for measure in MEASURES]
    mean, low, high, p = (row.get(f"specificity_difference{end}") for end in ("", "_low", "_high", "_p"))
    more = "" if mean is None else f"{100 * mean:+.2f}"
    more += "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"
    start = [printable(row["kind"]), str(row["networks"]), f"{row['filters']:.1f}"]
    return [*start, *drops, more, "" if p is None else f"{p:.3f}"]
