"""The options of the arena: which selectors meet, on which images, and what those may spend that ablate filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tipping.errors import require, require_whole

ALL, CHEAP = "all", "cheap"


@dataclass
class ArenaOptions:
    """Options of the arena.

    Attributes:
        selectors: `all`, `cheap` (those without ablations), or a list of names.
        images: the images on which accuracy is measured, evenly spread; 0 takes all.
        within_layers: whether scores are divided by the L2 norm of the scores in their layer.
        ablation_images: the training images on which greedy selection and Shapley values measure ablations.
        single_images: the training images on which each filter is ablated alone, or is attributed to.
        permutations: the orders in which filters are removed, for Shapley values.
        removals: the filters that greedy selection removes one by one.
    """

    selectors: Any
    images: int
    within_layers: bool
    ablation_images: int
    single_images: int
    permutations: int
    removals: int

    def __post_init__(self) -> None:
        names = self.selectors if isinstance(self.selectors, list) else [self.selectors]
        texts = bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        require(texts, "arena.selectors", self.selectors, "give all, cheap, or names, such as [mu_lasso,l1]")
        require_whole("arena.images", self.images, 0)
        for option in ("ablation_images", "single_images", "permutations", "removals"):
            require_whole(f"arena.{option}", getattr(self, option), 1)
        require(self.permutations > 1, "arena.permutations", self.permutations, "give 2 or more, for their spread")
