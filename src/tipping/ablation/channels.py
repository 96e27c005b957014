"""Channels of maps: which are the same for every image, which are as in the intact network, and tensors of some."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TOGETHER = 16  # positions whose largest values are computed side by side


class Channels(NamedTuple):
    """What an ablation makes of the channels of an operation's value.

    Attributes:
        gone: whether a channel is the same for every image: (C,).
        intact: whether a channel is as in the intact network: (C,).
    """

    gone: np.ndarray
    intact: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """Whether a channel has to be computed anew: (C,)."""
        return ~(self.gone | self.intact)

    @classmethod
    def all_intact(cls, width: int) -> Channels:
        """Return the channels of a value that no ablation reaches."""
        return cls(np.zeros(width, dtype=bool), np.ones(width, dtype=bool))

    @classmethod
    def all_changed(cls, width: int) -> Channels:
        """Return the channels of a value of which nothing is known."""
        return cls(np.zeros(width, dtype=bool), np.zeros(width, dtype=bool))


def pick(maps: Tensor, chosen: Tensor) -> Tensor:
    """Pick channels, along dimension 1. Maps in channels-last order keep that order."""
    if not _channels_last(maps):
        return maps.index_select(1, chosen)
    last = maps.permute(0, 2, 3, 1)
    rows = last.reshape(-1, last.shape[-1])  # a view; its rows are picked from several times as fast as maps
    return rows.index_select(1, chosen).view(*last.shape[:-1], -1).permute(0, 3, 1, 2)


def put(maps: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
    """Write values into some channels of maps, in place."""
    if not (_channels_last(maps) and _channels_last(values)):
        return maps.index_copy_(1, chosen, values)
    rows = maps.permute(0, 2, 3, 1).view(-1, maps.shape[1])
    new = values.permute(0, 2, 3, 1).reshape(-1, len(chosen))
    rows.scatter_(1, chosen.expand(len(rows), -1), new)
    return maps


def _channels_last(maps: Tensor) -> bool:
    """Return whether maps have their channels side by side in memory, and not their positions."""
    return maps.ndim == 4 and not maps.is_contiguous() and maps.is_contiguous(memory_format=torch.channels_last)


def largest(maps: Tensor) -> Tensor:
    """Return the largest magnitude in each channel of each image: (N, C); NaN where a channel holds NaN.

    Several positions are compared at a time, without absolute values: this is several times as fast as
    ``maps.abs().amax``.
    """
    last = maps.movedim(1, -1).contiguous()
    count, channels = len(maps), maps.shape[1]
    positions = math.prod(last.shape[1:-1])
    together = math.gcd(positions, TOGETHER)
    rows = last.view(count, positions // together, together * channels)
    return torch.maximum(rows.amax(1), -rows.amin(1)).view(count, together, channels).amax(1)
