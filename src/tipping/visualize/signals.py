"""What filters see: signals sent back from their maps to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tipping.network import Hook, evaluating, hooked, keeping_maps
from tipping.visualize.receptive_field import Site, sides
from tipping.visualize.rectifiers import check_reached
from tipping.visualize.rules import backward_rule

PERCENTILE = 99.5  # of the sizes of a signal at its pixels, at which its colours are full
SEEDS = ("map", "maximum")  # the signals that are sent back
TOGETHER = 64  # images sent through a network at once, at most
PIXELS = TOGETHER * 64**2  # of all these images


@dataclass(frozen=True)
class Sight:
    """The signals that came back to B images, each from the map of one filter.

    Attributes:
        signals_BCHW: the signals at the images.
        maps: for each image, the filter's map (H, W); for a dense unit, its value as a map of one position.
    """

    signals_BCHW: Tensor
    maps: list[Tensor]

    @property
    def peaks(self) -> list[tuple[int, int]]:
        """The row and column of the largest magnitude in each map."""
        return [divmod(int(maps_HW.abs().argmax()), maps_HW.shape[1]) for maps_HW in self.maps]


@dataclass(frozen=True)
class Backward:
    """The way in which signals are sent back.

    Attributes:
        rules: the rules; pictures of one rule only take the first.
        seed, resample, pooling: as in `look`.
    """

    rules: tuple[str, ...] = ("guided", "deconvnet")
    seed: str = "map"
    resample: str = "nearest"
    pooling: bool = False

    def look(self, model: nn.Module, images_BCHW: Tensor, filters: Sequence[tuple[Site, int]], rule: str) -> Sight:
        """Send a signal back to each image in this way, by one rule, as the function `look` does."""
        how = {"seed": self.seed, "resample": self.resample}
        return look(model, images_BCHW, filters, rule=rule, pooling=self.pooling, **how)


def together(images_NCHW: Tensor) -> int:
    """Return how many images of a size are sent through a network at once: its maps stay in memory."""
    return max(1, min(TOGETHER, PIXELS // (images_NCHW.shape[2] * images_NCHW.shape[3])))


def look(
    model: nn.Module,
    images_BCHW: Tensor,
    filters: Sequence[tuple[Site, int]],
    *,
    rule: str = "guided",
    seed: str = "map",
    resample: str = "nearest",
    pooling: bool = False,
) -> Sight:
    """Send a signal back from one filter's map to each image.

    A layer that is used more than once sends the signal from its last use. A filter that does not respond leaves its
    image black.

    Args:
        model: the network.
        images_BCHW: the images.
        filters: for each image, the site of a filter's map (the layer, and the submodule that gives its maps), and the
            filter's channel there.
        seed: the signal at the filter's map: `map`, the map itself; or `maximum`, the value of largest magnitude at its
            position, and zero elsewhere.
        rule, resample, pooling: as in `backward_rule`.

    Returns:
        the signals at the images, and the maps.

    Raises:
        ValueError: the rule, the seed or the resampling is unknown; there is no image, or not one filter for each
            image; the network has no such layer or channel, or the images do not pass it.
        InputError: the rule does not fit an activation of the network.
    """
    if seed not in SEEDS:
        raise ValueError(f"seed must be one of {', '.join(SEEDS)}, got {seed!r}")
    if not len(images_BCHW) or len(images_BCHW) != len(filters):
        raise ValueError(f"there must be one filter for each image, got {len(images_BCHW)} and {len(filters)}")
    names = {name for name, _ in model.named_modules()}
    if unknown := [name for site, _ in filters for name in site if name not in names]:
        raise ValueError(f"the network has no {unknown[0]}")
    with torch.inference_mode(False), evaluating(model), keeping_maps(), backward_rule(rule, resample, pooling):
        few = together(images_BCHW)
        starts = range(0, len(images_BCHW), few)
        parts = [
            _look(model, images_BCHW[start : start + few], filters[start : start + few], seed, rule)
            for start in tqdm(starts, desc="signals", leave=False, disable=None)
        ]
    return Sight(torch.cat([part.signals_BCHW for part in parts]), [maps for part in parts for maps in part.maps])


def _look(model: nn.Module, images_BCHW: Tensor, filters: Sequence[tuple[Site, int]], seed: str, rule: str) -> Sight:
    maps: dict[int, Tensor] = {}
    starts: dict[Site, Tensor] = {}

    def sending(site: Site) -> Hook:
        rows = [row for row, (other, _) in enumerate(filters) if other == site]
        channels = [filters[row][1] for row in rows]

        def hook(_: nn.Module, __: object, maps_NCHW: Tensor) -> None:
            for channel in channels:
                if not 0 <= channel < maps_NCHW.shape[1]:
                    raise ValueError(f"{site[0]} has {maps_NCHW.shape[1]} filters, no channel {channel}")
            mine = maps_NCHW.reshape(*maps_NCHW.shape[:2], *sides(maps_NCHW))[rows, channels]
            maps.update(zip(rows, mine.detach().clone(), strict=True))
            flat = mine.flatten(1)
            sent = flat if seed == "map" else flat.gather(1, flat.abs().argmax(1, keepdim=True))
            starts[site] = sent.square().sum() / 2  # the gradient of this is the signal sent

        return hook

    images_BCHW = images_BCHW.detach().clone().requires_grad_()
    with torch.enable_grad(), hooked(model, [(*site, sending(site)) for site in dict.fromkeys(s for s, _ in filters)]):
        model(images_BCHW.clone())  # a copy, since the first module may work in place
    if missed := [site[0] for site, _ in filters if site not in starts]:
        raise ValueError(f"{missed[0]} is not on the way of the images")
    sent = sum(starts.values(), torch.zeros(()))
    if rule != "gradient":
        check_reached(rule, sent)
    (signals_BCHW,) = torch.autograd.grad(sent, images_BCHW)
    return Sight(signals_BCHW, [maps[row] for row in range(len(filters))])
