"""Predictions of a network under many ablations, and accuracy-drop curves made from the predictions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from tipping.ablation.engine import Engine
from tipping.ablation.masks import ablated, gone_channels
from tipping.ablation.narrowing import Pass, Prefix
from tipping.data import Split, evaluation_batches
from tipping.network import Filters, NotAGraph, evaluating

log = logging.getLogger(__name__)
TIED = 1e-4  # share of the largest logit under which two logits are tied: 100 times the rounding of float32 sums
SHARED = {"cpu": 8}  # batches whose intact maps are held at once, for all ablations; one on other devices
HELD = {"cpu": 2**29, "cuda": 2**34}  # bytes of narrowed networks that may be kept from one group of images to the next


def evaluate_ablations(
    filters: Filters,
    split: Split,
    ablations: Sequence[np.ndarray],
    *,
    value: Tensor | None = None,
    scope: str = "filter",
) -> np.ndarray:
    """Predict the class of each image under each ablation: the class with the largest logit.

    The predictions equal those of the network within `ablated`, in eval mode. Of a network that is a `Graph`,
    only what an ablation changes is computed, and all ablations share the rest. Its logits differ by rounding; images
    whose two largest logits are nearly tied are predicted again within `ablated`. Any other network runs whole for each
    ablation, and a warning gives the reason.

    Args:
        ablations: A sets of filters, each as positions in the network's filter index: (K,).
        value, scope: as in `ablated`.

    Returns:
        predicted classes (A, N), in the smallest unsigned type that holds all classes: a byte for up to 256 classes.

    Raises:
        ValueError: a position, `value` or `scope` is one that `ablated` refuses, or the network does not give logits
            (N, C).
    """
    return _evaluated(filters, split, ablations, value, scope, with_losses=False)[0]


class Evaluated(NamedTuple):
    """The predictions and losses of a network under ablations.

    Attributes:
        predictions_AN: the predicted classes, as `evaluate_ablations` returns them.
        losses_AN: the cross-entropy of each image's label, in nats: float32.
    """

    predictions_AN: np.ndarray
    losses_AN: np.ndarray


def evaluate_losses(
    filters: Filters,
    split: Split,
    ablations: Sequence[np.ndarray],
    *,
    value: Tensor | None = None,
    scope: str = "filter",
) -> Evaluated:
    """Predict the class of each image under each ablation, and measure the cross-entropy of its label.

    Arguments and errors are those of `evaluate_ablations`; losses differ by rounding from those within `ablated`.
    """
    predictions_AN, losses_AN = _evaluated(filters, split, ablations, value, scope, with_losses=True)
    assert losses_AN is not None
    return Evaluated(predictions_AN, losses_AN)


def _evaluated(
    filters: Filters,
    split: Split,
    ablations: Sequence[np.ndarray],
    value: Tensor | None,
    scope: str,
    with_losses: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    for gone in ablations:
        gone_channels(filters, gone)  # checks: below, a boolean mask would count as positions
    sets = [tuple(np.unique(gone).tolist()) for gone in ablations]
    row_of = {gone: row for row, gone in enumerate(dict.fromkeys(sets))}
    distinct, model = [np.array(gone, dtype=int) for gone in row_of], filters.model
    with evaluating(model), torch.no_grad():  # not inference mode: a network may keep tensors for a pass with gradients
        image_1CHW = split[:1].images_NCHW
        logits_1C = model(image_1CHW.clone())
        if not isinstance(logits_1C, Tensor) or logits_1C.ndim != 2:
            got = tuple(logits_1C.shape) if isinstance(logits_1C, Tensor) else f"a {type(logits_1C).__name__}"
            raise ValueError(f"{type(model).__name__} must give logits (N, C), got {got} for an image")
        try:
            engine = Engine.tried(filters, image_1CHW, value, scope)
        except NotAGraph as reason:
            _say_once(f"{type(model).__name__} runs whole for each ablation: {reason}")
            batches = _masked(filters, split, distinct, value, scope)
        else:
            batches = _narrowed(engine, split, distinct)
        classes_AN = torch.empty(len(distinct), len(split), dtype=torch.int32, device=image_1CHW.device)
        losses_AN = torch.empty(*classes_AN.shape if with_losses else (0, 0), device=image_1CHW.device)
        total = len(distinct) * len(split)
        bar = tqdm(total=total, desc="ablations", unit=" images", unit_scale=True, leave=False, disable=None)
        with bar, closing(batches):  # or an exception would keep the network ablated while its traceback lives
            for row, start, logits_NC in batches:
                part = slice(start, start + len(logits_NC))
                classes_AN[row, part] = logits_NC.argmax(1)
                if with_losses:
                    losses_AN[row, part] = cross_entropy(logits_NC.float(), split.labels_N[part], reduction="none")
                bar.update(len(logits_NC))
    predictions_AN = classes_AN.cpu().numpy().astype(np.min_scalar_type(logits_1C.shape[1] - 1))
    rows = [row_of[gone] for gone in sets]
    return predictions_AN[rows], losses_AN.cpu().numpy()[rows] if with_losses else None


Logits = Generator[
    tuple[int, int, Tensor], None, None
]  # number of the ablation, position of the first image, logits (N, C) of some images


def _masked(
    filters: Filters, split: Split, ablations: Sequence[np.ndarray], value: Tensor | None, scope: str
) -> Logits:
    for row, gone in enumerate(ablations):
        with ablated(filters, gone, value=value, scope=scope):
            start = 0
            for images_NCHW, _ in evaluation_batches(split):
                yield row, start, filters.model(images_NCHW.clone())
                start += len(images_NCHW)


def _narrowed(engine: Engine, split: Split, ablations: Sequence[np.ndarray]) -> Logits:
    """Yield the logits of some images under all ablations, then of the next images; ablations share intact maps."""
    filters, device = engine.filters, split.labels_N.device.type
    schedule = engine.schedule([frozenset(engine.plan(gone).reads) for gone in ablations])
    size = SHARED.get(device, 1) * evaluation_batches(split).size
    whole = sum(parameter.nbytes for parameter in filters.model.parameters())  # no narrowed network is larger
    room = HELD.get(device, HELD["cpu"]) // whole
    held = {row: Pass(engine.plan(ablations[row])) for row in schedule.rows[:room]} if len(split) > size else {}
    for start in range(0, len(split), size):
        batches = evaluation_batches(split[start : start + size])
        prefixes = [(Prefix(schedule, images_NCHW), images_NCHW) for images_NCHW, _ in batches]
        for row in schedule.rows:
            narrow = held[row] if row in held else Pass(engine.plan(ablations[row]))
            for number, (prefix, images_NCHW) in enumerate(prefixes):
                logits_NC = prefix.logits(row, narrow)
                if bool((tied_N := nearly_tied(logits_NC)).any()):
                    with ablated(filters, ablations[row], value=engine.value, scope=engine.scope):
                        logits_NC = logits_NC.clone()
                        logits_NC[tied_N] = filters.model(images_NCHW[tied_N])
                yield row, start + number * batches.size, logits_NC


def nearly_tied(logits_NC: Tensor) -> Tensor:
    """Return whether rounding could decide which logit of an image is the largest, or a logit is NaN: boolean (N,)."""
    if logits_NC.shape[1] == 1:
        return logits_NC.isnan()[:, 0]
    first_N, second_N = logits_NC.topk(2, dim=1).values.unbind(1)
    return ~(first_N - second_N > TIED * logits_NC.abs().amax(1))


@functools.cache
def _say_once(sentence: str) -> None:
    log.warning(sentence)


def accuracies(predictions_AN: np.ndarray, labels_N: Tensor) -> list[float]:
    """Return the accuracy of each row of predictions, in [0, 1]: the share of images predicted rightly."""
    shares: list[float] = (predictions_AN == labels_N.cpu().numpy()).mean(-1).tolist()
    return shares


def chance_of(split: Split) -> float:
    """Return chance accuracy: the accuracy of predicting the most frequent class for every image."""
    return float(split.labels_N.bincount().max()) / len(split)


@dataclass(frozen=True)
class DropCurve:
    """An accuracy-drop curve: accuracy against the number of filters ablated.

    Attributes:
        images: the number of images N that accuracy is measured on.
        removed: the number of filters ablated at each of P points, from 0 to all relevant filters.
        selected: accuracy at each point, with the strongest relevant filters ablated first.
        weakest: accuracy at each point, with the weakest relevant filters ablated first.
        random: accuracy at each point under each random control: draws × points.
        predictions_OPN: the predicted classes: orders (selected, weakest, then each control) × points × images.
    """

    images: int
    removed: list[int]
    selected: list[float]
    weakest: list[float]
    random: list[list[float]]
    predictions_OPN: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of_ends(cls, intact_N: np.ndarray, predictions_AN: np.ndarray, labels_N: Tensor, count: int) -> DropCurve:
        """Return the curve of two points, 0 and `count` filters ablated, from predictions that are known already.

        Args:
            intact_N: predictions of the intact network.
            predictions_AN: predictions with the relevant filters ablated, then with each random control ablated.
        """
        selected_N, *random = predictions_AN
        predictions_OPN = np.array([[intact_N, ablated_N] for ablated_N in (selected_N, selected_N, *random)])
        selected, weakest, *by_control = (accuracies(predictions_PN, labels_N) for predictions_PN in predictions_OPN)
        return cls(len(intact_N), [0, count], selected, weakest, by_control, predictions_OPN)

    def record(self) -> dict[str, Any]:
        """Return the fields of the curve without the predictions, for a job's record."""
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
    """Measure accuracy as more and more filters are ablated, for the relevant filters and random controls.

    Args:
        order_K: positions of the relevant filters, strongest first.
        controls: random controls of these K filters, each (K,).
        points: the number of steps from 0 to K filters, evenly spaced; at most K.
        value, scope: as in `ablated`.

    Raises:
        ValueError: as `evaluate_ablations`.
    """
    points = min(points, len(order_K))
    removed = sorted({round(count) for count in np.linspace(0, len(order_K), points + 1).tolist()})
    orders = [order_K, order_K[::-1], *controls]
    ablations = [order[:count] for order in orders for count in removed]
    predictions_AN = evaluate_ablations(filters, split, ablations, value=value, scope=scope)
    predictions_OPN = predictions_AN.reshape(len(orders), len(removed), len(split))
    selected, weakest, *random = (accuracies(predictions_PN, split.labels_N) for predictions_PN in predictions_OPN)
    return DropCurve(len(split), removed, selected, weakest, random, predictions_OPN)
