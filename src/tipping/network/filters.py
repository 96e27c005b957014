"""The filters of a network, and where they are measured and ablated. The network is not changed."""

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

Maps = tuple[tuple[str, str], ...]  # pairs of a layer and a submodule whose output holds the maps of the layer


class FilterIndex(NamedTuple):
    """The layer and channel of each of the F filters of a network."""

    layers: tuple[str, ...]  # names, in the order of the network
    layer_F: np.ndarray  # position in `layers`
    channel_F: np.ndarray


@dataclass(frozen=True)
class Filters:
    """The filters of a network, and where they are measured and ablated.

    Attributes:
        model: the network to run: the network given, or a copy of its graph that shares its modules and calls relu as a
            module.
        sites: for each layer with filters, in order, the submodule at whose output the filters are ablated. The output
            holds the activation maps: (N, filters, H, W), or (N, units).
        maps: the layers and submodules whose maps are measured, in order; by default each layer at its site.
        ablatable_F: whether each filter may be ablated.
        classes: the number of logits.
        given: the network in which the filters were found. It is `model`, or shares its modules with `model`.
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
            maps: where the filters are measured: `after_relu`, `before_pooling` or `all` maps of each layer.
            dense: whether the units of dense layers are filters too.
            sites: `conv+dense` lets all filters be ablated, `conv` only filters whose maps have more than one value.
            only: the names of the layers to keep; by default all but the layer that gives the classes.

        Raises:
            InputError: a name in `only` is no layer with filters, the network has no layer with filters, or only dense
                layers where `dense` is false.
        """
        given, model = model, modular(model, image_1CHW)
        every_layer = find(model, image_1CHW, only)
        layers = [layer for layer in every_layer if dense or isinstance(model.get_submodule(layer.name), nn.Conv2d)]
        if only and len(layers) < len(every_layer):
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
        """Return the filters of layers whose sites are known; every filter may be ablated.

        Raises:
            ValueError: `sites` names no layer.
        """
        if not sites:
            raise ValueError("sites must name a layer with filters, such as {'conv1': 'relu1'}")
        everywhere = np.ones(sum(_sizes(model, sites)), dtype=bool)
        measured = tuple(sites.items()) if maps is None else maps
        return cls(model, dict(sites), measured, everywhere, classes, model)

    @cached_property
    def index(self) -> FilterIndex:
        """The layer and channel of each filter, layer after layer."""
        sizes = _sizes(self.model, self.sites)
        channels = np.concatenate([np.arange(size) for size in sizes])
        return FilterIndex(tuple(self.sites), np.repeat(np.arange(len(sizes)), sizes), channels)

    @cached_property
    def filter_R(self) -> np.ndarray:
        """The position of each response's filter: (R,)."""
        layers, layer_F, _ = self.index
        return np.concatenate([np.flatnonzero(layer_F == layers.index(layer)) for layer, _ in self.maps])

    @property
    def places(self) -> list[tuple[str, int, str]]:
        """The layer and channel of each response's filter, and the submodule whose maps are measured."""
        layers, layer_F, channel_F = self.index
        sizes = np.bincount(layer_F)
        modules = [module for layer, module in self.maps for _ in range(sizes[layers.index(layer)])]
        names = [layers[layer] for layer in layer_F[self.filter_R]]
        return list(zip(names, channel_F[self.filter_R].tolist(), modules, strict=True))


def _sizes(model: nn.Module, layers: Iterable[str]) -> list[int]:
    """Return how many filters each layer has."""
    return [len(model.get_submodule(layer).weight) for layer in layers]  # type: ignore[arg-type]
