"""Networks that are chains: every image passes the same known modules one after another, and each module once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.fx import Tracer

from tipping.network.filters import Filters
from tipping.network.hooks import restored
from tipping.network.kinds import ACTIVATIONS, MIXING, PASSING, POOLING

POINTWISE = tuple(kind for kind in ACTIVATIONS if kind is not nn.PReLU)  # PReLU may have a slope for each channel
KNOWN = (nn.Conv2d, nn.Linear, *PASSING, *POINTWISE, *POOLING, nn.BatchNorm2d, nn.Flatten)


class NotAChain(Exception):
    """The reason why a network is no chain; its message is a clause."""


@dataclass(frozen=True)
class Chain:
    """A network as the sequence of its modules, in the order in which an image passes them.

    Attributes:
        modules: the modules, each used once, without hooks, in eval mode, and of types whose effect on single channels
            is known.
        shapes: the shape of each module's output for one image.
        layers: the position in `modules` of each layer with filters.
        sites: the position in `modules` where each layer's filters are ablated.
        image_1CHW: the image that the chain was tried on.
    """

    modules: tuple[nn.Module, ...]
    shapes: tuple[torch.Size, ...]
    layers: Mapping[str, int]
    sites: Mapping[str, int]
    image_1CHW: Tensor

    @classmethod
    def trace(cls, filters: Filters, image_1CHW: Tensor) -> Chain:
        """Return the chain of a network in eval mode, proven on its torch.fx graph and tried on an image.

        Raises:
            NotAChain: the network is no chain, or cannot be shown to be a chain.
        """
        model, wanted = filters.model, filters.sites
        names = _traced(model)
        modules = tuple(model.get_submodule(name) for name in names)
        for name, module in zip(names, modules, strict=True):
            _check(name, module)
        for name in (*wanted, *wanted.values()):
            if name not in names:
                raise NotAChain(f"{name} is not among its modules")
        layers = {layer: names.index(layer) for layer in wanted}
        sites = {layer: names.index(site) for layer, site in wanted.items()}
        shapes, maps = [], image_1CHW
        for name, module in zip(names, modules, strict=True):
            if isinstance(module, nn.Linear) and maps.ndim != 2:
                raise NotAChain(f"{name} is applied to maps that are not flattened")
            maps = module(maps.clone())  # a module may work in place
            shapes.append(maps.shape)
        logits = model(image_1CHW.clone())
        same = (maps.shape, maps.dtype) == (logits.shape, logits.dtype)
        if not same or not torch.allclose(maps, logits, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise NotAChain("its modules one after another give something else")
        chain = cls(modules, tuple(shapes), layers, sites, image_1CHW)
        for layer, position in layers.items():
            following = [later for later in chain.mixing if later > position]
            if position not in chain.mixing or not following or not position <= sites[layer] < following[0]:
                raise NotAChain(f"{layer} is not followed by its activation and then by a convolution or dense layer")
        return chain

    @property
    def mixing(self) -> list[int]:
        """Positions of the convolutions and dense layers: no other module of a chain mixes channels."""
        return [position for position, module in enumerate(self.modules) if type(module) in MIXING]


def up_to_last(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return the part of a network that has to run to compute the outputs of some submodules.

    Where images pass the network's modules one after another, each once, the part ends at the last of the named
    submodules; otherwise it is the whole network.
    """
    try:
        order = _traced(model)
    except NotAChain:
        return model
    place = {name: number for number, name in enumerate(order)}
    last = max(place.get(name, len(order)) for name in names)
    return nn.Sequential(*(model.get_submodule(name) for name in order[: last + 1])) if last < len(order) else model


def _traced(model: nn.Module) -> list[str]:
    """Return the names of a network's modules in the order in which an image passes them.

    Raises:
        NotAChain: the network does something else with an image than to pass it from module to module.
    """
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise NotAChain(f"{name or 'the network'} has hooks")
    try:
        with restored(model):
            graph = Tracer().trace(model)
    except Exception as error:  # whatever the network's own code raises when it is given no tensor
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NotAChain(f"torch.fx cannot trace it ({reason})") from error
    *nodes, output = graph.nodes
    for before, node in pairwise(nodes):
        if node.op != "call_module":
            raise NotAChain(f"its forward uses {node.name}, which is no module")
        if len(before.users) > 1:
            raise NotAChain(f"what {before.name} gives goes to several places")
        if node.args != (before,) or node.kwargs:
            raise NotAChain(f"{node.target} does not take just the output of the module before it")
    names = [str(node.target) for node in nodes[1:]]
    if output.args != (nodes[-1],) or nodes[0].op != "placeholder" or not names:
        raise NotAChain("it does not return the output of its last module")
    if twice := [name for name in names if names.count(name) > 1]:
        raise NotAChain(f"it uses {twice[0]} more than once")
    return names


def _check(name: str, module: nn.Module) -> None:
    """Raise `NotAChain` for a module whose effect on single channels is not known."""
    if type(module) not in KNOWN:
        raise NotAChain(f"{name} is a {type(module).__name__}")
    if "forward" in vars(module):
        raise NotAChain(f"{name} has a forward of its own")
    if any(tensor.dtype not in (torch.float32, torch.float64) for tensor in module.parameters()):
        raise NotAChain(f"{name} is of low precision")
    tensors = (getattr(module, "weight", None), getattr(module, "bias", None))
    if type(module) in MIXING and not all(tensor is None or isinstance(tensor, nn.Parameter) for tensor in tensors):
        raise NotAChain(f"{name} has a weight or bias that is no parameter")
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        raise NotAChain(f"{name} has groups")
    if isinstance(module, nn.Conv2d) and (
        len(set(module.stride)) > 1 or (max(module.dilation) > 1 and 1 in module.kernel_size)
    ):
        raise NotAChain(f"{name} is of a shape that some builds of torch compute wrongly for few channels on a CPU")
    if isinstance(module, nn.BatchNorm2d) and module.running_mean is None:
        raise NotAChain(f"{name} normalises by each batch's own statistics")
    if getattr(module, "return_indices", False):
        raise NotAChain(f"{name} returns indices")
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        raise NotAChain(f"{name} flattens other dimensions than the channels' and their maps'")
