"""Hydra's composing in less time: what is in `conf/`, which tests do not change, is read and merged once in a process,
and the presets are found once that a command line's choices of presets lead to.

Where a test has files of its own beside it, Hydra does all of it anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource

load, merge = ConfigRepository.load_config, ConfigLoaderImpl._compose_config_from_defaults_list
find = config_loader_impl.create_defaults_list


@contextmanager
def remembered(folder: Path) -> Iterator[None]:
    """Within it, Hydra reads a file once, and merges the same files once, where this folder is the only one."""
    known: dict[tuple[str, str], Any] = {}

    def once(
        sources: list[ConfigSource], key: tuple[str, str], make: Callable[[], Any], copied: Any = copy.deepcopy
    ) -> Any:
        folders = [Path(source.path) for source in sources if source.scheme() == "file"]
        packages = [source.path for source in sources if source.scheme() == "pkg"]
        if (folders, packages) != ([folder], ["hydra.conf"]):
            return make()
        if key not in known:
            known[key] = make()
        return copied(known[key])

    def load_once(self: ConfigRepository, config_path: str) -> Any:
        return once(self.sources, ("read", config_path), lambda: load(self, config_path))

    def merge_once(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        return once(repo.get_sources(), ("merged", repr(defaults)), lambda: merge(self, defaults=defaults, repo=repo))

    def find_once(repo: Any, config_name: str, overrides_list: list[Override], **how: bool) -> DefaultsList:
        """Only those overrides decide it that choose a preset."""
        given = [one for one in overrides_list if not one.is_sweep_override()]
        groups = [one for one in given if repo.group_exists(one.key_or_group) and not isinstance(one.value(), dict)]
        key = ("found", repr((config_name, [one.input_line for one in groups], how)))
        found = once(repo.get_sources(), key, lambda: find(repo, config_name, groups, **how), copied=copy.copy)
        return replace(found, config_overrides=[one for one in given if one not in groups])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_loader_impl, "create_defaults_list", find_once)
        patch.setattr(ConfigRepository, "load_config", load_once)
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)
        yield
