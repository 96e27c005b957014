"""Proof that the filters of a layer are ablated where they are said to be: by what reaches the logits, not by hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tipping.errors import InputError
from tipping.network.discovery import FilterLayer
from tipping.network.hooks import evaluating, hooked
from tipping.network.kinds import noise_of

DRAWS = 3  # of random weights
TOLERANCE = 1e-5  # of the largest logit: rounding, where a kernel's order of summation differs from pass to pass


@dataclass(frozen=True)
class Proof:
    """What a network's test of its own ablations has shown.

    Attributes:
        sites: for each layer with filters, the submodule at whose output its filters are ablated.
        passes: how many times some images passed the network.
        moved: the layers whose filters are ablated elsewhere than where they would be measured best, since something
            takes their maps before that.
        remarks: what a user should know, in sentences.
    """

    sites: Mapping[str, str]
    passes: int
    moved: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def prove(model: nn.Module, layers: Sequence[FilterLayer], image_1CHW: Tensor) -> Proof:
    """Prove that nothing of a layer's filters reaches the logits once all of them are ablated.

    With all filters of a layer ablated, the logits must not change when the layer's weights and bias are replaced by
    random ones. Where they do, the next earlier submodule that the layer's maps pass is tried, down to the layer.

    Args:
        layers: the layers that are measured and ablated.
        image_1CHW: an image; noise of its range is pushed through the network.

    Raises:
        InputError: filters of a layer reach the logits wherever they are ablated.
    """
    trial = _Trial(model, noise_of(image_1CHW))
    with evaluating(model), torch.no_grad():
        remarks = trial.repeats()
        sites = {layer.name: trial.site(layer) if trial.steady else layer.activation for layer in layers}
    moved = tuple(layer.name for layer in layers if sites[layer.name] != layer.activation)
    for layer in layers:
        if layer.name in moved:
            remarks.append(
                f"the filters of {layer.name} are ablated at {sites[layer.name]}, not at {layer.activation}: something "
                "takes their maps before that"
            )
        elif layer.shifted:
            remarks.append(
                f"{layer.shifted} turns ablated filters of {layer.name} into another constant than 0: something else "
                f"takes their maps before {layer.shifted}"
            )
    return Proof(sites, trial.passes, moved, tuple(remarks))


def leaves_image(model: nn.Module, sites: Mapping[str, str], image_1CHW: Tensor) -> bool:
    """Return whether the logits still depend on the image once all filters of all layers are ablated."""
    with evaluating(model), torch.no_grad():
        one, other = (_Trial(model, image).logits({}, sites) for image in (image_1CHW, noise_of(image_1CHW)))
    return not _same(one, other)


class _Trial:
    """A network and an image, which is pushed through the network with other weights and without filters.

    Attributes:
        passes: how many times the image has passed.
        steady: whether the network gives the same logits again under the same seed.
    """

    def __init__(self, model: nn.Module, image_1CHW: Tensor) -> None:
        self.model, self.image_1CHW, self.passes, self.steady = model, image_1CHW, 0, True

    def logits(self, weights: Mapping[str, Tensor], sites: Mapping[str, str], seed: int = 0) -> Tensor:
        """Return the logits (1, C) with other weights, and all filters of some layers ablated at their sites."""
        self.passes += 1
        hooks = [(layer, site, _emptied) for layer, site in sites.items()]
        devices = [self.image_1CHW.device] if self.image_1CHW.is_cuda else []
        with torch.random.fork_rng(devices), hooked(self.model, hooks):
            torch.default_generator.manual_seed(seed)  # dropout that is always on falls alike under one seed
            if devices:
                torch.cuda.manual_seed(seed)
            images = (self.image_1CHW.clone(),)
            logits_1C: Tensor = functional_call(self.model, dict(weights), images, tie_weights=False)
        return logits_1C

    def repeats(self) -> list[str]:
        """Return a remark if the network gives other logits on each pass, and set `steady`."""
        first, again, other = (self.logits({}, {}, seed) for seed in (0, 0, 1))
        self.steady = _same(first, again)
        if self.steady and _same(first, other):
            return []
        changes = "the network gives other logits for the same images on each pass"
        if self.steady:
            return [f"{changes}: it draws random numbers in eval mode too"]
        return [f"{changes}: it keeps state; whether its filters are ablated as a whole could not be proven"]

    def site(self, layer: FilterLayer) -> str:
        """Return the submodule at whose output a layer's filters are ablated so that nothing of them goes on.

        Raises:
            InputError: there is none.
        """
        for site in (layer.activation, *layer.earlier):
            if not self._leaks(layer.name, site):
                return site
        raise InputError(
            f"{layer.name}: its filters reach the logits also past {layer.activation}, where they would be ablated; "
            "name the other layers by model.layers, or only=[…] of Filters.of"
        )

    def _leaks(self, layer: str, site: str) -> bool:
        """Return whether the logits depend on a layer's weights though all of the layer's filters are ablated."""
        draw = torch.Generator().manual_seed(0)
        module = self.model.get_submodule(layer)
        tensors = [*module.named_parameters(), *module.named_buffers()]
        weights = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point()]
        first, *others = (
            self.logits({f"{layer}.{name}": _random(weight, draw) for name, weight in weights}, {layer: site})
            for _ in range(DRAWS)
        )
        return not all(_same(first, other) for other in others)


def _emptied(_: nn.Module, __: object, maps: Tensor) -> Tensor:
    return torch.zeros_like(maps)


def _random(weight: Tensor, draw: torch.Generator) -> Tensor:
    """Return random weights of the scale of a layer's own."""
    scale = weight.detach().float().square().mean().sqrt().clamp(min=0.1)
    return (torch.randn(weight.shape, generator=draw).to(weight.device) * scale).to(weight.dtype)


def _same(one: Tensor, other: Tensor) -> bool:
    bound = TOLERANCE * float(torch.nan_to_num(one.abs()).max().clamp(min=1e-12))
    return torch.allclose(one, other, rtol=0, atol=bound, equal_nan=True)
