"""The filters of a network: which there are, and where they are measured and ablated. Nothing is written to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network.discovery import find, modular
from tipping.network.hooks import evaluating

Maps = tuple[tuple[str, str], ...]  # layers, and submodules that give their maps


class FilterIndex(NamedTuple):
    """Which layer and channel each of the network's F filters is."""

    layers: tuple[str, ...]  # names, in the order of the network
    layer_F: np.ndarray  # position in `layers`
    channel_F: np.ndarray


@dataclass(frozen=True)
class Filters:
    """What of a network is measured and ablated.

    Attributes:
        model: the network, or one that shares its modules and has its calls of functions as modules too.
        sites: for each layer with filters, in order, the submodule whose output holds its activation maps, an
            (N, filters, H, W) tensor, or (N, units): they are ablated there.
        maps: what is measured, in order; for each layer the maps at its site, unless told otherwise.
        ablatable_F: whether each filter may be ablated.
        classes: how many logits the network gives.
        given: the network whose filters were looked for; `model`, or the one that this shares its modules with.
    """

    model: nn.Module
    sites: Mapping[str, str]
    maps: Maps
    ablatable_F: np.ndarray
    classes: int
    given: nn.Module

    @classmethod
    def of(
        cls,
        model: nn.Module,
        image_1CHW: Tensor,
        *,
        maps: str = "after_relu",
        dense: bool = False,
        sites: str = "conv+dense",
        only: Sequence[str] | None = None,
    ) -> Filters:
        """Return the filters of a network, found by watching an image pass.

        Args:
            maps: where they are measured, as in `FilterLayer.measured`.
            dense: whether the units of dense layers are among them.
            sites: `conv+dense` ablates all of them, `conv` only those whose maps have more than one value.
            only: the layers that count; by default all but the last.

        Raises:
            InputError: as `find`.
        """
        given, model = model, modular(model, image_1CHW)
        found = find(model, image_1CHW, only)
        layers = [layer for layer in found if dense or isinstance(model.get_submodule(layer.name), nn.Conv2d)]
        if only and len(layers) < len(found):
            raise InputError("protocol.dense=false: model.layers names dense layers; give true")
        if not layers:
            raise InputError("protocol.dense=false: the network's only filters are dense units; give true")
        measured = tuple((layer.name, module) for layer in layers for module in layer.measured(maps))
        with evaluating(model), torch.no_grad():
            classes = model(image_1CHW.clone()).shape[-1]
        whole = cls.at(model, {layer.name: layer.activation for layer in layers}, classes=classes, maps=measured)
        ablatable = np.array([sites == "conv+dense" or not layer.single for layer in layers])
        return replace(whole, ablatable_F=ablatable[whole.index.layer_F], given=given)

    @classmethod
    def at(cls, model: nn.Module, sites: Mapping[str, str], *, classes: int, maps: Maps | None = None) -> Filters:
        """Return the filters of layers that are known, each of which may be ablated.

        Raises:
            ValueError: no layer.
        """
        if not sites:
            raise ValueError("sites must name a layer with filters, such as {'conv1': 'relu1'}")
        everywhere = np.ones(sum(_sizes(model, sites)), dtype=bool)
        measured = tuple(sites.items()) if maps is None else maps
        return cls(model, dict(sites), measured, everywhere, classes, model)

    @cached_property
    def index(self) -> FilterIndex:
        """Layer and channel of each filter, layer after layer."""
        sizes = _sizes(self.model, self.sites)
        channels = np.concatenate([np.arange(size) for size in sizes])
        return FilterIndex(tuple(self.sites), np.repeat(np.arange(len(sizes)), sizes), channels)

    @cached_property
    def filter_R(self) -> np.ndarray:
        """The filter that each response is of."""
        layers, layer_F, _ = self.index
        return np.concatenate([np.flatnonzero(layer_F == layers.index(layer)) for layer, _ in self.maps])

    @property
    def places(self) -> list[tuple[str, int, str]]:
        """Of each response, the layer and channel of its filter, and the submodule whose maps are measured."""
        layers, layer_F, channel_F = self.index
        sizes = np.bincount(layer_F)
        modules = [module for layer, module in self.maps for _ in range(sizes[layers.index(layer)])]
        names = [layers[layer] for layer in layer_F[self.filter_R]]
        return list(zip(names, channel_F[self.filter_R].tolist(), modules, strict=True))


def _sizes(model: nn.Module, layers: Iterable[str]) -> list[int]:
    """Return how many filters each layer has."""
    return [len(model.get_submodule(layer).weight) for layer in layers]  # type: ignore[arg-type]
