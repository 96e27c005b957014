"""The networks of the report, and a residual one, as plain modules."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from tipping.errors import InputError, require, require_whole


class KerasCNN(nn.Sequential):
    """The report's Keras network (its Figure 2): 3x3 "same" convolutions with ReLU, then three dense layers.

    Weights start as in Keras: Glorot-uniform, biases zero [glorot2010].

    Args:
        image_shape: (channels, height, width).
        classes: number of classes.
        filters: filters in each convolution.
        depth: number of convolutions.
        dropout: probability of dropping a unit before the last layer, in [0, 1).
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, filters: int, depth: int, dropout: float
    ) -> None:
        require_whole("model.filters", filters, 1)
        require_whole("model.depth", depth, 1)
        number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
        require(number and 0 <= dropout < 1, "model.dropout", dropout, "give a number in [0, 1)")
        channels, height, width = image_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(1, depth + 1):
            layers[f"conv{i}"] = nn.Conv2d(channels if i == 1 else filters, filters, 3, padding="same")
            layers[f"relu{i}"] = nn.ReLU()
        layers["flatten"] = nn.Flatten()
        layers["dense1"] = nn.Linear(filters * height * width, 128)
        layers["dense1_relu"] = nn.ReLU()
        layers["dense2"] = nn.Linear(128, 128)
        layers["dense2_relu"] = nn.ReLU()
        layers["dropout"] = nn.Dropout(dropout)
        layers["dense3"] = nn.Linear(128, classes)
        super().__init__(layers)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)


class MatConvNet(nn.Sequential):
    """MatConvNet's MNIST network: convolutions of 20, 50 and 500 filters; the last one gives the classes.

    Its first two convolutions have no ReLU: filters are measured on their outputs, before pooling.

    Args:
        image_shape: (channels, 28, 28).
        classes: number of classes.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        channels, height, width = image_shape
        if (height, width) != (28, 28):
            raise InputError(f"model=matconvnet needs 28x28 images, these are {height}x{width}: use model=keras_cnn")
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(channels, 20, 5),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(50, 500, 4),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(500, classes, 1),
                flatten=nn.Flatten(),
            )
        )


class ResNet(nn.Module):
    """A residual network for small images, as of CIFAR-10: three stages of basic blocks [he2016].

    Stages two and three halve the maps and double the filters; there a 1x1 convolution projects what is skipped.

    Args:
        image_shape: (channels, height, width).
        classes: number of classes.
        filters: filters in the first stage; twice and four times as many in the others.
        depth: layers with weights on the longest way, 6n + 2 for n blocks in each stage.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, filters: int, depth: int) -> None:
        require_whole("model.filters", filters, 1)
        require_whole("model.depth", depth, 8)
        require(depth % 6 == 2, "model.depth", depth, "give 6n + 2 for n blocks in each stage, such as 20")
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        blocks, before = [], filters
        for stage, after in enumerate((filters, 2 * filters, 4 * filters)):
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(before, after, stride=2 if stage and not block else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the logits (N, C)."""
        maps = self.blocks(self.relu(self.norm(self.conv(images_NCHW))))
        logits_NC: Tensor = self.dense(self.flatten(self.pool(maps)))
        return logits_NC


class BasicBlock(nn.Module):
    """Two 3x3 convolutions whose output is added to their input [he2016].

    Args:
        before: channels of the input.
        filters: filters of each convolution.
        stride: stride of the first convolution, and of the projection of the input.
    """

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, filters, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or before != filters:
            projection = nn.Conv2d(before, filters, 1, stride, bias=False)
            self.skip = nn.Sequential(OrderedDict[str, nn.Module](conv=projection, norm=nn.BatchNorm2d(filters)))
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps of the sum, after its ReLU."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        after: Tensor = self.relu2(inner + self.skip(maps))
        return after
