"""What a folder of rows holds, on one page: gpu.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpu.work import Rows
from tipping.files import replacing

PAGE, CALLS = "gpu.md", "machine.json"


def read_calls(out: Path) -> dict[str, Any]:
    """What a folder notes of the machine and of the calls before; nothing for a new one."""
    path = out / CALLS
    return dict(json.loads(path.read_text())) if path.is_file() else {"calls": []}


def write(out: Path, noted: Mapping[str, Any]) -> None:
    """Write the notes, and the page anew from all rows."""
    with replacing(out / CALLS) as part:
        part.write_text(json.dumps(noted, indent=1) + "\n")
    with replacing(out / PAGE) as part:
        part.write_text("\n".join(page(out, noted)) + "\n")


def page(out: Path, noted: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the page."""
    yield f"# {noted['device']}"
    yield ""
    yield ", ".join(f"{name} {value}" for name, value in noted["versions"].items())
    if false := wrong(out):
        yield from ("", f"**Not right: {'; '.join(false)}**")
    tables = {
        "Is it right?": (right, "right.csv"),
        "The answer": (answer, "answer.csv"),
        "Figure 4's stages": (stages, "stages.csv"),
        "Selection": (selection, "selection.csv"),
        "Tipping points by width": (widths, "widths.csv"),
    }
    yield from section("Calls", calls(noted["calls"]))
    for title, (lines, file) in tables.items():
        rows = Rows(out / file).rows
        yield from section(title, lines(rows) if rows else [["no rows yet"]])


def wrong(out: Path) -> list[str]:
    """What differs from the CPU by more than is allowed, by the code that compared it last."""
    rows = Rows(out / "right.csv").rows
    return [
        f"{row['protocol']} {row['what']}".strip()
        for row in rows
        if row["right"] == "False" and row["code"] == rows[-1]["code"]
    ]


def section(title: str, lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """A heading and a table, whose first line its own headings are."""
    yield from ("", f"## {title}", "")
    for number, line in enumerate(lines):
        yield f"| {' | '.join(line)} |"
        if number == 0:
            yield f"|{' --- |' * len(line)}"


def calls(noted: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each stage of each call: when it began, its seconds, and how it ended."""
    heads = ["call", "minutes", "stage", "seconds", "ended"]
    stages = [(call["began"], f"{call['minutes']:g}", stage) for call in noted for stage in call["stages"]]
    return [heads, *([*call, one["stage"], f"{one['seconds']:.0f}", one["ended"]] for *call, one in stages)]


def right(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """What differs from the CPU."""
    columns = ("protocol", "what", "compared", "different", "largest", "allowed", "right", "note", "device", "code")
    return [list(columns), *([_short(row.get(column, "")) for column in columns] for row in rows)]


def answer(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Accuracies over networks, in %: the mean, and the range."""
    lines = [["protocol", "control", "dropout", "mu", "networks", "ablated", "intact %", "selected %", "random %"]]
    for keys, group in _grouped(rows, "protocol", "control", "model.dropout", "mu").items():
        random = [float(np.mean([float(draw) for draw in row["random"].split()])) for row in group]
        shares = [_percent([float(row[column]) for row in group]) for column in ("intact", "selected")]
        ablated = f"{np.mean([int(row['ablated']) for row in group]):.0f} of {group[0]['filters']}"
        lines.append([*map(_short, keys), str(len(group)), ablated, *shares, _percent(random)])
    return lines


def stages(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Seconds, operations, and the share of a large product's speed in the same precision."""
    peaks = {
        (row["device"], row["precision"]): float(row["per_second"])
        for row in rows
        if row["stage"] == "product of matrices"
    }
    lines = [
        ["stage", "precision", "seconds", "10¹² operations", "10¹² a second", "of a product's", "busy", "note", "on"]
    ]
    for row in rows:
        peak, rate = peaks.get((row["device"], row["precision"])), row.get("per_second")
        share = f"{100 * float(rate) / peak:.0f} %" if rate and peak else ""
        terms = [f"{float(row[key]) / 1e12:.3g}" if row.get(key) else "" for key in ("operations", "per_second")]
        busy = f"{100 * float(row['busy']):.0f} %" if row.get("busy") else ""
        cells = [
            row["stage"],
            row["precision"],
            _short(row.get("seconds", "")),
            *terms,
            share,
            busy,
            row.get("note", ""),
        ]
        lines.append([*cells, row["device"]])
    return lines


def selection(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Seconds, memory and gap of each problem."""
    columns = ["filters", "classes", "mu", "on", "seconds", "megabytes", "relative_gap", "certified", "relevant"]
    columns += ["device", "code"]
    return [columns, *([_short(row[column]) for column in columns] for row in rows)]


def widths(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Where networks tip: each network's number of filters, relevant and random."""
    lines = [
        ["filters a layer", "dropout", "networks", "intact %", "mu", "share relevant %", "share random %", "ratio"]
    ]
    for keys, group in _grouped(rows, "model.filters", "model.dropout").items():
        lines.append([*keys, str(len(group)), _percent([float(row["intact"]) for row in group]), *_tipping(group)])
    return lines


def _tipping(group: Sequence[Mapping[str, str]]) -> list[str]:
    """Of the networks whose curves cross: mu, shares of the filters, and random filters for each relevant one."""
    whole = [row for row in group if _finite(row["tipping_filters"]) and _finite(row["tipping_random_filters"])]
    if not whole:
        return ["none tips", "", "", ""]
    selected, random = (
        np.array([float(row[f"tipping_{kind}"]) for row in whole]) for kind in ("filters", "random_filters")
    )
    filters = np.array([float(row["filters"]) for row in whole])
    mu = " / ".join(_short(row["crosses_at"]) for row in whole)
    ratio = " / ".join(f"{value:.2f}" for value in random / selected)
    return [mu, _percent((selected / filters).tolist()), _percent((random / filters).tolist()), ratio]


def _finite(text: str) -> bool:
    return bool(text) and bool(np.isfinite(float(text)))


def _grouped(rows: Sequence[Mapping[str, str]], *keys: str) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _percent(values: Sequence[float]) -> str:
    mean, low, high = (100 * float(value) for value in (np.mean(values), min(values), max(values)))
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _short(text: str) -> str:
    """A number with three digits; other text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number.is_integer() else f"{number:.3g}"
