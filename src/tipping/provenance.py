"""How a sweep or search was made: its command, as Hydra has kept it, what was run on what, and what to try next."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from tipping import charts
from tipping.command import varying
from tipping.networks import Network
from tipping.records import RECORD

SEARCHES = ("tipping_point", "fewest_filters")  # scripts in sweeps/
HYDRA = ("multirun.yaml", ".hydra/hydra.yaml", "../.hydra/hydra.yaml")  # of a sweep, a job, and a search's folder
NOT_OF_A_SEARCH = ("mu", "randomize", "curve.every_n_epochs")


def hydra_of(folder: Path) -> DictConfig | None:
    """Hydra's own configuration of what was last run in a folder; None where there is none."""
    path = next((folder / name for name in HYDRA if (folder / name).is_file()), None)
    return OmegaConf.load(path).hydra if path else None


def unfinished(folder: Path) -> list[str]:
    """The jobs of a sweep that left no record, and how many were never begun; those of a search are its networks'."""
    hydra = hydra_of(folder)
    if hydra is None or hydra.job.name in SEARCHES or hydra.mode != "MULTIRUN":
        return []
    jobs = sorted((path.parent for path in folder.glob("*/.hydra")), key=lambda job: (len(job.name), job.name))
    lines = [f"job {job.name} failed or was stopped" for job in jobs if not (job / RECORD).is_file()]
    try:
        never = math.prod(map(len, varying(hydra.overrides.task).values())) - len(jobs)
    except HydraException:  # how many a glob stands for cannot be told here
        never = 0
    return [*lines, f"{never} of its jobs were never begun: it was stopped"] if never > 0 else lines


def command(folder: Path) -> str:
    """The command that was last run in a folder; none where that cannot be told."""
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    name, given = hydra.job.name, hydra.overrides
    script = f"sweeps/{name}.py" if name in SEARCHES else f"{name}.py"
    flag = ["-m"] if hydra.mode == "MULTIRUN" and name not in SEARCHES else []
    return shlex.join(["python", script, *flag, *given.task, *(o for o in given.hydra if "hydra.mode=" not in o)])


def next_command(folder: Path, found: Sequence[Network], best: dict[str, str]) -> str:
    """What to try after a sweep: a search where it looked at some mu; where it trained, some mu; where it searched, a
    comparison of options, or the pictures of the filters with which a network tips; none where nothing tips.

    Args:
        found: its networks.
        best: of a search over several options, those of its best trial.
    """
    hydra = hydra_of(folder)
    if hydra is None:
        return ""
    given = [option for option in hydra.overrides.task if option.split("=")[0] not in NOT_OF_A_SEARCH]
    compared = [name for name in varying(given) if name != "seed"]
    match hydra.job.name:
        case "train":
            return shlex.join(["python", "interpret.py", "-m", "mu=10,100,500,700", *given])
        case "interpret":
            return shlex.join(["python", "sweeps/tipping_point.py", *given])
        case "tipping_point" if compared:
            return shlex.join(["python", "-m", "tipping.tipping_map", str(folder), "--compare", compared[0]])
        case "tipping_point" if ends := _around(found):
            own = [option for option in given if not option.startswith("search.")]
            return shlex.join(["python", "interpret.py", "-m", f"mu={ends[0]:.4g},{ends[1]:.4g}", *own])
        case "fewest_filters" if best:
            own = [option for option in given if not option.startswith("search.")]
            options = [f"{name}={value}" for name, value in best.items() if name != "mu"]
            return shlex.join(["python", "sweeps/tipping_point.py", *own, *options, "seed=0,1,2"])
    return ""


def _around(found: Sequence[Network]) -> tuple[float, float] | None:
    """The values of mu between which searched networks tip."""
    crossings = [crossing for network in found for crossing in network.search.get("crossings", [])]
    return (min(one["low"] for one in crossings), max(one["high"] for one in crossings)) if crossings else None


def made(folder: Path, records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """How records of a folder were made, by headings."""
    networks = {record["store"]["weights"] for record in records}
    ended = max(path.stat().st_mtime for path in folder.rglob(RECORD))
    trained = sum(record["made"]["network"] for record in records)
    versions = [{key: value for key, value in record["versions"].items() if value} for record in records]
    commits = _distinct(one.pop("commit", "no git checkout") for one in versions)
    facts = {
        "command": command(folder),
        "jobs": f"{len(records)}, of {len(networks)} networks",
        "data": _distinct(record["data"] for record in records),
        "training": _distinct(_training(record["config"]["trainer"]) for record in records),
        "protocol": _distinct(_protocol(record["protocol"]) for record in records),
        "seeds": _distinct(str(seed) for seed in sorted({record["seed"] for record in records})),
        "last job ended": time.strftime("%Y-%m-%d %H:%M", time.localtime(ended)),
        "time": f"{_spent(records)} in all jobs; {trained} networks trained in them",
        "commit": commits,
        "versions": _distinct(", ".join(f"{key} {value}" for key, value in one.items()) for one in versions),
        "machine": _distinct(record["device"] for record in records),
    }
    return {key: value for key, value in facts.items() if value}


def _training(trainer: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in charts.flat(trainer).items())


def _protocol(protocol: dict[str, Any]) -> str:
    of = f"{protocol['draws']} random controls, control {protocol['control']}"
    return f"{protocol['name']} ({of}, evaluated on the {protocol['evaluated_on']} images)"


def _spent(records: Sequence[dict[str, Any]]) -> str:
    seconds = sum(sum(record["seconds"].values()) for record in records)
    return f"{seconds:.1f} seconds" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))
