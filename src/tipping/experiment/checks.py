"""Sanity checks of the selection [adebayo2018]: does it depend on what the network has learned?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tipping.data import Dataset
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.network import load_dataset_and_model
from tipping.experiment.pictures import check_pictures
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.network import build, copy_of, layers_to_randomize, randomize
from tipping.selection import Overlap, Selection, overlap


class Untrained(NamedTuple):
    """What a job has before its network is trained.

    Attributes:
        dataset: the data set.
        model: the network, which has no trained weights yet.
        randomized: the names of the layers that the job will initialise anew.
    """

    dataset: Dataset
    model: nn.Module
    randomized: list[str]


def untrained(options: config.Config, device: torch.device) -> Untrained:
    """Load the data set of a job, build its network, and check that the options suit both, before anything is trained.

    Raises:
        InputError: they do not.
    """
    dataset, model = load_dataset_and_model(options, device)
    randomized = layers_to_randomize(model, options.randomize, dataset.train[:1].images_NCHW)
    subject = Subject.from_options(model, dataset, options)
    subject.check()
    check_pictures(subject)
    return Untrained(dataset, model, randomized)


def is_check(options: config.Config) -> bool:
    """Return whether a job is a sanity check: one with layers initialised anew, or with labels permuted."""
    return options.randomize != "none" or options.protocol.labels == "permuted"


def unchecked(options: config.Config) -> config.Config:
    """Return the options of the same job without its sanity check."""
    labels = options.protocol.labels
    protocol = replace(options.protocol, labels="true" if labels == "permuted" else labels)
    return replace(options, randomize="none", protocol=protocol)


def randomize_layers(
    model: nn.Module,
    layers: Sequence[str],
    image_shape: tuple[int, int, int],
    classes: int | None,
    options: config.Config,
) -> None:
    """Initialise some layers of a network anew, in place, as the network's class does for another seed.

    Args:
        layers: the names of the layers.
        image_shape: channels, height and width of an image.
        classes: the number of classes, as `build` takes it.

    Raises:
        InputError: the new weights equal the old ones, because the class sets trained weights.
    """
    if not layers:
        return
    other_seed = int(np.random.SeedSequence((options.seed, 1)).generate_state(1)[0])
    anew = build(options.model, image_shape, classes, other_seed)
    if not randomize(model, layers, anew):
        raise InputError(f"randomize={options.randomize}: {type(model).__name__} has the same weights for every seed")


def as_trained(
    model: nn.Module, dataset: Dataset, options: config.Config, store: Store
) -> tuple[Subject, Selection] | None:
    """Return the subject and the selection with which a sanity check is compared; None if the job is no sanity check.

    Args:
        model: the network as it was trained; the subject holds a copy of the network.
    """
    if not is_check(options):
        return None
    options = unchecked(options)
    subject = Subject.from_options(copy_of(model), dataset, options)
    problem, _ = subject.responses(store)
    return subject, subject.select(problem)


def overlap_with(
    trained: tuple[Subject, Selection] | None, selection: Selection, layer_F: np.ndarray, seed: int
) -> Overlap | None:
    """Return the overlap of two selections, before and after a sanity check; None if the job is no sanity check.

    Args:
        trained: the subject and the selection that `as_trained` returns.
        selection: the selection of the network that is checked.
        layer_F: the layer of each filter.
        seed: the seed of the overlaps by chance.
    """
    if trained is None:
        return None
    return overlap(trained[1], selection, layer_F, np.random.default_rng((seed, 2)))
