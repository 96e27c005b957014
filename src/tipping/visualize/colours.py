"""Colours of images, signals and heat maps: pixels (H, W, RGB) from 0 to 1."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from tipping.visualize.signals import PERCENTILE

SIGNED = "berlin"  # blue below zero, black at zero, red above
HEAT = "inferno"
LUMA = np.array([0.299, 0.587, 0.114])  # shares of red, green and blue in the brightness of a colour
STRONGEST = 0.85  # opacity of the hottest pixels over an image


def image_pixels(image_CHW: np.ndarray) -> np.ndarray:
    """Return an image with values from 0 to 1 in colours if it has three channels, else in grey by its mean."""
    channels = image_CHW if len(image_CHW) == 3 else image_CHW.mean(0, keepdims=True).repeat(3, axis=0)
    pixels_HWC: np.ndarray = channels.transpose(1, 2, 0).clip(0, 1)
    return pixels_HWC


def signal_pixels(signal_CHW: np.ndarray) -> np.ndarray:
    """Return the pixels of a signal, in full colours at the 99.5th percentile of its sizes over 0.

    The maximum would let one pixel darken all others. The signal of an image in colours is drawn around grey: each
    channel is 0.5 where its signal is 0, brighter where it is positive, and darker where it is negative. That of other
    images is summed over its channels: black at 0, red above, blue below.
    """
    signed_CHW = signal_CHW if len(signal_CHW) == 3 else signal_CHW.sum(0, keepdims=True)
    sizes = np.abs(signed_CHW[signed_CHW != 0])
    scaled_CHW = (signed_CHW / np.percentile(sizes, PERCENTILE)).clip(-1, 1) if sizes.size else signed_CHW
    if len(signal_CHW) == 3:
        pixels_HWC: np.ndarray = (scaled_CHW.transpose(1, 2, 0) + 1) / 2
        return pixels_HWC
    return np.asarray(colormaps[SIGNED]((scaled_CHW[0] + 1) / 2))[..., :3]


def heated_pixels(image_CHW: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Return an image in muted grey under a heat map with values from 0 to 1, which covers more where it is hotter."""
    grey_HW1 = 0.15 + 0.7 * (image_pixels(image_CHW) @ LUMA)[..., None]
    opacity_HW1 = STRONGEST * heat_HW[..., None]
    return (1 - opacity_HW1) * grey_HW1 + opacity_HW1 * np.asarray(colormaps[HEAT](heat_HW))[..., :3]


def remark_of(channels: int) -> str:
    """Return a remark for images that cannot be shown channel by channel; none for grey images and those in colours."""
    return "" if channels in (1, 3) else f"mean of {channels} channels"
