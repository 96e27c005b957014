"""Sanity checks of the selection itself [adebayo2018]: does it depend on what the network has learned?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tipping import config, models
from tipping.data import CLASSES, Dataset
from tipping.errors import InputError
from tipping.layers import evaluating
from tipping.selection import Selection
from tipping.store import Store
from tipping.subject import Subject

PERMUTATIONS = 1000


def is_check(options: config.Config) -> bool:
    """Whether the job is a sanity check: layers initialised anew, or labels permuted."""
    return options.randomize != "none" or options.protocol.labels == "permuted"


def unchecked(options: config.Config) -> config.Config:
    """The same job without its sanity check."""
    labels = options.protocol.labels
    protocol = replace(options.protocol, labels="true" if labels == "permuted" else labels)
    return replace(options, randomize="none", protocol=protocol)


def as_trained(
    model: nn.Module, dataset: Dataset, options: config.Config, store: Store
) -> tuple[Subject, Selection] | None:
    """What a sanity check is compared with: the network as it was trained, of which this keeps a copy, and its
    selection; None if the job is no such check."""
    if not is_check(options):
        return None
    options = unchecked(options)
    subject = Subject.of(copy.deepcopy(model), dataset, options)
    problem, _ = subject.responses(store)
    return subject, subject.select(problem)


def layers_to_randomize(model: nn.Module, wanted: str, image_1CHW: Tensor) -> list[str]:
    """Which of a network's layers with weights are to be initialised anew.

    `none`; `all`; ``from:LAYER``, that layer and all that an image passes after it, the cascade from the output;
    ``only:LAYER``.

    Raises:
        InputError: no such layer.
    """
    if wanted == "none":
        return []
    layers: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: layers.append(name))
        for name, module in model.named_modules()
        if _tensors(module)
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(image_1CHW.clone())
    finally:
        for handle in handles:
            handle.remove()
    layers = list(dict.fromkeys(layers))
    kind, _, layer = wanted.partition(":")
    if (kind, layer) != ("all", "") and (kind not in ("from", "only") or layer not in layers):
        known = ", ".join(layers)
        raise InputError(f"randomize={wanted}: give none, all, from:LAYER or only:LAYER, a layer of {known}")
    first = layers.index(layer) if layer else 0
    return layers[first : first + 1] if kind == "only" else layers[first:]


def randomize(
    model: nn.Module, layers: Sequence[str], image_shape: tuple[int, int, int], options: config.Config
) -> None:
    """Initialise some layers of a network anew, in place, as its class does for another seed.

    Raises:
        InputError: that leaves them as they are, as where the class sets trained weights.
    """
    if not layers:
        return
    other_seed = int(np.random.SeedSequence((options.seed, 1)).generate_state(1)[0])
    anew = models.build(options.model, image_shape, CLASSES, other_seed)
    changed = False
    with torch.no_grad():
        for layer in layers:
            theirs = _tensors(anew.get_submodule(layer))
            for name, tensor in _tensors(model.get_submodule(layer)).items():
                changed = changed or not torch.equal(tensor, theirs[name].to(tensor))
                tensor.copy_(theirs[name])
    if not changed:
        raise InputError(f"randomize={options.randomize}: {type(model).__name__} has the same weights for every seed")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights and buffers, without those of its submodules but for its own weights' parametrizations."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in tensors.items() if "." not in name or name.startswith("parametrizations.")}


@dataclass(frozen=True)
class Overlap:
    """How alike two selections of one architecture are, beside what chance gives.

    Attributes:
        jaccard: filters relevant in both, as a share of those relevant in either; None without any.
        rank_correlation: Spearman's, of the relevance of all filters; None where one is the same for all.
        jaccard_by_chance, rank_correlation_by_chance: the range of 95 % of selections like the second one whose
            relevances are shuffled among the live filters of each layer.
    """

    jaccard: float | None
    jaccard_by_chance: tuple[float, float] | None
    rank_correlation: float | None
    rank_correlation_by_chance: tuple[float, float] | None


def overlap_with(
    trained: tuple[Subject, Selection] | None, selection: Selection, layer_F: np.ndarray, seed: int
) -> dict[str, Any] | None:
    """The record of a sanity check's overlap with the trained network's selection; None if it is no check."""
    if trained is None:
        return None
    return asdict(overlap(trained[1], selection, layer_F, np.random.default_rng((seed, 2))))


def overlap(first: Selection, second: Selection, layer_F: np.ndarray, rng: np.random.Generator) -> Overlap:
    """The overlap of two selections."""
    from scipy.stats import rankdata  # here, as only a sanity check needs it

    relevant_F = first.relevant_F
    ranks_F = rankdata(first.strength_F)
    order_F = np.arange(len(layer_F))
    groups = [np.flatnonzero(second.live_F & (layer_F == layer)) for layer in np.unique(layer_F)]
    shuffled_SF = np.tile(order_F, (PERMUTATIONS + 1, 1))
    for group in groups:
        shuffled_SF[1:, group] = rng.permuted(np.tile(group, (PERMUTATIONS, 1)), axis=1)
    jaccards_S = _jaccard(relevant_F, second.relevant_F[shuffled_SF])
    correlations_S = _correlation(ranks_F, rankdata(second.strength_F)[shuffled_SF])
    jaccard, jaccard_by_chance = _first_and_range(jaccards_S)
    correlation, correlation_by_chance = _first_and_range(correlations_S)
    return Overlap(jaccard, jaccard_by_chance, correlation, correlation_by_chance)


def _jaccard(one_F: np.ndarray, others_SF: np.ndarray) -> np.ndarray:
    either_S = (one_F | others_SF).sum(1)
    shares_S: np.ndarray = np.divide(
        (one_F & others_SF).sum(1), either_S, out=np.full(len(either_S), np.nan), where=either_S > 0
    )
    return shares_S


def _correlation(one_F: np.ndarray, others_SF: np.ndarray) -> np.ndarray:
    one_F = one_F - one_F.mean()
    others_SF = others_SF - others_SF.mean(1, keepdims=True)
    scale_S = np.sqrt((one_F**2).sum() * (others_SF**2).sum(1))
    values_S: np.ndarray = np.divide(others_SF @ one_F, scale_S, out=np.full(len(scale_S), np.nan), where=scale_S > 0)
    return values_S


def _first_and_range(values_S: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """The first value, and the range of 95 % of the others; None where they are not defined."""
    if np.isnan(values_S).any():
        return None, None
    low, high = np.quantile(values_S[1:], (0.025, 0.975)).tolist()
    return float(values_S[0]), (low, high)
