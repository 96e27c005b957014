"""The tipping points of all networks of sweeps and searches, as one table: a row for each network.

``python -m tipping.tipping_map SWEEP_DIR [SWEEP_DIR …]`` writes it anew, and prints it over seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipping import comparison
from tipping.atomic import replacing
from tipping.charts import flat
from tipping.config import InputError
from tipping.records import PREDICTIONS, RECORD, SCHEMA
from tipping.results import print_lines
from tipping.search import Bracketing
from tipping.tipping_point import TippingPoint, Trial, area, partings, tipping_point

log = logging.getLogger(__name__)
EVALUATIONS, SEARCH, TABLE = "evaluations", "search.json", "tipping_points.csv"
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
    directory: Path, bracketing: Bracketing, known: Mapping[float, float], level: float, saturation: float
) -> None:
    """Note what a search found of a network in its folder, and say it."""
    found = {
        "level": level,
        "evaluations": len(known),
        "finished": bracketing.finished(known),
        "crossings": [bracket._asdict() for bracket in bracketing.brackets(known)],
        "breakpoints": len(bracketing.breakpoints),
        "saturation_mu": saturation,
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
        "saturation_mu": search.get("saturation_mu", ""),
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
    """Write ``tipping_points.csv`` into the first folder, and print tipping points over seeds.

    Returns:
        the jobs without a readable record.
    """
    found, missing = networks(sweeps)
    rows = [row(network) for network in found]
    if rows:
        with replacing(sweeps[0] / TABLE) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        print("\nTipping points: where accuracy is midway between intact and chance; 95 % intervals\n")
        print_lines(over_seeds(found))
        print(f"\n{sweeps[0] / TABLE}")
    if missing:
        print(f"no readable {RECORD} of this version: {', '.join(missing)}", file=sys.stderr)
    return missing


def over_seeds(found: Sequence[Network]) -> list[list[str]]:
    """Networks that differ by their seed only, in one line each; headings first.

    Raises:
        InputError: two networks of one line have the same seed.
    """
    groups: dict[tuple[str, ...], list[Network]] = {}
    for network in found:
        groups.setdefault(tuple(str(network.options.get(option, "")) for option in SAME), []).append(network)
    varying = [i for i, option in enumerate(SAME) if i < 2 or len({key[i] for key in groups}) > 1]
    lines = [
        [*(SAME[i] for i in varying), "seeds", "intact %", "tips at mu", "filters removed", "random", "parts at mu"]
    ]
    for key, of in groups.items():
        seeds = [network.records[0]["seed"] for network in of]
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise InputError(f"{key[1]}, {key[-2]}: seed={twice[0]} is of two networks, trained apart: leave one out")
        trials, chance = [network.trial for network in of], of[0].chance
        by_mu, by_filters, random = (_point(trials, chance, axis, kind) for axis, kind in KINDS)
        parts = parts_at(trials)
        lines.append(
            [
                *(key[i] for i in varying),
                ", ".join(map(str, sorted(seeds))),
                comparison.percent([network.records[0]["accuracy"]["intact"] for network in of]),
                shown(by_mu, [float(np.log(trial.mu_P[p])) for trial in trials for p in (0, -1)], math.exp),
                shown(by_filters, [float(trial.removed_P[-1]) for trial in trials]),
                shown(random, [float(trial.removed_P[-1]) for trial in trials]),
                "nowhere" if parts is None else f"{parts:.3g}",
            ]
        )
    return lines


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
    try:
        return 1 if gather(*parser.parse_args(arguments).sweeps) else 0
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
