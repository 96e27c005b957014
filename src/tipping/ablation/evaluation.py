"""Predictions of one network under many ablations, and accuracy-drop curves made of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tipping.ablation.masks import ablated, check_scope, gone_channels, layer_values
from tipping.ablation.narrowing import Pass, Prefix, first_layer, without, without_first_input
from tipping.data import Split, evaluation_batches
from tipping.network import Chain, Filters, NotAChain, evaluating

log = logging.getLogger(__name__)
TIED = 1e-4  # of the largest logit: a hundred times the rounding of float32 sums
SHARED = {"cpu": 8}  # batches whose intact maps are held at once, for all ablations; elsewhere one
HELD = {"cpu": 2**29, "cuda": 2**34}  # bytes that the narrowed networks may take which are held from some images on


def evaluate_ablations(
    filters: Filters,
    split: Split,
    ablations: Sequence[np.ndarray],
    *,
    value: Tensor | None = None,
    scope: str = "filter",
) -> np.ndarray:
    """Predict for each image under each ablation: the class of its largest logit.

    The predictions are those of the network within `ablated`, in eval mode. A network that is a `Chain` is narrowed to
    the filters that remain, and the intact maps before the first ablated layer are shared by all ablations; its logits
    differ by rounding, so images whose two largest are nearly tied are predicted anew, by `ablated` itself. Any other
    network is run whole for each ablation, and a warning says why.

    Args:
        ablations: A sets of positions in the network's filter index, each (K,).
        value, scope: as in `ablated`.

    Returns:
        (A, N), of the smallest unsigned type that holds the classes: a byte for up to 256.

    Raises:
        ValueError: as `ablated`, or the network does not give logits (N, C).
    """
    for gone in ablations:
        gone_channels(filters, gone)  # or a mask would be taken for positions
    sets = [tuple(np.unique(gone).tolist()) for gone in ablations]
    row_of = {gone: row for row, gone in enumerate(dict.fromkeys(sets))}
    distinct, model = [np.array(gone, dtype=int) for gone in row_of], filters.model
    with evaluating(model), torch.inference_mode():
        image_1CHW = split.images_NCHW[:1]
        logits_1C = model(image_1CHW.clone())
        if not isinstance(logits_1C, Tensor) or logits_1C.ndim != 2:
            got = tuple(logits_1C.shape) if isinstance(logits_1C, Tensor) else f"a {type(logits_1C).__name__}"
            raise ValueError(f"{type(model).__name__} must give logits (N, C), got {got} for an image")
        try:
            chain = Chain.trace(filters, image_1CHW)
        except NotAChain as reason:
            _say_once(f"{type(model).__name__} runs whole for each ablation: {reason}")
            batches = _masked(filters, split, distinct, value, scope)
        else:
            batches = _narrowed(chain, filters, split, distinct, value, scope)
        found_AN = torch.empty(len(distinct), len(split), dtype=torch.int32, device=image_1CHW.device)
        total = len(distinct) * len(split)
        bar = tqdm(total=total, desc="ablations", unit=" images", unit_scale=True, leave=False, disable=None)
        with bar, closing(batches):  # or an exception here would leave the network ablated while its traceback lives
            for row, start, logits_NC in batches:
                found_AN[row, start : start + len(logits_NC)] = logits_NC.argmax(1)
                bar.update(len(logits_NC))
    predictions_AN = found_AN.cpu().numpy().astype(np.min_scalar_type(logits_1C.shape[1] - 1))
    return predictions_AN[[row_of[gone] for gone in sets]]


Logits = Generator[
    tuple[int, int, Tensor], None, None
]  # number of the ablation, first image, logits (N, C) of some images


def _masked(
    filters: Filters, split: Split, ablations: Sequence[np.ndarray], value: Tensor | None, scope: str
) -> Logits:
    for row, gone in enumerate(ablations):
        with ablated(filters, gone, value=value, scope=scope):
            start = 0
            for images_NCHW, _ in evaluation_batches(split):
                yield row, start, filters.model(images_NCHW.clone())
                start += len(images_NCHW)


def _narrowed(
    chain: Chain, filters: Filters, split: Split, ablations: Sequence[np.ndarray], value: Tensor | None, scope: str
) -> Logits:
    """Predict some images at a time, whose intact maps go with them from one ablation to the next."""
    check_scope(scope, value)
    values, gone = layer_values(filters, value), [gone_channels(filters, positions) for positions in ablations]
    rows = sorted(range(len(gone)), key=lambda row: first_layer(chain, gone[row]))
    size = SHARED.get(split.images_NCHW.device.type, 1) * evaluation_batches(split).size
    whole = sum(parameter.nbytes for parameter in filters.model.parameters())  # none of them is larger
    room = HELD.get(split.images_NCHW.device.type, HELD["cpu"]) // whole

    def narrowed(row: int) -> Pass:
        return without(chain, gone[row], values) if scope == "filter" else without_first_input(chain, gone[row])

    held = {row: narrowed(row) for row in rows[:room]} if len(split) > size else {}
    for start in range(0, len(split), size):
        batches = evaluation_batches(split[start : start + size])
        prefixes = [(Prefix(chain, images_NCHW), images_NCHW) for images_NCHW, _ in batches]
        for row in rows:
            left = held[row] if row in held else narrowed(row)
            for number, (prefix, images_NCHW) in enumerate(prefixes):
                logits_NC = prefix.finish(left)
                if left.rounded and bool((tied_N := nearly_tied(logits_NC)).any()):
                    with ablated(filters, ablations[row], value=value, scope=scope):
                        logits_NC[tied_N] = filters.model(images_NCHW[tied_N])
                yield row, start + number * batches.size, logits_NC


def nearly_tied(logits_NC: Tensor) -> Tensor:
    """Return whether rounding could decide which logit is the largest, or one is NaN: boolean (N,)."""
    if logits_NC.shape[1] == 1:
        return logits_NC.isnan()[:, 0]
    first_N, second_N = logits_NC.topk(2, dim=1).values.unbind(1)
    return ~(first_N - second_N > TIED * logits_NC.abs().amax(1))


@functools.cache
def _say_once(sentence: str) -> None:
    log.warning(sentence)


def accuracies(predictions_AN: np.ndarray, labels_N: Tensor) -> list[float]:
    """Return the share of images whose prediction is their label, for each row: in [0, 1]."""
    shares: list[float] = (predictions_AN == labels_N.cpu().numpy()).mean(-1).tolist()
    return shares


def chance_of(split: Split) -> float:
    """Return the accuracy of giving every image the most frequent class."""
    return float(split.labels_N.bincount().max()) / len(split)


@dataclass(frozen=True)
class DropCurve:
    """Accuracy on `images` images against the number of filters ablated.

    Attributes:
        images: how many images the accuracies are shares of.
        removed: numbers of filters, from 0 to all the relevant ones.
        selected: accuracies with the strongest relevant filters ablated.
        weakest: the same with the weakest.
        random: the same for each random control: draws × points.
        predictions_OPN: the predicted classes: orders (selected, weakest, random) × points × images.
    """

    images: int
    removed: list[int]
    selected: list[float]
    weakest: list[float]
    random: list[list[float]]
    predictions_OPN: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of_ends(cls, intact_N: np.ndarray, predictions_AN: np.ndarray, labels_N: Tensor, count: int) -> DropCurve:
        """Return the curve of two points, none and all of `count` filters removed, from predictions at hand.

        Args:
            predictions_AN: without the selected filters, and without each random control.
        """
        selected_N, *random = predictions_AN
        predictions_OPN = np.array([[intact_N, without_N] for without_N in (selected_N, selected_N, *random)])
        selected, weakest, *of_random = (accuracies(predictions_PN, labels_N) for predictions_PN in predictions_OPN)
        return cls(len(intact_N), [0, count], selected, weakest, of_random, predictions_OPN)

    def record(self) -> dict[str, Any]:
        """Return all of the curve but the predictions, for a record."""
        return {name: value for name, value in vars(self).items() if name != "predictions_OPN"}


def drop_curve(
    filters: Filters,
    split: Split,
    order_K: np.ndarray,
    controls: Sequence[np.ndarray],
    points: int,
    *,
    value: Tensor | None = None,
    scope: str = "filter",
) -> DropCurve:
    """Accuracy as the filters of an order, strongest or weakest first, and of its controls go one after another.

    Measured at evenly spaced counts. `value` and `scope` as in `ablated`.
    """
    points = min(points, len(order_K))  # a count each
    removed = sorted({round(count) for count in np.linspace(0, len(order_K), points + 1).tolist()})
    orders = [order_K, order_K[::-1], *controls]
    ablations = [order[:count] for order in orders for count in removed]
    predictions_AN = evaluate_ablations(filters, split, ablations, value=value, scope=scope)
    predictions_OPN = predictions_AN.reshape(len(orders), len(removed), len(split))
    selected, weakest, *random = (accuracies(predictions_PN, split.labels_N) for predictions_PN in predictions_OPN)
    return DropCurve(len(split), removed, selected, weakest, random, predictions_OPN)
