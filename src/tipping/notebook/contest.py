"""The contest of selectors on any network, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from tipping.ablation import chance_of
from tipping.arena import RANDOM, Arena
from tipping.errors import InputError, require, require_mu, require_whole
from tipping.experiment.arena import entry_of
from tipping.experiment.record_parts import Entry
from tipping.network import Filters
from tipping.notebook.loader import Batches, gathered
from tipping.notebook.results import require_kind
from tipping.notebook.showing import Row, Tabular, table_html
from tipping.results.arena import measures_of
from tipping.selectors import DEFAULT_BUDGET, SELECTORS, Budget, Evidence, Scores, require_selector

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True)
class ComparedSelectors(Tabular):
    """The results of selectors on one network, beside random orders.

    Attributes:
        entries: a result for each selector and kind of order: `own`, or `matched` with as many filters of each layer as
            the mu-lasso's.
        scores: the scores of filters by each selector.
        relevant: the number K of filters that are relevant by the mu-lasso.
        refused: why a selector could not take part, by its name.
    """

    entries: list[Entry]
    scores: dict[str, Scores]
    relevant: int
    refused: dict[str, str]

    def rows(self) -> list[Row]:
        """List the results, those in the selectors' own orders first, and of each kind of order the best first.

        The measures are those of `tipping.results.arena`: the accuracy `without` the K first filters, the `area` under
        accuracy as filters are removed, and others.
        """
        rows = [measures_of(entry, self.relevant) for entry in self.entries]
        return sorted(rows, key=lambda row: (row["orders"] != "own", row["area"]))

    def plot(self) -> alt.VConcatChart:
        """Draw the mean accuracy as filters are removed, a line for each selector, as an altair chart."""
        from tipping.results.arena_chart import arena_chart

        return arena_chart([{"weights": "", "model": "network", **row} for row in self.rows()], [])

    def __repr__(self) -> str:
        best = self.rows()[0]
        return (
            f"{len(self.scores)} selectors; removing filters costs most by {best['selector']}: "
            f"{100 * best['without']:.1f} % without its {self.relevant} first filters"
        )

    def _repr_html_(self) -> str:
        left_out = [{"left out": name, "why": why} for name, why in self.refused.items()]
        return f"<p>{self!r}</p>{table_html(self.rows())}{table_html(left_out)}"


def compare_selectors(
    network: Filters | nn.Module,
    batches: Batches,
    test_batches: Batches,
    selectors: Sequence[str] | str | None = None,
    mu: float = 10,
    *,
    draws: int = 5,
    seed: int = 0,
    budget: Budget = DEFAULT_BUDGET,
) -> ComparedSelectors:
    """Let selectors score the filters of a network, and measure accuracy without those that each scores highest.

    Args:
        network: the filters of a network, or a model, whose filters are found by watching the first image.
        batches: the training images with labels, as in `relevant_filters`, by which selectors score; put together in
            memory.
        test_batches: the images on which accuracy is measured, as in `drop_curve`.
        selectors: the names of selectors, or one; by default all that do not ablate filters one by one.
        mu: the L1 radius of the mu-lasso, whose number of filters in each layer is matched.
        draws: the number of random orders.
        seed: the seed of whatever is drawn.
        budget: what selectors may spend that ablate filters.

    Raises:
        InputError: the network has no filters, or does not give logits; the batches hold something else; there is no
            such selector; mu or draws are out of range, or no filter is relevant at mu.
    """
    require_kind(network, (Filters, nn.Module), "a torch network, or tipping.Filters")
    cheap = [name for name, one in SELECTORS.items() if one.cost != "ablations"]
    names = cheap if selectors is None else [selectors] if isinstance(selectors, str) else selectors
    for name in names:
        require_selector(name, "selectors")
    require(len(set(names)) == len(names), "selectors", selectors, "give each once")
    require_mu("mu", mu)
    require_kind(budget, Budget, "a tipping.selectors.Budget")
    numbers = {f"budget.{name}": count for name, count in budget._asdict().items()}
    for name, number in {"draws": draws, **numbers}.items():
        require_whole(name, number, at_least=1)
    require_whole("seed", seed, at_least=0)
    model = network.given if isinstance(network, Filters) else network
    images = gathered(batches, model, np.iinfo(np.int64).max)  # the number of classes is not known yet
    filters = network if isinstance(network, Filters) else Filters.of(model, images[:1].images_NCHW)
    images, tested = (gathered(one, model, filters.classes) for one in (images, test_batches))
    arena, chance = Arena(Evidence(filters, images, mu, seed, budget=budget), tested, draws), chance_of(tested)
    result = ComparedSelectors([], {}, len(arena.reference.order_K), {})
    labels_N = tested.labels_N.cpu().numpy()
    for name in [*RANDOM, *names]:
        try:
            played = arena.play(name)
        except InputError as error:
            result.refused[name] = str(error)
            continue
        if played.scores:
            result.scores[name] = played.scores
        result.entries.extend(entry_of(name, kind, played, labels_N, chance) for kind in played.lines)
    return result
