"""Comparisons from the rows of sweeps' tables: selected with random filters, and our numbers with the report's."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipping.errors import InputError
from tipping.experiment import invocation
from tipping.files import read_text
from tipping.tipping_points import student

Row = dict[str, Any]
NUMBERS = ("mu", "ablated", "intact", "selected", "model.filters", "model.dropout")
NETWORK = (  # columns that identify a network, without its seed
    *("data", "model", "model.filters", "model.depth", "model.dropout", "trainer.max_epochs", "trainer.batch_size"),
    *("trainer.learning_rate", "trainer.precision", "model._target_"),
)
EXACT = 10**6  # exchanges that are counted one by one, at most; of more, this many are drawn

# the report's Figure 4 [cukran2019]: accuracy in % without the selected filters, without random ones, filters dropped
FIGURE_4 = {
    10: (99.01, 99.14, 23),
    100: (98.81, 99.08, 69),
    500: (80.03, 98.71, 301),
    600: (58.61, 98.47, 333),
    700: (11.42, 98.73, 397),
}
# by dropout: accuracy in % of about 80, and the filters dropped for it
TIPPED = {0.5: (80.03, 301), 0.0: (80.11, 394)}
# the report's Figure 3: filters dropped; then, for conv + dense and for conv, accuracy in % without the selected and
# without random filters; intact accuracy is 100 %
FIGURE_3 = {
    10: (17, {"conv+dense": (86.0, 99.0), "conv": (87.5, 90.34)}),
    100: (175, {"conv+dense": (30.0, 96.0)}),
    200: (387, {"conv+dense": (21.0, 32.0)}),
}


class Difference(NamedTuple):
    """The accuracy without the selected filters minus that without random ones, over networks that differ by seed.

    Attributes:
        mean: the mean over networks.
        low, high: the 95 % interval of the mean by Student's t over networks, whose spread includes that of the draws;
            None for one network.
        p: the two-sided p-value under the hypothesis that, in each network, the selected filters are one more random
            draw. With D draws in one network, p is at least 1 / (D + 1).
    """

    mean: float
    low: float | None
    high: float | None
    p: float


def difference(selected_S: np.ndarray, random_SD: np.ndarray) -> Difference:
    """Measure how far the selected filters of S networks differ from their D random controls.

    The p-value counts all exchanges of the selected filters with a control in each network. It is exact up to a
    million exchanges; of more, a million are drawn.

    Args:
        selected_S: the accuracy without the selected filters of each network.
        random_SD: the accuracy without each control.
    """
    gaps_S = selected_S - random_SD.mean(1)
    seeds, mean = len(gaps_S), float(gaps_S.mean())
    low = high = None
    if seeds > 1:
        _, low, high = student(gaps_S)
    sets_SE = np.column_stack([selected_S, random_SD])
    draws = random_SD.shape[1]
    gaps_SE = ((draws + 1) * sets_SE - sets_SE.sum(1, keepdims=True)) / draws  # of each set from the mean of the others
    far = abs(gaps_S.sum()) - 1e-12  # allows for rounding
    if gaps_SE.shape[1] ** seeds <= EXACT:
        sums = np.zeros(1)
        for gaps_E in gaps_SE:
            sums = (sums[:, None] + gaps_E).ravel()
        return Difference(mean, low, high, float((abs(sums) >= far).mean()))
    drawn = np.random.default_rng(0).integers(gaps_SE.shape[1], size=(EXACT, seeds))
    sums = gaps_SE[np.arange(seeds), drawn].sum(1)
    return Difference(mean, low, high, float(((abs(sums) >= far).sum() + 1) / (EXACT + 1)))


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a sweep's table, with numbers in place of text where there are any.

    Raises:
        InputError: the file is missing or no such table.
    """
    try:
        rows: list[Row] = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        for row in rows:
            row["random"] = [float(value) for value in row["random"].split()]
            row |= {key: float(row[key]) for key in NUMBERS if row.get(key)}
    except (OSError, KeyError, ValueError, AttributeError, csv.Error) as error:
        reason = f"{path} cannot be read as a sweep's table ({error})"
        raise InputError(f"{reason}; {' '.join(invocation.words('table'))} writes it") from error
    return rows


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by the values of some columns, in the order in which these values first appear.

    Raises:
        InputError: two rows of a group are of one job, which would count twice; or rows of a group are of networks that
            differ by more than their seed.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in keys), []).append(row)
    for group in groups.values():
        jobs = [(row["seed"], row["mu"], row["sites"]) for row in group]
        if twice := [job for job in jobs if jobs.count(job) > 1]:
            seed, mu, _ = twice[0]
            raise InputError(f"seed={seed} mu={mu:g} is there twice for {group[0]['protocol']}: leave one sweep out")
        for option in NETWORK:
            if len({row.get(option, "") for row in group}) > 1:
                raise InputError(f"rows of {group[0]['protocol']} differ in {option}: compare its values one by one")
    return groups


def percent(values: Sequence[float]) -> str:
    """Format the mean of shares in %, with the smallest and the largest share if they differ."""
    mean, low, high = (f"{100 * value:.2f}" for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def randoms(rows: Sequence[Row]) -> list[float]:
    """Return the mean accuracy over the random controls of each row."""
    return [float(np.mean(row["random"])) for row in rows]


def differences(rows: Sequence[Row], *keys: str) -> list[list[str]]:
    """Compare selected with random filters, over seeds, for each mu and each value of some columns.

    Args:
        rows: the rows of sweeps' tables.
        keys: the columns.

    Returns:
        the lines of a table, headings first.

    Raises:
        InputError: as `grouped`; or rows of a group have different numbers of draws.
    """
    lines, counted = [], all(row.get("shared") for row in rows)  # which rows of older jobs lack
    settings = grouped(rows, *keys).items()
    groups = [(values, mu, some) for values, some in settings for mu in sorted({row["mu"] for row in some})]
    for values, mu, some in groups:
        group = [row for row in some if row["mu"] == mu]
        if len({len(row["random"]) for row in group}) > 1:
            raise InputError(f"rows of {group[0]['protocol']} differ in protocol.draws: compare its values one by one")
        gap = difference(np.array([row["selected"] for row in group]), np.array([row["random"] for row in group]))
        interval = "one seed" if gap.low is None or gap.high is None else f"{100 * gap.low:.1f} to {100 * gap.high:.1f}"
        lines.append(
            [
                *(f"{value:g}" if isinstance(value, float) else str(value) for value in values),
                f"{mu:g}",
                f"{np.mean([row['ablated'] for row in group]):.0f} of {group[0]['filters']}",
                *([f"{np.mean([float(row['shared']) for row in group]):.0f}"] if counted else []),
                percent([row["intact"] for row in group]),
                percent([row["selected"] for row in group]),
                percent(randoms(group)),
                f"{round(100 * gap.mean, 1) + 0.0:+.1f} ({interval})",
                f"{gap.p:.3f}",
            ]
        )
    names = {"model.filters": "filters a layer", "model.dropout": "dropout"}
    heads = [*(names.get(key, key) for key in keys), "mu", "ablated", *(["shared with random"] if counted else [])]
    return [[*heads, "intact %", "selected %", "random %", "difference (95 %)", "p"], *lines]


# ---- the report


def against_report(rows: Sequence[Row]) -> list[tuple[str, list[list[str]]]]:
    """Set the report's numbers beside ours, by network and protocol.

    Returns:
        for each network and protocol, a title and the lines of a table, headings first.
    """
    tables, on_mnist = [], [dict(row) for row in rows if row["data"] == "mnist"]
    for row in on_mnist:
        if row["model"] == "matconvnet":
            row["protocol"] = re.sub(r", sites=[^,]*", "", row["protocol"])  # Figure 3 has a cell for each
    for group in grouped(on_mnist, *NETWORK, "randomize", "protocol").values():
        first = group[0]
        cells = {"keras_cnn": _figure_4, "matconvnet": _figure_3}.get(first["model"], lambda _: [])(group)
        if cells:
            sizes = {"filters": first.get("model.filters", ""), "dropout": first.get("model.dropout", "")}
            network = ", ".join([first["model"], *(f"{name} {size:g}" for name, size in sizes.items() if size != "")])
            epochs, precision = first.get("trainer.max_epochs", "?"), first.get("trainer.precision", "?")
            if str(first.get("randomize", "none")) not in ("none", ""):
                network += f", randomize={first['randomize']}"
            size = (first["model.filters"], first.get("model.depth", "5"))
            if first["model"] == "keras_cnn" and size != (128, "5"):
                network += " (not the report's size)"
            title = f"{network}, {epochs} epochs in {precision}; {first['protocol']}; {_seeds(group)}"
            tables.append((title, [["where", "cell", "report", "ours", "difference"], *cells]))
    return tables


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted({str(row["seed"]) for row in rows}, key=float)
    return f"seed {', '.join(seeds)}" if len(seeds) == 1 else f"seeds {', '.join(seeds)}"


def _cells(where: str, cells: Sequence[tuple[str, float, Sequence[float], float]]) -> list[list[str]]:
    """Return the lines of a table.

    Args:
        where: the place in the report.
        cells: for each line, its name, the report's number, ours over seeds, and the factor from ours to its unit.
    """
    lines = []
    for name, theirs, ours, factor in cells:
        mean = factor * float(np.mean(ours))
        spread = "" if min(ours) == max(ours) else f" ({factor * min(ours):.4g} to {factor * max(ours):.4g})"
        lines.append([where, name, f"{theirs:g}", f"{mean:.4g}{spread}", f"{mean - theirs:+.2f}"])
    return lines


def _figure_4(rows: Sequence[Row]) -> list[list[str]]:
    lines, dropout = [], rows[0].get("model.dropout", "")
    for mu, (selected, random, dropped) in FIGURE_4.items():
        at_mu = [row for row in rows if row["mu"] == mu]
        if at_mu and dropout == 0.5:
            cells = [
                ("selected filters ablated, %", selected, [row["selected"] for row in at_mu], 100.0),
                ("random filters ablated, %", random, randoms(at_mu), 100.0),
                ("filters dropped", dropped, [row["ablated"] for row in at_mu], 1.0),
            ]
            lines += _cells(f"Figure 4, mu = {mu}", cells)
    if dropout in TIPPED:
        accuracy, dropped = TIPPED[dropout]
        ours = [count_at(group, accuracy / 100) for group in grouped(rows, "seed").values()]
        reached = [count for count in ours if count is not None]
        some = "" if len(reached) in (0, len(ours)) else f", in {len(reached)} of {len(ours)} networks"
        name = f"filters dropped at {accuracy} %, interpolated{some}"
        if reached:
            lines += _cells("its text", [(name, dropped, reached, 1.0)])
        else:
            lines.append(["its text", name, str(dropped), "not reached at these mu", ""])
    return lines


def count_at(rows: Sequence[Row], accuracy: float) -> float | None:
    """Return how many selected filters have to be ablated until one network's accuracy falls to a value.

    The count is interpolated between values of mu, from the intact network on. It is None where accuracy stays higher.
    """
    points = [(0.0, rows[0]["intact"]), *sorted((row["ablated"], row["selected"]) for row in rows)]
    for (fewer, above), (more, below) in itertools.pairwise(points):
        if below <= accuracy < above:
            return float(fewer + (more - fewer) * (above - accuracy) / (above - below))
    return None


def _figure_3(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for mu, (dropped, sites) in FIGURE_3.items():
        for where, (selected, random) in sites.items():
            at_mu = [row for row in rows if row["mu"] == mu and row["sites"] == where]
            if at_mu:
                cells = [
                    *(
                        [("original model, %", 100.0, [row["intact"] for row in at_mu], 100.0)]
                        if where != "conv"
                        else []
                    ),
                    (f"{where}, %", selected, [row["selected"] for row in at_mu], 100.0),
                    (f"{where} (random), %", random, randoms(at_mu), 100.0),
                    *(
                        [("filters dropped", dropped, [row["ablated"] for row in at_mu], 1.0)]
                        if where != "conv"
                        else []
                    ),
                ]
                lines += _cells(f"Figure 3, mu = {mu}", cells)
    return lines
