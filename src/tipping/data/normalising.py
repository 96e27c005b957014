"""Images from bytes or floats to what a network takes: float32, with a mean and a standard deviation by channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tipping.errors import InputError, require

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # as torchvision's networks take
Statistic = float | str | Sequence[float]  # a number, one for each channel, or `imagenet`


@dataclass(frozen=True)
class Normalisation:
    """The normalisation (x − mean) / std of images x in [0, 1], each channel by itself.

    Attributes:
        mean, std: one number for all channels, or one for each.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, images_NCHW: Tensor) -> Tensor:
        """Return images in float32, normalised.

        Args:
            images_NCHW: bytes, which are divided by 255 first, or floats.
        """
        if images_NCHW.dtype == torch.uint8:
            # by a tensor, as a GPU would multiply with the rounded inverse of a number
            images_NCHW = images_NCHW.float().div_(torch.tensor(255.0, device=images_NCHW.device))
        if self == PLAIN:
            return images_NCHW
        mean_C11, std_C11 = self._of_channels(images_NCHW)
        return (images_NCHW - mean_C11) / std_C11

    def undo(self, images_NCHW: Tensor) -> Tensor:
        """Return normalised images as they were before, in [0, 1]: x · std + mean."""
        if self == PLAIN:
            return images_NCHW
        mean_C11, std_C11 = self._of_channels(images_NCHW)
        return images_NCHW * std_C11 + mean_C11

    def _of_channels(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_C, std_C = (torch.tensor(values, device=images_NCHW.device) for values in (self.mean, self.std))
        return mean_C[:, None, None], std_C[:, None, None]


PLAIN = Normalisation()


def normalisation_of(mean: Statistic, std: Statistic, channels: int) -> Normalisation:
    """Return the normalisation by a mean and a standard deviation that a user gives.

    Args:
        mean, std: a number, one for each channel, or `imagenet`, both or none.
        channels: the number of channels of the images.

    Raises:
        InputError: one of them is something else, or a standard deviation is not over 0.
    """
    if (mean == "imagenet") != (std == "imagenet"):
        other = "std" if mean == "imagenet" else "mean"
        raise InputError(f"data.{other} is not imagenet, but the other is: give data.mean=imagenet data.std=imagenet")
    means, stds = (_values(name, value, channels) for name, value in (("mean", mean), ("std", std)))
    require(min(stds) > 0, "data.std", std, "give numbers over 0")
    return Normalisation(means, stds)


def _values(name: str, given: Statistic, channels: int) -> tuple[float, ...]:
    """Return a number for all channels or one for each; raise as `normalisation_of`."""
    value = IMAGENET[name] if given == "imagenet" else given
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values)
    require(numbers and values != (), f"data.{name}", given, "give a number, a list of them, or imagenet")
    fits = len(values) in (1, channels)
    require(fits, f"data.{name}", given, f"the images have {channels} channels; give 1 or {channels} numbers")
    return tuple(map(float, values))
