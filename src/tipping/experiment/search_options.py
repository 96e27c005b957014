"""The options of searches: their types and ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from tipping.errors import require, require_mu, require_whole
from tipping.experiment.config import ABLATE


@dataclass
class SearchOptions:
    """Options of the search for the mu at which a network tips."""

    low: float
    high: float
    grid: int
    precision: float
    trials: int
    storage: str | None

    def __post_init__(self) -> None:
        require_mu("search.low", self.low)
        require(0 <= self.precision < 1, "search.precision", self.precision, "give a number in [0, 1)")
        require_mu("search.high", self.high)
        require(self.low < self.high, "search.high", self.high, f"give a mu over search.low={self.low:g}")
        require_whole("search.grid", self.grid, 2)
        remedy = f"give a whole number, search.grid={self.grid} or more"
        require(self.trials >= self.grid, "search.trials", self.trials, remedy)


@dataclass
class FewestFiltersOptions:
    """Options of the search for the fewest filters that tip a network, over several parameters."""

    over: dict[str, Any]
    sampler: str
    seeds: list[int]
    trials: int
    storage: str | None

    def __post_init__(self) -> None:
        self.over = {name: ends for name, ends in self.over.items() if ends is not None}
        for name, ends in self.over.items():
            numbers = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
            rising = numbers and -math.inf < ends[0] < ends[1] < math.inf and (name != "mu" or ends[0] > 0)
            require(rising, f"search.over.{name}", ends, "give its ends, such as [1,1000]")
        require("mu" in self.over, "search.over", ", ".join(self.over), "mu must be among them")
        require(self.sampler in ("tpe", "gp", "random"), "search.sampler", self.sampler, "give tpe, gp or random")
        require(len(set(self.seeds)) == len(self.seeds) > 0, "search.seeds", self.seeds, "give one at least, each once")
        require_whole("search.trials", self.trials, 1)


Options = TypeVar("Options", SearchOptions, FewestFiltersOptions)


def split_off(composed: DictConfig, kind: type[Options]) -> tuple[DictConfig, Options]:
    """Split a composed configuration into the options of jobs and the options of their search.

    Args:
        kind: the class of the search's options.

    Returns:
        the configuration without the options of the search, and the checked options of the search.

    Raises:
        InputError: an option of the search is out of its range, networks are to be randomised, or an earlier search
            is not to be resumed.
    """
    remedy = "networks are searched as they are; leave it out"
    require(composed.randomize == "none", "randomize", composed.randomize, remedy)
    remedy = "a search removes the filters of all classes at once; leave it out"
    require(composed.ablate == ABLATE[0], "ablate", composed.ablate, remedy)
    require(composed.resume is True, "resume", composed.resume, "a search goes on where it was; give another folder")
    typed = OmegaConf.create({"search": OmegaConf.structured(kind)})
    options = OmegaConf.to_object(OmegaConf.merge(typed, {"search": composed.search}).search)
    assert isinstance(options, kind)
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "search"]), options
