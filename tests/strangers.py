"""A network that knows nothing of the package, and what of a network a call must not change."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import tipping
from tipping.files import digest

CLASSES = 3


class Own(nn.Module):
    """Two convolutions, activated by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.second(functional.relu(self.first(images))))
        return self.head(maps.mean((2, 3)))


def responses(model: nn.Module, images: Tensor) -> Tensor:
    """By hand, in float64: the norm of each map after the ReLU, divided by its layer's sum."""
    with torch.no_grad():
        first = functional.relu(model.first(images))
        second = functional.relu(model.second(first))
    norms = [maps.double().flatten(2).norm(dim=2) for maps in (first, second)]
    return torch.cat([part / part.sum(1, keepdim=True) for part in norms], 1).cpu()


def state_of(model: nn.Module) -> list[object]:
    """All that a call must not change: modules, their attributes, among which are modes and hooks, gradients, devices,
    weights."""
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    attributes = [
        (name, id(value), [(key, id(one)) for key, one in value.items()] if isinstance(value, dict) else None)
        for module in model.modules()
        for name, value in vars(module).items()
    ]
    grads = [None if one.grad is None else one.grad.clone().tolist() for one in model.parameters()]
    flags = [(one.requires_grad, one.device, one.is_inference()) for one in model.parameters()]
    return [*modules, *attributes, *grads, *flags, digest(model.state_dict())]


CALLS = {
    "relevant_filters": lambda relevant, loader: tipping.relevant_filters(relevant.filters.given, loader, mu=5),
    "ablate_classes": lambda relevant, loader: tipping.ablate_classes(relevant, loader),
    "drop_curve": lambda relevant, loader: tipping.drop_curve(relevant, loader, points=3),
    "gallery": lambda relevant, loader: tipping.gallery(relevant, loader, images=2),
    "compare_selectors": lambda relevant, loader: tipping.compare_selectors(
        relevant.filters.given, loader, loader, ["l1", "share"], mu=5, draws=2
    ),
    "explain": lambda relevant, loader: tipping.explain(relevant, loader.dataset.tensors[0][:2]),
}
