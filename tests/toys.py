"""Toy networks, whose filters are plain to see, or hard to find."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from tipping.network import Filters, build


def filters_of(model: nn.Module) -> Filters:
    """The filters of a test's network: at its `sites`, if it names them, or those of its convN, but for one that gives
    the classes, at reluN, if there is one."""
    modules = dict(model.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    if not any(isinstance(module, nn.Linear) for module in modules.values()):
        convolutions.pop()
    relus = {name: name.replace("conv", "relu") for name in convolutions}
    sites = {name: relu if relu in modules else name for name, relu in relus.items()}
    return Filters.at(model, getattr(model, "sites", sites), classes=10)


class Block(nn.Module):
    """Two convolutions with a skip connection around them; one activation module for both."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.norm2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.norm1(self.conv1(maps)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(maps)
        return self.relu(out)


class SmallResNet(nn.Module):
    """Stride, normalisation, skip connections, pooling over the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(Block(4, 6, 2), Block(6, 6, 1))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


class Functional(nn.Module):
    """As in PyTorch's own MNIST example: relu and pooling are function calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.dense1, self.dense2 = nn.Linear(20, 7), nn.Linear(7, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv2(self.conv1(images).relu())), 2)
        maps = functional.dropout(maps, 0.5, self.training)
        return self.dense2(torch.relu(self.dense1(torch.flatten(maps, 1))))


class Untraceable(Functional):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class FunctionalHead(nn.Module):
    """Its classes are given by no module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.ReLU()
        self.weight = nn.Parameter(torch.randn(10, 80))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.relu(self.conv2(self.relu(self.conv1(images)))).flatten(1), self.weight)


class OneReLU(nn.Module):
    """Two convolutions and a dense layer that share one activation module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.dense, self.relu = nn.Linear(5 * 16, 10), nn.ReLU()
        self.sites = {"conv1": "relu", "conv2": "relu"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.relu(self.dense(maps.flatten(1)))


def keras() -> nn.Module:
    return build(
        {"_target_": "tipping.models.KerasCNN", "filters": 6, "depth": 3, "dropout": 0.5}, (1, 8, 8), 10, seed=0
    )


def keras_with_dense() -> nn.Module:
    """Units of its dense layers count as filters too."""
    model = keras()
    model.sites = {**filters_of(model).sites, "dense1": "dense1_relu", "dense2": "dense2_relu"}
    return model


def matconvnet() -> nn.Module:
    return build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)


def pooled() -> nn.Module:
    """Everything between two convolutions that is allowed there: normalisation before and after the activation, an
    activation that makes zero something else, padded average pooling, a stride, dilation, other padding modes."""
    layers = OrderedDict(
        conv1=nn.Conv2d(1, 5, 3, padding=1, padding_mode="reflect"),
        norm1=nn.BatchNorm2d(5),
        act1=nn.Sigmoid(),
        after1=nn.BatchNorm2d(5),
        pool1=nn.AvgPool2d(3, stride=1, padding=1),
        conv2=nn.Conv2d(5, 4, 3, padding=2, dilation=2, stride=2, bias=False),
        act2=nn.LeakyReLU(inplace=True),
        drop=nn.Dropout2d(),
        conv3=nn.Conv2d(4, 6, 3, padding=1),
        act3=nn.ReLU(inplace=True),
        pool3=nn.MaxPool2d(2),
        squash=nn.Tanh(),
        flatten=nn.Flatten(),
        dense=nn.Linear(24, 7),
        softer=nn.ELU(inplace=True),
    )
    model = nn.Sequential(layers)
    model.sites = {"conv1": "act1", "conv2": "conv2", "conv3": "act3"}
    for name, tensor in model.state_dict().items():
        if name.startswith(("norm", "after")) and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model


class Constant(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
        for parameter in self.parameters():
            nn.init.ones_(parameter)


class Ready(nn.Sequential):
    """Weights of its own, whatever the seed."""

    trained = True

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.5)


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(weight_norm(nn.Conv2d(1, 2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


class WeightNormed(nn.Sequential):
    """Keeps its weights as tensors beside its parameters, of which they are made at each pass."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 10))
        for layer in (self[0], self[2], self[5]):
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch has a newer form
                nn.utils.weight_norm(layer)


class Pruned(nn.Sequential):
    """The same, by masks."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 10))
        for layer in (self[0], self[2], self[5]):
            prune.l1_unstructured(layer, "weight", 0.3)


class Strict(Normed):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 28, "only 28x28"
        return super().forward(images)


class Small(nn.Module):
    """Convolution → ReLU → max-pooling → convolution → ReLU; the ReLU as module, function, method or in place."""

    def __init__(self, call: str = "module") -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu1, self.relu2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.ReLU()
        self.relu = {
            "module": lambda maps, module: module(maps),
            "functional": lambda maps, _: functional.relu(maps),
            "functional in place": lambda maps, _: functional.relu(maps, inplace=True),
            "function": lambda maps, _: torch.relu(maps),
            "method": lambda maps, _: maps.relu(),
            "method in place": lambda maps, _: maps.relu_(),
        }[call]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.max_pool2d(self.relu(self.conv1(images), self.relu1), 2)
        return self.relu(self.conv2(maps), self.relu2)


class Strided(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2, 1)),
            *(nn.Conv2d(8, 8, (3, 2), dilation=2), nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(8, 8, 1)),
            *(nn.Flatten(), nn.LazyLinear(10)),
        )


class Pooled(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.PReLU(), nn.MaxPool2d(2, 3, dilation=2), nn.Hardtanh()),
            *(nn.Conv2d(8, 8, 2, padding=1), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.LazyLinear(10)),
        )


class Excited(nn.Module):
    """A gate between two convolutions, activated by functions; gives a dictionary, and looks at its images."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, width, 3), nn.Conv2d(width, 6, 3)
        self.gate, self.head = nn.Sequential(nn.Linear(width, 2), nn.ReLU(), nn.Linear(2, width)), nn.Linear(6, classes)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = functional.relu(self.conv1(images if images.mean() > -1 else -images))
        maps = torch.relu(self.conv2(maps * self.gate(maps.mean((2, 3))).sigmoid()[:, :, None, None]))
        return {"maps": maps, "logits": self.head(maps.mean((2, 3)))}


def make_excited(in_channels: int, num_classes: int, width: int = 4) -> nn.Module:
    return Excited(in_channels, num_classes, width)


class Failing(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError
