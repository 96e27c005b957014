"""The filters of a network, and where they are measured and ablated. The network is not changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.frames import Row, frame
from tipping.network.discovery import FilterLayer, layers_of
from tipping.network.hooks import evaluating, restored
from tipping.network.kinds import filters_in
from tipping.network.listing import left_out, row_of
from tipping.network.modular import modular
from tipping.network.outputs import giving_logits, in_words
from tipping.network.proof import Proof, leaves_image, prove
from tipping.network.watching import watch

log = logging.getLogger(__name__)
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
        model: the network to run, which gives logits (N, C): the network given, or one that shares its modules, calls
            activation functions as modules, and gives logits alone.
        sites: for each layer with filters, in order, the submodule at whose output the filters are ablated. The output
            holds the activation maps: (N, filters, H, W), or (N, units).
        maps: the layers and submodules whose maps are measured, in order; by default each layer at its site.
        ablatable_F: whether each filter may be ablated.
        classes: the number of logits.
        given: the network in which the filters were found. It is `model`, or shares its modules with `model`.
        proof: what the test of ablations by the network itself has shown; None where the sites were given.
        layers: the layers with filters as they were found, in order; none where the sites were given.
        left_out: the reason for each layer that could mix channels and is neither measured nor ablated, by its name.
    """

    model: nn.Module
    sites: Mapping[str, str]
    maps: Maps
    ablatable_F: np.ndarray
    classes: int
    given: nn.Module
    proof: Proof | None = None
    layers: tuple[FilterLayer, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

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
            only: the names of the layers to keep, or patterns of names, such as ``features.[0-3].*``; by default all
                but the layer that gives the classes and the layers of gates. Patterns do not mean gates; names may.

        Raises:
            InputError: a name or pattern in `only` is that of no layer with filters, the network has no layer with
                filters, or only dense layers where `dense` is false; filters of a layer cannot be ablated as a whole,
                or layers are out of reach of hooks.
        """
        devices = [image_1CHW.device] if image_1CHW.is_cuda else []
        with restored(model), torch.random.fork_rng(devices):  # the network may keep state, and draw
            return cls._watched(model, image_1CHW, maps, dense, sites, only)

    @classmethod
    def _watched(
        cls, model: nn.Module, image_1CHW: Tensor, maps: str, dense: bool, sites: str, only: Sequence[str] | None
    ) -> Filters:
        given, model = model, _checked(model, image_1CHW)
        model = modular(model, image_1CHW)
        watched = watch(model, image_1CHW)
        every_layer = layers_of(watched, only)
        layers = [layer for layer in every_layer if dense or not isinstance(model.get_submodule(layer.name), nn.Linear)]
        if only and any(name in only for name in {layer.name for layer in every_layer} - {one.name for one in layers}):
            raise InputError("protocol.dense=false: model.layers names dense layers; give true")
        if not layers:
            raise InputError("protocol.dense=false: the network's only filters are dense units; give true")
        proof = prove(model, layers, image_1CHW)
        if not only:
            proof = replace(proof, remarks=(*proof.remarks, *_missed(model, watched.unseen(dense), proof, image_1CHW)))
        for remark in proof.remarks:
            _say_once(remark)
        layers = [_at(layer, proof.sites[layer.name]) for layer in layers]
        measured = tuple((layer.name, module) for layer in layers for module in layer.measured(maps))
        whole = cls.at(model, proof.sites, classes=watched.classes, maps=measured)
        ablatable = np.array([sites == "conv+dense" or not layer.single for layer in layers])
        return replace(
            whole,
            ablatable_F=ablatable[whole.index.layer_F],
            given=given,
            proof=proof,
            layers=tuple(layers),
            left_out=left_out(given, watched, proof.sites, dense=dense, only=only),
        )

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

    def rows(self) -> list[Row]:
        """List the layers: name, kind, number of filters, size of the maps, where the filters are measured, where they
        are ablated, and why there."""
        layers = self.layers or [
            FilterLayer(layer, site, site, (layer, site), single=False, why="as given")
            for layer, site in self.sites.items()
        ]
        spared = set(self.index.layer_F[~self.ablatable_F].tolist())
        return [
            row_of(
                layer,
                self.model.get_submodule(layer.name),
                [module for owner, module in self.maps if owner == layer.name],
                "" if number in spared else self.sites[layer.name],
            )
            for number, layer in enumerate(layers)
        ]

    def table(self) -> Any:
        """Return `rows` as a data frame of pandas or polars; as a list where neither is installed."""
        return frame(self.rows())

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


def _checked(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return a network that gives logits alone: the network itself, or one that shares its modules.

    Raises:
        InputError: it cannot be put in eval mode, or does not give logits.
    """
    name = type(model).__name__
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise InputError(f"{name} holds a network: give its .module")
    try:
        model = giving_logits(model, image_1CHW)
        with evaluating(model), torch.no_grad():
            logits = model(image_1CHW.clone())
    except NotImplementedError as error:
        raise InputError(f"{name}: {error}; give the network as it was before torch.export") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1 or not logits.is_floating_point():
        raise InputError(f"{name} must give logits (N, classes) of images; for one image it gives {in_words(logits)}")
    return model


def _at(layer: FilterLayer, site: str) -> FilterLayer:
    """Return a layer whose filters are ablated at the place that the self-test has found."""
    if site == layer.activation:
        return layer
    return replace(layer, activation=site, why=f"moved from {layer.activation} by the self-test")


@cache  # a job finds the filters of a network before and after its training
def _say_once(remark: str) -> None:
    log.warning(remark)


def _missed(model: nn.Module, unseen: Sequence[str], proof: Proof, image_1CHW: Tensor) -> list[str]:
    """Return remarks on what of a network is neither measured nor ablated, beside the layer that gives the classes."""
    if unseen:
        names = ", ".join(unseen)
        why = "they are no nn.Conv2d, nn.ConvTranspose2d or nn.Linear called as modules with (N, C, H, W) or (N, C)"
        return [f"{names}: neither measured nor ablated, since {why}"]
    if leaves_image(model, proof.sites, image_1CHW):
        return [
            "with all filters ablated the logits still depend on the image, which also reaches them past the filters"
        ]
    return []


def _sizes(model: nn.Module, layers: Iterable[str]) -> list[int]:
    """Return how many filters each layer has."""
    return [filters_in(model.get_submodule(layer)) for layer in layers]
