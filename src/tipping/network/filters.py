"""The filters of a network, and where they are measured and ablated. The network is not changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network.discovery import watch
from tipping.network.hooks import evaluating, restored
from tipping.network.modular import modular
from tipping.network.proof import Proof, leaves_image, prove

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
        model: the network to run: the network given, or a copy of its graph that shares its modules and calls relu as a
            module.
        sites: for each layer with filters, in order, the submodule at whose output the filters are ablated. The output
            holds the activation maps: (N, filters, H, W), or (N, units).
        maps: the layers and submodules whose maps are measured, in order; by default each layer at its site.
        ablatable_F: whether each filter may be ablated.
        classes: the number of logits.
        given: the network in which the filters were found. It is `model`, or shares its modules with `model`.
        proof: what the test of ablations by the network itself has shown; None where the sites were given.
    """

    model: nn.Module
    sites: Mapping[str, str]
    maps: Maps
    ablatable_F: np.ndarray
    classes: int
    given: nn.Module
    proof: Proof | None = None

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
                layers where `dense` is false; filters of a layer cannot be ablated as a whole, or layers are out of
                reach of hooks.
        """
        devices = [image_1CHW.device] if image_1CHW.is_cuda else []
        with restored(model), torch.random.fork_rng(devices):  # the network may keep state, and draw
            return cls._watched(model, image_1CHW, maps, dense, sites, only)

    @classmethod
    def _watched(
        cls, model: nn.Module, image_1CHW: Tensor, maps: str, dense: bool, sites: str, only: Sequence[str] | None
    ) -> Filters:
        _check(model, image_1CHW)
        given, model = model, modular(model, image_1CHW)
        watched = watch(model, image_1CHW)
        every_layer = watched.layers(only)
        layers = [layer for layer in every_layer if dense or isinstance(model.get_submodule(layer.name), nn.Conv2d)]
        if only and len(layers) < len(every_layer):
            raise InputError("protocol.dense=false: model.layers names dense layers; give true")
        if not layers:
            raise InputError("protocol.dense=false: the network's only filters are dense units; give true")
        proof = prove(model, layers, image_1CHW)
        if not only:
            proof = replace(proof, remarks=(*proof.remarks, *_missed(model, watched.unseen(dense), proof, image_1CHW)))
        for remark in proof.remarks:
            _say_once(remark)
        layers = [replace(layer, activation=proof.sites[layer.name]) for layer in layers]
        measured = tuple((layer.name, module) for layer in layers for module in layer.measured(maps))
        whole = cls.at(model, proof.sites, classes=watched.classes, maps=measured)
        ablatable = np.array([sites == "conv+dense" or not layer.single for layer in layers])
        return replace(whole, ablatable_F=ablatable[whole.index.layer_F], given=given, proof=proof)

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


def _check(model: nn.Module, image_1CHW: Tensor) -> None:
    """Raise `InputError` unless a network can be put in eval mode and gives logits."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise InputError(f"{type(model).__name__} holds a network: give its .module")
    try:
        with evaluating(model), torch.no_grad():
            logits = model(image_1CHW.clone())
    except NotImplementedError as error:
        raise InputError(f"{type(model).__name__}: {error}; give the network as it was before torch.export") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1 or not logits.is_floating_point():
        what = (
            f"{tuple(logits.shape)} of {logits.dtype}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        )
        raise InputError(
            f"{type(model).__name__} must give logits (N, classes) of images; for one image it gives {what}"
        )


@cache  # a job finds the filters of a network before and after its training
def _say_once(remark: str) -> None:
    log.warning(remark)


def _missed(model: nn.Module, unseen: Sequence[str], proof: Proof, image_1CHW: Tensor) -> list[str]:
    """Return remarks on what of a network is neither measured nor ablated, beside the layer that gives the classes."""
    if unseen:
        names = ", ".join(unseen)
        why = "they are no nn.Conv2d or nn.Linear called as modules with (N, C, H, W) or (N, C)"
        return [f"{names}: neither measured nor ablated, since {why}"]
    if leaves_image(model, proof.sites, image_1CHW):
        return [
            "with all filters ablated the logits still depend on the image, which also reaches them past the filters"
        ]
    return []


def _sizes(model: nn.Module, layers: Iterable[str]) -> list[int]:
    """Return how many filters each layer has."""
    return [len(model.get_submodule(layer).weight) for layer in layers]  # type: ignore[arg-type]
