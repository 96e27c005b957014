"""Batches of images and labels from any loader, checked one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from tipping.data import Split
from tipping.errors import InputError

Batches = Iterable[tuple[Tensor, Tensor]]


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model: that of its first parameter, the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def checked(batches: Batches, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader on a device.

    Raises:
        InputError: there are none, or one is no pair of images and whole labels, or of another size than the first.
    """
    shape: torch.Size | None = None
    for number, batch in enumerate(_outside_inference(batches)):
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        if not pair or batch[0].ndim != 4 or batch[1].shape != batch[0].shape[:1] or batch[1].is_floating_point():
            raise InputError(f"batch {number}: give pairs of images (N, C, H, W) and whole labels (N,)")
        images_NCHW, labels_N = batch
        shape = shape or images_NCHW.shape[1:]
        if images_NCHW.shape[1:] != shape:
            raise InputError(f"batch {number}: its images are of another size than those before; resize them")
        if len(labels_N):
            yield images_NCHW.to(device), labels_N.to(device).long()
    if shape is None:
        raise InputError("batches: there are none; give a DataLoader, or a list of (images, labels)")


def _outside_inference(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches, whose loader may keep its tensors for a training: none is made in inference mode."""
    iterator = iter(batches)
    while True:
        with torch.inference_mode(False):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def with_labels_below(batches: Batches, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches whose labels are classes of a network.

    Raises:
        InputError: a label is none.
    """
    for images_NCHW, labels_N in batches:
        if not 0 <= int(labels_N.min()) <= int(labels_N.max()) < classes:
            raise InputError(f"batches: labels must go from 0 to {classes - 1}, one for each logit of the network")
        yield images_NCHW, labels_N


def gathered(batches: Batches, model: nn.Module, classes: int) -> Split:
    """Put the batches of a loader together, on a model's device.

    Raises:
        InputError: as `checked` and `with_labels_below`.
    """
    pairs = list(with_labels_below(checked(batches, device_of(model)), classes))
    if not pairs:
        raise InputError("batches: they hold no images; give a DataLoader, or a list of (images, labels)")
    return Split(torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs]))
