"""The origin of a sweep or search: its command, which Hydra has kept, its settings, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tipping.experiment import invocation
from tipping.experiment.options import flat
from tipping.experiment.record import Record
from tipping.results.folder import ARENA, SEARCHES, Command, hydra_of
from tipping.results.sweep import Network

NOT_OF_A_SEARCH = ("mu=", "randomize=", "ablate=", "by_class.", "curve.every_n_epochs=", "replace=")


def last_command(folder: Path) -> str:
    """Return the command last run in a folder; for a job's folder, the command of that job; empty where unknown."""
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    several = (folder / "multirun.yaml").is_file() and hydra.name not in (*SEARCHES, ARENA)
    flags = [*_presets_flag(hydra), *(["-m"] if several else [])]
    options = [*hydra.task, *(option for option in hydra.hydra if "hydra.mode=" not in option)]
    return shlex.join([*invocation.words_of_job(hydra.name), *flags, *options])


def _presets_flag(hydra: Command) -> list[str]:
    """Return the flag that names the folder of the user's presets, if there was one."""
    return ["--config-dir", hydra.presets] if hydra.presets else []


def next_command(folder: Path, networks: Sequence[Network], best: dict[str, str]) -> str:
    """Return the command to try after a sweep; empty where there is nothing to try.

    After a training, `interpret` at some mu. After a sweep over mu, a search. After a search, a comparison of options,
    or the pictures at the mu where networks tip. After a search over several options, a search with the best ones.

    Args:
        folder: the folder of the sweep.
        networks: its networks.
        best: the options of the best trial of a search over several options.
    """
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    given = [one for one in hydra.task if not one.startswith((*NOT_OF_A_SEARCH, "search."))]
    presets = _presets_flag(hydra)
    interpret, search = ([*invocation.words(name), *presets] for name in ("interpret", "search"))
    match hydra.name:
        case "train":
            return shlex.join([*interpret, "-m", "mu=10,100,500,700", *given])
        case "interpret":
            return shlex.join([*search, *given])
        case "tipping_point" if option := _compared(networks):
            return shlex.join([*invocation.words("map"), str(folder), "--compare", option])
        case "tipping_point" if ends := _around(networks):
            return shlex.join([*interpret, "-m", f"mu={ends[0]!r},{ends[1]!r}", *given])
        case "fewest_filters" if best:
            kept = [option for option in given if not option.startswith("seed=")]
            options = [f"{name}={value}" for name, value in best.items() if name != "mu"]
            return shlex.join([*search, *kept, *options, "seed=0,1,2"])
    return ""


def _compared(networks: Sequence[Network]) -> str | None:
    """Return the first option in which networks differ; None where there is none, or only one seed."""
    seeds, options = {network.seed for network in networks}, [network.options for network in networks]
    keys = dict.fromkeys(key for one in options for key in one)
    differ = [key for key in keys if len({one.get(key, "") for one in options}) > 1]
    return differ[0] if differ and len(seeds) > 1 else None


def _around(networks: Sequence[Network]) -> tuple[float, float] | None:
    """Return the smallest and the largest mu of the brackets in which searched networks tip; None without a bracket."""
    crossings = [crossing for network in networks for crossing in network.search.get("crossings", [])]
    return (min(one["low"] for one in crossings), max(one["high"] for one in crossings)) if crossings else None


def provenance(folder: Path, records: Sequence[Record]) -> dict[str, str]:
    """Describe how the records of a folder were made: text by headings."""
    networks = {record.store["weights"] for record in records}
    trained = sum(record.made["network"] for record in records)
    versions = [{key: value for key, value in record.versions.items() if value} for record in records]
    commits = _distinct(one.pop("commit", "no git checkout") for one in versions)
    facts = {
        "command": last_command(folder),
        "jobs": f"{len(records)}, of {len(networks)} networks",
        "data": _distinct(record.data for record in records),
        "training": _distinct(_training(record.config["trainer"]) for record in records),
        "protocol": _distinct(_protocol(record.protocol) for record in records),
        "seeds": _distinct(str(seed) for seed in sorted({record.seed for record in records})),
        "last job ended": max((record.ended for record in records), default=""),
        "time": f"{_spent(records)} in all jobs; {trained} networks trained in them",
        "commit": commits,
        "versions": _distinct(", ".join(f"{key} {value}" for key, value in one.items()) for one in versions),
        "machine": _distinct(record.device for record in records),
    }
    return {key: value for key, value in facts.items() if value}


def _training(trainer: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in flat(trainer).items())


def _protocol(protocol: dict[str, Any]) -> str:
    controls = f"{protocol['draws']} random controls, control {protocol['control']}"
    return f"{protocol['name']} ({controls}, evaluated on the {protocol['evaluated_on']} images)"


def _spent(records: Sequence[Record]) -> str:
    seconds = sum(sum(record.seconds.values()) for record in records)
    return f"{seconds:.1f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))
