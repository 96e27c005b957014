"""Small networks of the kinds that people have, whose graphs are more than chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation.engine import Engine
from tipping.ablation.narrowing import Pass, Prefix
from tipping.network import Filters

SIDE, COLOURS, CLASSES = 12, 3, 7


def normed(given: int, out: int, side: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and its normalisation."""
    layer = nn.Conv2d(given, out, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out))


class Basic(nn.Module):
    """Two convolutions beside a shortcut; activations are one module, in place."""

    def __init__(self, given: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.one, self.two = normed(given, out, stride=stride), normed(out, out)
        self.shortcut = normed(given, out, 1, stride) if (given, stride) != (out, 1) else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out = self.two(self.relu(self.one(maps)))
        out += self.shortcut(maps)
        return self.relu(out)


class Bottleneck(nn.Module):
    """Three convolutions, the middle one in groups, beside a shortcut."""

    def __init__(self, given: int, inner: int, out: int, groups: int = 1) -> None:
        super().__init__()
        self.one, self.two, self.three = (
            normed(given, inner, 1),
            normed(inner, inner, 3, 2, groups),
            normed(inner, out, 1),
        )
        self.shortcut = normed(given, out, 1, 2)

    def forward(self, maps: Tensor) -> Tensor:
        out = functional.relu(self.two(functional.relu(self.one(maps))))
        return functional.relu(self.three(out) + self.shortcut(maps))


class PreActivated(nn.Module):
    """Normalisation and activation before each convolution; the sum is not activated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        out = self.conv1(self.relu1(self.norm1(maps)))
        return maps + self.conv2(self.relu2(self.norm2(out)))


class Dense(nn.Module):
    """Layers whose maps are put beside those of all layers before."""

    def __init__(self, given: int, growth: int, layers: int) -> None:
        super().__init__()
        widths = [given + growth * number for number in range(layers)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.layers = nn.ModuleList(nn.Conv2d(width, growth, 3, padding=1) for width in widths)

    def forward(self, maps: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            maps = torch.cat([maps, layer(functional.relu(norm(maps)))], 1)
        return maps


class Inception(nn.Module):
    """Branches side by side, one of them pooled."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.one, self.three = normed(given, 3, 1), nn.Sequential(normed(given, 4, 1), nn.ReLU(), normed(4, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), normed(given, 2, 1))
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat((self.relu(self.one(maps)), self.relu(self.three(maps)), self.relu(self.pooled(maps))), dim=1)


class Inverted(nn.Module):
    """A wide block with a convolution of each map by itself, and a linear end."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 3 * given
        self.conv = nn.Sequential(
            *(normed(given, wide, 1), nn.ReLU6(inplace=True), normed(wide, wide, 3, stride, wide)),
            *(nn.ReLU6(inplace=True), normed(wide, out, 1)),
        )
        self.adds = given == out and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.conv(maps) if self.adds else self.conv(maps)


class Shuffle(nn.Module):
    """Half of the channels goes on as it is; then all are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(normed(half, half, 1), nn.ReLU(inplace=True), normed(half, half, 3, 1, half))

    def forward(self, maps: Tensor) -> Tensor:
        first, second = maps.chunk(2, dim=1)
        out = torch.cat((first, functional.relu(self.branch(second))), dim=1)
        count, channels, height, width = out.size()
        out = out.view(count, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return out.view(count, -1, height, width)


class Squeezed(nn.Module):
    """Maps times a gate of each, made from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU()
        self.down, self.up = nn.Linear(channels, 3), nn.Linear(3, channels)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.act(self.conv(maps))
        gate = self.up(functional.relu(self.down(maps.mean((2, 3)))))
        return maps * torch.sigmoid(gate)[:, :, None, None]


class ConvNext(nn.Module):
    """Maps of each channel by itself, then dense layers over channels, which come last, beside a scaled shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm, self.wide, self.back = nn.LayerNorm(channels), nn.Linear(channels, 8), nn.Linear(8, channels)
        self.conv, self.scale = nn.Conv2d(channels, channels, 3, padding=1), nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        out = self.norm(self.deep(maps).permute(0, 2, 3, 1))
        out = self.back(functional.gelu(self.wide(out))).permute(0, 3, 1, 2)
        return functional.gelu(self.conv(maps + self.scale * out))


class UNet(nn.Module):
    """Down, up again by two ways, and beside what was before."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.down, self.deep = normed(given, 6), normed(6, 8)
        self.up, self.last = nn.ConvTranspose2d(8, 5, 2, 2), normed(19, 6)

    def forward(self, maps: Tensor) -> Tensor:
        wide = functional.relu(self.down(maps))
        deep = functional.relu(self.deep(functional.max_pool2d(wide, 2)))
        near = functional.interpolate(deep, size=wide.shape[2:], mode="nearest")
        return functional.relu(self.last(torch.cat([wide, self.up(deep), near], 1)))


class Overwriting(nn.Module):
    """Sums, products and activations in place, of maps that are taken again afterwards; one activation for all."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(given, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        first = self.one(maps)
        second = self.two(self.act(first))  # first is overwritten too
        second.mul_(0.5).add_(first)
        first *= 2
        return self.act(second) - torch.tanh_(first)


class Unprovable(nn.Module):
    """Channels normalised by those beside them, of which nothing is known, between layers that are."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(one, 6, 3, padding=1) for one in (given, 6, 6))
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.region = nn.LocalResponseNorm(3, alpha=0.5)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.region(self.relu1(self.conv1(maps)))
        return self.relu3(self.conv3(self.relu2(self.conv2(maps))))


class Classifier(nn.Module):
    """A first layer, a body, and a head over the mean of each map, or over all of them."""

    def __init__(self, body: nn.Module, width: int, out: int, flat: bool = False) -> None:
        super().__init__()
        self.stem, self.body = nn.Sequential(normed(COLOURS, width), nn.ReLU()), body
        self.flat, self.head = flat, nn.Linear(out, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(self.stem(images))
        maps = maps if self.flat else functional.adaptive_avg_pool2d(maps, 1)
        return self.head(functional.dropout(torch.flatten(maps, 1), 0.5, self.training))


ZOO: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: Classifier(nn.Sequential(Basic(6, 6), Basic(6, 8, 2), Basic(8, 8)), 6, 8),
    "bottleneck": lambda: Classifier(nn.Sequential(Bottleneck(6, 4, 8), Bottleneck(8, 6, 8, 3)), 6, 8),
    "pre-activation": lambda: Classifier(nn.Sequential(PreActivated(6), PreActivated(6), nn.BatchNorm2d(6)), 6, 6),
    "DenseNet": lambda: Classifier(nn.Sequential(Dense(6, 4, 3), nn.AvgPool2d(2), Dense(18, 4, 2)), 6, 26),
    "Inception": lambda: Classifier(nn.Sequential(Inception(6), Inception(10)), 6, 10),
    "MobileNet": lambda: Classifier(nn.Sequential(Inverted(6, 6, 1), Inverted(6, 8, 2), Inverted(8, 8, 1)), 6, 8),
    "ShuffleNet": lambda: Classifier(nn.Sequential(Shuffle(8), Shuffle(8)), 8, 8),
    "squeeze-excite": lambda: Classifier(nn.Sequential(Squeezed(6), Squeezed(6)), 6, 6),
    "ConvNeXt": lambda: Classifier(nn.Sequential(ConvNext(6), ConvNext(6)), 6, 6),
    "U-Net": lambda: Classifier(nn.Sequential(UNet(6), UNet(6)), 6, 6),
    "in place": lambda: Classifier(nn.Sequential(Overwriting(6), Overwriting(6)), 6, 6),
    "unprovable": lambda: Classifier(Unprovable(6), 6, 6 * SIDE**2, flat=True),
}


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in eval mode whose biases and statistics are not those of a start, so that forgetting them shows."""
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None and not module.bias.any():
                module.bias.uniform_(-0.3, 0.3)
    return model


def all_logits(engine: Engine, ablations: Sequence[np.ndarray], images_NCHW: Tensor) -> list[Tensor]:
    """The engine's own logits under all ablations, of which none is predicted again."""
    passes = [Pass(engine.plan(gone)) for gone in ablations]
    schedule = engine.schedule([one.reads for one in passes])
    prefix = Prefix(schedule, images_NCHW)
    by_row = {row: prefix.logits(row, passes[row]) for row in schedule.rows}
    return [by_row[row] for row in range(len(passes))]


def narrowed_logits(
    filters: Filters, gone: np.ndarray, images_NCHW: Tensor, value: Tensor | None = None, scope: str = "filter"
) -> Tensor:
    """The same under one ablation."""
    return all_logits(Engine.tried(filters, images_NCHW[:1], value, scope), [gone], images_NCHW)[0]
