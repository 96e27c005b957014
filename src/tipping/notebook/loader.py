"""Batches of images and labels from any loader, checked one by one and tried on the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tipping.data import Split, evaluation_batches
from tipping.errors import InputError, require
from tipping.network import evaluating, in_words, logits_of

Pairs = Iterable[tuple[Tensor, Tensor]]
Batches = Pairs | Split


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter; the CPU if the model has no parameter."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def checked(batches: Batches, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader that hold images, on the device of the model.

    Args:
        batches: the loader, or a split of `tipping.images`.
        model: the network that takes the images.

    Raises:
        InputError: there are no images; a batch is no pair of images and whole labels, its images are of another
            size than the first, or a pixel is not finite; or as `try_on`.
    """
    pairs = evaluation_batches(batches) if isinstance(batches, Split) else batches
    device, shape, tried = device_of(model), None, False
    for number, batch in enumerate(_outside_inference(pairs)):
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        if not pair or batch[0].ndim != 4 or batch[1].shape != batch[0].shape[:1] or batch[1].is_floating_point():
            raise InputError(f"batch {number}: give pairs of images (N, C, H, W) and whole labels (N,), as tensors")
        images_NCHW, labels_N = batch
        shape = shape or images_NCHW.shape[1:]
        if images_NCHW.shape[1:] != shape:
            raise InputError(f"batch {number}: its images are of another size than those before; resize them")
        if len(wrong := (~images_NCHW.isfinite().flatten(1).all(1)).nonzero()):
            raise InputError(f"batch {number}: image {int(wrong[0])} has pixels that are not finite; mend or remove it")
        if len(labels_N):
            images_NCHW = images_NCHW.to(device)
            if not tried:
                try_on(model, images_NCHW[:1])
                tried = True
            yield images_NCHW, labels_N.to(device).long()
    if not tried:
        raise InputError(
            "batches: they hold no images; give a DataLoader, or a list of (images, labels); a generator can be gone "
            "through only once"
        )


def try_on(model: nn.Module, image_1CHW: Tensor) -> None:
    """Give a model one image, in eval mode.

    Raises:
        InputError: the model cannot take the image, or gives something else than logits (1, C).
    """
    name, what = type(model).__name__, f"images of shape {tuple(image_1CHW.shape[1:])} and {image_1CHW.dtype}"
    with evaluating(model), torch.no_grad():
        try:
            given = model(image_1CHW.clone())  # the model may work in place
        except RuntimeError as error:
            raise InputError(f"{what}: {name} cannot take them ({error}); convert them") from error
    logits = logits_of(given)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError(f"{name} gives {in_words(given)} for an image: wrap it in a module that gives logits (N, C)")


def _outside_inference(batches: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader, made outside inference mode, since the loader may use its tensors for training."""
    try:
        iterator = iter(batches)
    except TypeError as error:
        raise InputError(f"batches: {error}; give a DataLoader, or a list of (images, labels)") from error
    while True:
        with torch.inference_mode(False):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def with_labels_below(batches: Pairs, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches, and check that their labels are classes of a network.

    Raises:
        InputError: a label is not from 0 to classes - 1.
    """
    before = 0
    for images_NCHW, labels_N in batches:
        _check_labels(labels_N, classes, before)
        before += len(labels_N)
        yield images_NCHW, labels_N


def _check_labels(labels_N: Tensor, classes: int, before: int = 0) -> None:
    """Raise `InputError` for the first label that is no class; it is counted with the images of the batches before."""
    if len(wrong := ((labels_N < 0) | (labels_N >= classes)).nonzero()):
        first = int(wrong[0])
        raise InputError(
            f"batches: labels must go from 0 to {classes - 1}, one for each logit of the network; image "
            f"{before + first} has {int(labels_N[first])}"
        )


def gathered(batches: Batches, model: nn.Module, classes: int) -> Split:
    """Put all batches of a loader together, on the device of a model; of a split, leave the images where they are.

    Raises:
        InputError: as `checked` and `with_labels_below`.
    """
    if isinstance(batches, Split):
        split = batches.to(device_of(model))
        try_on(model, split[:1].images_NCHW)
        _check_labels(split.labels_N, classes)
        return split
    pairs = list(with_labels_below(checked(batches, model), classes))
    images_NCHW, labels_N = (torch.cat(part) for part in zip(*pairs, strict=True))
    return Split(images_NCHW, labels_N, normalisation=None)  # the loader has done what there is to do


def class_names(count: int, classes: Sequence[str] | None, batches: object = None) -> list[str] | None:
    """Return the names of a network's classes: those given, or those of a loader's data set; None if there are none.

    Args:
        count: the number of classes.
        classes: the names that are given.
        batches: the loader.

    Raises:
        InputError: there is not one name for each class, or two have the same.
    """
    if classes is not None:
        names = [str(name) for name in classes]
        fits = len(names) == count
        require(fits, "classes", f"{len(names)} names", f"give one for each of {count} logits")
        return _distinct(names)
    while batches is not None:
        given = getattr(batches, "classes", None)
        if isinstance(given, list | tuple) and len(given) == count:
            return _distinct(
                [", ".join(name) if isinstance(name, tuple) else str(name) for name in given]
            )  # ImageNet's
        batches = getattr(batches, "dataset", None)  # of a loader, or of a subset
    return None


def _distinct(names: list[str]) -> list[str]:
    """Return names of classes, or raise `InputError` where two have the same, which tables could not tell apart."""
    name, count = Counter(names).most_common(1)[0]
    require(count == 1, "classes", f"{count} times {name}", "give each class a name of its own, by classes=[…]")
    return names
