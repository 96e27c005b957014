"""The overrides of a command line: those with several values, and those of each job."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

NO_YAML = (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError)


def swept(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each option that has several values on a command line.

    Raises:
        HydraException: an override cannot be read, or is a glob over presets and Hydra is not initialised.
    """
    return {option.get_key_element(): _values(option) for option in _parsed(overrides) if option.is_discrete_sweep()}


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
