"""The overrides of a command line: those with several values, and those of each job."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tipping.experiment.config import presets

LONGEST = 200_000  # characters of a command line of somebody's that is parsed
UNKNOWN = "unknown"
NO_YAML = (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError)


class Given(NamedTuple):
    """What a command line gave to a job.

    Attributes:
        overrides: the overrides of the job.
        presets: a digest of the user's own presets; None without any.
    """

    overrides: list[str]
    presets: str | None

    @property
    def decides(self) -> bool:
        """Whether equal values decide equal options: not where the environment, or other options, may change them."""
        return self.presets != UNKNOWN and not any("${" in override for override in self.overrides)


def given_to_job(hydra: Any) -> Given:
    """Return what the command line gave to a job, by the configuration of Hydra."""
    return Given([str(one) for one in hydra.overrides.task], own_presets(hydra))


def own_presets(hydra: Any) -> str | None:
    """Return a digest of the presets that are not the package's; `UNKNOWN` if they depend on the environment."""
    folders = [Path(one.path) for one in hydra.runtime.config_sources if one.schema == "file" and one.path]
    paths = sorted(path for one in folders if one.resolve() != presets().resolve() for path in one.rglob("*.yaml"))
    content = [(str(path), path.read_bytes()) for path in paths if path.is_file()]
    if any(b"${oc." in text for _, text in content):
        return UNKNOWN
    if hydra.job.config_name != "config":  # it is then not the package's that is read first
        content.append((str(hydra.job.config_name), b""))
    return hashlib.sha256(repr(content).encode()).hexdigest() if content else None


def swept(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each option that has several values on a command line.

    Raises:
        HydraException: an override cannot be read, or is a glob over presets and Hydra is not initialised.
    """
    return {option.get_key_element(): _values(option) for option in _parsed(overrides) if option.is_discrete_sweep()}


def count_jobs(overrides: Sequence[str]) -> int | None:
    """Return how many jobs a command line of somebody's has, without listing them; None where that is unknown.

    A range may have any number of values, and a glob has those of presets that are not here.
    """
    if sum(map(len, overrides)) > LONGEST:
        return None
    try:
        return math.prod(_count(option) for option in _parsed(overrides) if option.is_discrete_sweep())
    except (HydraException, RecursionError, ValueError, OverflowError):
        return None


def _count(option: Override) -> int:
    """Return how many values an option has."""
    match option.value():
        case RangeSweep(start=start, stop=stop, step=step) if start is not None and stop is not None and step:
            return max(0, math.ceil((stop - start) / step))
        case ChoiceSweep(list=values):
            return len(values)
    raise ValueError("of any number of values")


def overrides_of_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a command line, in the order of their numbers."""
    values = {
        option.get_key_element(): _values(option) if option.is_discrete_sweep() else [option.get_value_element_as_str()]
        for option in _parsed(overrides)
    }
    return [
        [f"{key}={value}" for key, value in zip(values, job, strict=True)]
        for job in itertools.product(*values.values())
    ]


def _values(option: Override) -> list[str]:
    return [str(value) for value in option.sweep_string_iterator()]


def _parsed(overrides: Sequence[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    return OverridesParser.create(loader).parse_overrides(list(overrides))
