"""Values of options: each is accepted as it was given, or one line names it."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
from hostility import HOSTILE, SMALL, at, cases, changed, mistake, numbers, paths
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from running import ROOT

from tipping.experiment import config


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration of a job, as Hydra composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", SMALL)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(HOSTILE),
    st.text(max_size=5),
    st.binary(max_size=3),
)
trees = st.recursive(leaves, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=3), of, max_size=3))
numbers_of_range = st.sampled_from(
    [1, 2, 7, 0.5, 1e-3, 1e6, True, False, "1", "0.5", "test", "mean", "cpu", "all", None]
)


@cases(36)
@given(pick=st.integers(0, 10**6), value=trees | numbers_of_range | st.just(...))
def test_configuration_values(composed: DictConfig, pick: int, value: object) -> None:
    """What is accepted is what was given, in the type of the option, and finite."""
    plain = OmegaConf.to_container(composed)
    where = paths(plain)
    path = where[pick % len(where)]
    named = ".".join(key for key in path if isinstance(key, str))
    if said := mistake(lambda: config.parse(OmegaConf.create(changed(plain, path, value)))):
        assert named in said or (isinstance(value, dict) and path[0] in said), "the culprit is named"
        return
    parsed = asdict(config.parse(OmegaConf.create(changed(plain, path, value))))
    assert all(math.isfinite(number) for number in numbers({**parsed, "model": 0}))
    if value is not ... and path[0] != "model" and not isinstance(kept := at(parsed, path), bool | dict):
        assert kept == value or (isinstance(kept, str) and kept.lower() == str(value).lower()) or kept == float(value)


@pytest.mark.parametrize(("path", "value"), [(("visualize", "rules"), {}), (("protocol",), []), (("model",), [])])
def test_the_culprit_is_named(composed: DictConfig, path: tuple[str, ...], value: object) -> None:
    spoiled = changed(OmegaConf.to_container(composed), path, value)
    assert str(mistake(lambda: config.parse(OmegaConf.create(spoiled)))).startswith(f"{'.'.join(path)}={value}: give ")
