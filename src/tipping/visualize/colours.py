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


def signal_scale(signals_KCHW: np.ndarray) -> float:
    """Return the size at which the colours of signals are full: the 99.5th percentile of their sizes over 0.

    The maximum would let one pixel darken all others. The scale is 1 where all signals are 0.
    """
    sizes = np.abs(_shown(signals_KCHW))
    sizes = sizes[sizes > 0]
    return float(np.percentile(sizes, PERCENTILE)) if sizes.size else 1.0


def signal_pixels(signal_CHW: np.ndarray, scale: float) -> np.ndarray:
    """Return the pixels of a signal.

    The signal of an image in colours is drawn around grey: each channel is 0.5 where it is 0, full where it is `scale`,
    and none where it is -`scale`. That of other images is summed over its channels: black at 0, red above, blue below.
    """
    signed_CHW = (_shown(signal_CHW[None])[0] / scale).clip(-1, 1)
    if len(signed_CHW) == 3:
        pixels_HWC: np.ndarray = (signed_CHW.transpose(1, 2, 0) + 1) / 2
        return pixels_HWC
    return np.asarray(colormaps[SIGNED]((signed_CHW[0] + 1) / 2))[..., :3]


def heated_pixels(image_CHW: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Return an image in muted grey under a heat map with values from 0 to 1, which covers more where it is hotter."""
    grey_HW1 = 0.15 + 0.7 * (image_pixels(image_CHW) @ LUMA)[..., None]
    opacity_HW1 = STRONGEST * np.sqrt(heat_HW)[..., None]
    return (1 - opacity_HW1) * grey_HW1 + opacity_HW1 * np.asarray(colormaps[HEAT](heat_HW))[..., :3]


def remark_of(channels: int) -> str:
    """Return a remark for images that cannot be shown channel by channel; none for grey images and those in colours."""
    return "" if channels in (1, 3) else f"mean of {channels} channels"


def _shown(signals_KCHW: np.ndarray) -> np.ndarray:
    """Return signals as they are drawn: in three channels, or summed over all."""
    return signals_KCHW if signals_KCHW.shape[1] == 3 else signals_KCHW.sum(1, keepdims=True)
