"""Sanity checks of the selection itself [adebayo2018]: does it depend on what the network has learned?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from tipping.data import CLASSES, Dataset
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.network import build, copy_of
from tipping.network import randomize as replace_weights
from tipping.selection import Overlap, Selection, overlap


def is_check(options: config.Config) -> bool:
    """Return whether the job is a sanity check: layers initialised anew, or labels permuted."""
    return options.randomize != "none" or options.protocol.labels == "permuted"


def unchecked(options: config.Config) -> config.Config:
    """Return the same job without its sanity check."""
    labels = options.protocol.labels
    protocol = replace(options.protocol, labels="true" if labels == "permuted" else labels)
    return replace(options, randomize="none", protocol=protocol)


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
    anew = build(options.model, image_shape, CLASSES, other_seed)
    if not replace_weights(model, layers, anew):
        raise InputError(f"randomize={options.randomize}: {type(model).__name__} has the same weights for every seed")


def as_trained(
    model: nn.Module, dataset: Dataset, options: config.Config, store: Store
) -> tuple[Subject, Selection] | None:
    """Return what a sanity check is compared with: the network as it was trained, of which this keeps a copy, and its
    selection; None if the job is no such check."""
    if not is_check(options):
        return None
    options = unchecked(options)
    subject = Subject.of(copy_of(model), dataset, options)
    problem, _ = subject.responses(store)
    return subject, subject.select(problem)


def overlap_with(
    trained: tuple[Subject, Selection] | None, selection: Selection, layer_F: np.ndarray, seed: int
) -> Overlap | None:
    """Return a sanity check's overlap with the trained network's selection; None if it is no check."""
    if trained is None:
        return None
    return overlap(trained[1], selection, layer_F, np.random.default_rng((seed, 2)))
