"""The networks of the report, as plain modules."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

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
