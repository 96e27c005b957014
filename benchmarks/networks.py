"""Networks of the kinds that people have, untrained, whose statistics and classes are those of some images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


def normed(given: int, out: int, side: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its normalisation."""
    layer = nn.Conv2d(given, out, side, stride, side // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(out)]


class VGG(nn.Module):
    """Convolutions and pooling in a row; the maps are flattened by a function, as in torchvision's."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for given, out in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(given, out, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(widths[-1] * 4, 512), nn.ReLU(inplace=True), nn.Dropout())
        self.head = nn.Linear(512, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.classifier(torch.flatten(self.features(images), 1)))


class Basic(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(*normed(given, out, 3, stride)), nn.Sequential(*normed(out, out))
        self.shortcut = nn.Sequential(*normed(given, out, 1, stride)) if stride > 1 else nn.Sequential()
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps."""
        return self.relu2(self.two(self.relu1(self.one(maps))) + self.shortcut(maps))


class Pooled(nn.Module):
    """Features, whose means over their maps a dense layer takes."""

    def __init__(self, features: nn.Module, out: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(out, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(self.features(images), 1), 1))


def resnet20(width: int) -> nn.Module:
    """The ResNet-20 of CIFAR, with three stages of three blocks; shortcuts between stages are convolutions."""
    widths = [width, width, width, width, 2 * width, 2 * width, 2 * width, 4 * width, 4 * width, 4 * width]
    blocks = [Basic(given, out, out // given) for given, out in pairwise(widths)]
    return Pooled(nn.Sequential(*normed(3, width), nn.ReLU(inplace=True), *blocks), 4 * width)


class Inverted(nn.Module):
    """MobileNetV2's block: a wide one of separate maps, with a linear end."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 6 * given
        self.adds = given == out and stride == 1
        self.layers = nn.Sequential(
            *(*normed(given, wide, 1), nn.ReLU6(inplace=True), *normed(wide, wide, 3, stride, wide)),
            *(nn.ReLU6(inplace=True), *normed(wide, out, 1)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps."""
        return maps + self.layers(maps) if self.adds else self.layers(maps)


def mobilenet() -> nn.Module:
    """Blocks of MobileNetV2, for images of 32 x 32."""
    plan = [(24, 24, 1), (24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
    blocks = [Inverted(*row) for row in plan]
    return Pooled(nn.Sequential(*normed(3, 24), nn.ReLU6(inplace=True), *blocks), 64)


class DenseLayer(nn.Module):
    """DenseNet's layer: its maps are put beside those it takes."""

    def __init__(self, given: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(given), nn.Conv2d(given, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps."""
        out = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(maps))))))
        return torch.cat([maps, out], 1)


def densenet(growth: int = 12, layers: int = 6) -> nn.Module:
    """A DenseNet-BC for images of 32 x 32: three blocks, between which the maps are halved."""
    width = 2 * growth
    parts: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(3):
        parts += [DenseLayer(width + growth * number, growth) for number in range(layers)]
        width += growth * layers
        parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if block < 2:
            parts += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    return Pooled(nn.Sequential(*parts), width)


@torch.no_grad()
def settled(model: nn.Module, images_NCHW: Tensor) -> nn.Module:
    """The network in eval mode, its statistics those of some images, its logits spread about 0 for each class."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # averages over all it sees
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    model.train()(images_NCHW)
    logits_NC, head = model.eval()(images_NCHW), model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    spread_C = logits_NC.std(0)
    head.weight /= spread_C[:, None]
    head.bias.copy_((head.bias - logits_NC.mean(0)) / spread_C)
    return model
