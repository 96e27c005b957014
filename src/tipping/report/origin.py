"""How a sweep or search was made: its command, as Hydra has kept it, what was run on what, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tipping.experiment import invocation
from tipping.experiment.options import flat
from tipping.experiment.record import Record
from tipping.results.folder import SEARCHES, hydra_of
from tipping.results.sweep import Network

NOT_OF_A_SEARCH = ("mu=", "randomize=", "curve.every_n_epochs=")


def command(folder: Path) -> str:
    """Return the command last run in a folder, for a job the one that runs it alone; none where that cannot be told."""
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    name, given = hydra.job.name, hydra.overrides
    several = (folder / "multirun.yaml").is_file() and name not in SEARCHES
    flags = [*_own_presets(hydra), *(["-m"] if several else [])]
    options = [*given.task, *(option for option in given.hydra if "hydra.mode=" not in option)]
    return shlex.join([*invocation.words_of_job(name), *flags, *options])


def _own_presets(hydra: DictConfig) -> list[str]:
    """Return the flag that names the user's own presets, where there were some."""
    sources = OmegaConf.select(hydra, "runtime.config_sources") or []
    own = [source.path for source in sources if source.provider == "command-line"]
    return ["--config-dir", own[0]] if own else []


def next_command(folder: Path, found: Sequence[Network], best: dict[str, str]) -> str:
    """Return what to try after a sweep: a search where it looked at some mu; where it trained, some mu; where it
    searched, a comparison of options, or the pictures of the filters with which a network tips; none where nothing
    tips.

    Args:
        found: its networks.
        best: of a search over several options, those of its best trial.
    """
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    given = [one for one in hydra.overrides.task if not one.startswith((*NOT_OF_A_SEARCH, "search."))]
    presets = _own_presets(hydra)
    interpret, search = ([*invocation.words(name), *presets] for name in ("interpret", "search"))
    match hydra.job.name:
        case "train":
            return shlex.join([*interpret, "-m", "mu=10,100,500,700", *given])
        case "interpret":
            return shlex.join([*search, *given])
        case "tipping_point" if option := _compared(found):
            return shlex.join([*invocation.words("map"), str(folder), "--compare", option])
        case "tipping_point" if ends := _around(found):
            return shlex.join([*interpret, "-m", f"mu={ends[0]!r},{ends[1]!r}", *given])
        case "fewest_filters" if best:
            own = [option for option in given if not option.startswith("seed=")]
            options = [f"{name}={value}" for name, value in best.items() if name != "mu"]
            return shlex.join([*search, *own, *options, "seed=0,1,2"])
    return ""


def _compared(found: Sequence[Network]) -> str | None:
    """Return an option in which networks of several seeds differ."""
    seeds, options = {network.seed for network in found}, [network.options for network in found]
    keys = dict.fromkeys(key for one in options for key in one)
    differ = [key for key in keys if len({one.get(key, "") for one in options}) > 1]
    return differ[0] if differ and len(seeds) > 1 else None


def _around(found: Sequence[Network]) -> tuple[float, float] | None:
    """Return the values of mu between which searched networks tip."""
    crossings = [crossing for network in found for crossing in network.search.get("crossings", [])]
    return (min(one["low"] for one in crossings), max(one["high"] for one in crossings)) if crossings else None


def made(folder: Path, records: Sequence[Record]) -> dict[str, str]:
    """Return how records of a folder were made, by headings."""
    networks = {record.store["weights"] for record in records}
    trained = sum(record.made["network"] for record in records)
    versions = [{key: value for key, value in record.versions.items() if value} for record in records]
    commits = _distinct(one.pop("commit", "no git checkout") for one in versions)
    facts = {
        "command": command(folder),
        "jobs": f"{len(records)}, of {len(networks)} networks",
        "data": _distinct(record.data for record in records),
        "training": _distinct(_training(record.config["trainer"]) for record in records),
        "protocol": _distinct(_protocol(record.protocol) for record in records),
        "seeds": _distinct(str(seed) for seed in sorted({record.seed for record in records})),
        "last job ended": max(record.ended for record in records),
        "time": f"{_spent(records)} in all jobs; {trained} networks trained in them",
        "commit": commits,
        "versions": _distinct(", ".join(f"{key} {value}" for key, value in one.items()) for one in versions),
        "machine": _distinct(record.device for record in records),
    }
    return {key: value for key, value in facts.items() if value}


def _training(trainer: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in flat(trainer).items())


def _protocol(protocol: dict[str, Any]) -> str:
    of = f"{protocol['draws']} random controls, control {protocol['control']}"
    return f"{protocol['name']} ({of}, evaluated on the {protocol['evaluated_on']} images)"


def _spent(records: Sequence[Record]) -> str:
    seconds = sum(sum(record.seconds.values()) for record in records)
    return f"{seconds:.1f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))
