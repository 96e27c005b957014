"""Networks that do what hooks do not see."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

IMAGES = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def negative(maps: Tensor) -> Tensor:
    return torch.relu(-maps)


with warnings.catch_warnings():  # TorchScript is going, but networks have parts of it
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted_negative = torch.jit.script(negative)


class NegativePart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, maps: Tensor) -> Tensor:
        return (-maps).clamp(min=0)


class ConcatenatedReLU(nn.Module):
    """A convolution whose maps go to a ReLU, and to something else."""

    def __init__(self, other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.other, self.conv, self.relu, self.head = other, nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Linear(6 * 16, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head(torch.cat([self.relu(maps), self.other(maps)], 1).flatten(1))


class InPlaceBranch(nn.Module):
    """A branch that begins with a ReLU in place: the sum takes the maps that the ReLU has overwritten."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.branch, self.head = nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 3, 1), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head((self.branch(self.relu(maps)) + maps).flatten(1))


class InPlaceStatement(nn.Module):
    """A module that works in place, and whose output nothing takes."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 3, 3), relu, nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        self.relu(maps)
        return self.head(maps.flatten(1))


class CalledTwice(nn.Module):
    """A convolution that is called as a module, and by its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.conv(images) + self.conv.forward(images.flip(2))).flatten(1))


class Compiled(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 3, 3), nn.ReLU()
        self.body: nn.Module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
        self.head = nn.Linear(48, 4)
        if how == "block":
            self.body.compile(backend="eager")
        if how == "wrap":
            self.body = torch.compile(self.body, backend="eager")  # type: ignore[assignment]
        if how == "forward":
            self.forward = torch.compile(self.forward, backend="eager")  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.relu(self.conv(images))).flatten(1))


def prepared(model: nn.Module) -> nn.Module:
    return model.double().eval()
