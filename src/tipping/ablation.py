"""Ablation: a network without some of its filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tipping.classifier import accuracy
from tipping.data import Split
from tipping.models import Hook, filter_index, hooked


@contextmanager
def ablated(model: nn.Module, filters: np.ndarray) -> Iterator[None]:
    """Within it, the given filters give zero everywhere, their bias included; afterwards the model is as before.

    Args:
        model: a network whose filter layers are named.
        filters: positions in the network's filter index.
    """
    index, device = filter_index(model), next(model.parameters()).device
    hooks = {}
    for position, layer in enumerate(index.layers):
        kept = ~np.isin(np.flatnonzero(index.layer_F == position), filters)
        if not kept.all():
            hooks[layer] = _keeping(torch.from_numpy(kept).to(device))
    with hooked(model, hooks):
        yield


def _keeping(kept: Tensor) -> Hook:
    def hook(_: nn.Module, __: object, maps_NFHW: Tensor) -> Tensor:
        return maps_NFHW * kept[:, None, None]

    return hook


def ablated_accuracies(model: nn.Module, split: Split, ablations: Sequence[np.ndarray]) -> list[float]:
    """The network's accuracy without each of the given sets of filters, in [0, 1]."""
    accuracies = []
    for filters in tqdm(ablations, desc="ablations", leave=False, disable=None):
        with ablated(model, filters):
            accuracies.append(accuracy(model, split))
    return accuracies


@dataclass(frozen=True)
class DropCurve:
    """Accuracy on `images` test images against the number of filters ablated.

    Attributes:
        images: how many test images the accuracies are shares of.
        removed: numbers of filters, from 0 to all the relevant ones.
        selected: accuracies with the strongest relevant filters ablated.
        random: the same for each random control: draws × points.
    """

    images: int
    removed: list[int]
    selected: list[float]
    random: list[list[float]]


def drop_curve(
    model: nn.Module, split: Split, order_K: np.ndarray, controls: Sequence[np.ndarray], points: int
) -> DropCurve:
    """Accuracy as the filters of an order, and of each control, go one after another, at evenly spaced counts."""
    removed = sorted({round(count) for count in np.linspace(0, len(order_K), points + 1).tolist()})
    orders = [order_K, *controls]
    prefixes = [order[:count] for order in orders for count in removed[1:]]
    accuracies = np.reshape(ablated_accuracies(model, split, prefixes), (len(orders), -1))
    intact = np.full((len(orders), 1), accuracy(model, split))
    selected, *random = np.hstack([intact, accuracies]).tolist()
    return DropCurve(len(split), removed, selected, random)
