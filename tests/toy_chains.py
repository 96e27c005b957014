"""Toy networks of two convolutions, whose graphs are simple, hard to find, or not there."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.flatten, self.dense = nn.Flatten(), nn.Linear(256, 10)
        self.sites = {"conv1": "relu1", "conv2": "relu2"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.conv1(images))
        return self.dense(self.flatten(maps + self.relu2(self.conv2(maps))))


class CallsReLU(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(self.flatten(self.relu2(self.conv2(functional.relu(self.relu1(self.conv1(images)))))))


class Twice(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.conv1(images))
        return self.dense(self.flatten(self.relu2(self.conv2(self.conv2(maps)))))


class Deciding(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu2(self.conv2(self.relu1(self.conv1(images))))
        return self.dense(self.flatten(maps if maps.mean() > 0.1 else -maps))


class Grouped(Skipping):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(self.flatten(self.relu2(self.conv2(self.relu1(self.conv1(images))))))


class Hooked(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu1.register_forward_hook(lambda module, inputs, maps: maps * 2)


class Parametrized(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))


class Softmax(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.Softmax(1)


class LowPrecision(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bfloat16()


class Patched(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu2.forward = lambda maps: maps.abs()


class Buffered(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        del self.conv2.bias
        self.conv2.register_buffer("bias", torch.ones(4))


class BatchNormalized(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=False)


class FromInput(Skipping):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.relu1(self.conv1(images))
        return self.dense(self.flatten(self.relu2(self.conv2(images.expand(-1, 4, -1, -1)))))


class Indexed(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.sites = {"conv1": "relu2", "conv2": "relu2"}


class UnequalStrides(Grouped):
    """Whose channels-last maps some CPU builds of torch get wrong for few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.dense = nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2)), nn.Linear(128, 10)


class DilatedRow(Grouped):
    """The same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, (1, 3), padding=(0, 2), dilation=2)


class PreHooked(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu1.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))


class AsTraced(Grouped):
    """Does something else when it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits + 1 if isinstance(images, torch.Tensor) else logits


class Elsewhere(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.conv2, self.unused = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.sites = {"conv1": "unused"}


class HookedInside(Skipping):
    """Hooks on a module of modules, which torch.fx does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Identity())
        self.block.register_forward_hook(lambda module, inputs, maps: maps * 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.block(images))


class Overwritten(Skipping):
    """Half of the maps are overwritten before all are taken."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.conv1(images)) - 0.1
        torch.relu_(maps[:, :2])
        return self.dense(self.flatten(self.relu2(self.conv2(maps))))


class Drawing(Skipping):
    """Draws random numbers in eval mode too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.dropout(images, 0.5, training=True))
