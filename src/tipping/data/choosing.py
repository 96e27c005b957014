"""What of a data set a user asks for: some classes, some training images, the logits of the classes; and its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tipping.data.labelled import check_classes, check_labels
from tipping.data.splits import Dataset, Split
from tipping.errors import InputError, require

NAMED = 10  # classes in a message, at most


def check_images(dataset: Dataset) -> None:
    """Check the images and labels of a data set.

    Raises:
        InputError: there are fewer than two classes, no training or no test images, a label of no class, a class of
            test images without training images, images of two sizes, or pixels in memory that are not finite.
    """
    check_classes(dataset.name, dataset.classes)
    for part, split in (("training", dataset.train), ("test", dataset.test)):
        title = f"data={dataset.name}, {part} images"
        if len(split) == 0:
            raise InputError(f"{title}: there are none; give some")
        check_labels(title, split.labels_N, len(dataset.classes))
        if isinstance(split.images, Tensor):
            _check_finite(title, split)
    shapes = dataset.train.image_shape, dataset.test.image_shape
    if shapes[0] != shapes[1]:
        raise InputError(
            f"data={dataset.name}: training and test images are of different sizes: {shapes[0]} and {shapes[1]}; "
            "resize them"
        )
    check_training_images(dataset)


def check_training_images(dataset: Dataset) -> None:
    """Raise `InputError` for a class of test images without training images."""
    train_C, test_C = (one.labels_N.bincount(minlength=len(dataset.classes)) for one in (dataset.train, dataset.test))
    if len(lacking := ((test_C > 0) & (train_C == 0)).nonzero().flatten()):
        raise InputError(
            f"data={dataset.name}: the class {dataset.classes[int(lacking[0])]} has test images but none to train on: "
            "add some, give a larger data.images, or leave the class out by data.classes"
        )


def _check_finite(title: str, split: Split) -> None:
    first = 0
    for part in split.parts(1000) if split.images.dtype.is_floating_point else ():
        bad_N = ~part.isfinite().flatten(1).all(1)
        if bad_N.any():
            position = first + int(bad_N.nonzero()[0])
            raise InputError(f"{title}: image {position} has pixels that are not finite: mend or remove it")
        first += len(part)


def with_classes(dataset: Dataset, wanted: Sequence[str | int]) -> Dataset:
    """Return the data set of some classes, labelled 0, 1, … in the order given.

    Args:
        wanted: names of classes, or numbers of those of which no class has the name.

    Raises:
        InputError: there is no such class, a class is named twice, or fewer than two are.
    """
    labels = [_label(one, dataset.classes) for one in wanted]
    listed = ",".join(map(str, wanted))
    require(len(labels) > 1, "data.classes", f"[{listed}]", "give two classes or more")
    require(len(set(labels)) == len(labels), "data.classes", f"[{listed}]", "give each class once")
    new_C = torch.full((len(dataset.classes),), -1)
    new_C[labels] = torch.arange(len(labels))

    def some(split: Split) -> Split:
        labels_N = new_C[split.labels_N]
        chosen = split[(labels_N >= 0).nonzero().flatten()]
        return replace(chosen, labels_N=new_C[chosen.labels_N])

    names = tuple(dataset.classes[label] for label in labels)
    return replace(dataset, train=some(dataset.train), test=some(dataset.test), classes=names)


def _label(wanted: str | int, classes: Sequence[str]) -> int:
    """Return the label of a class by its name or number."""
    if str(wanted) in classes:
        return classes.index(str(wanted))
    if isinstance(wanted, int) and 0 <= wanted < len(classes):
        return wanted
    more = ", …" if len(classes) > NAMED else ""
    raise InputError(f"data.classes: no class is {wanted}; give some of {', '.join(classes[:NAMED])}{more}")


def with_logits(dataset: Dataset, logits: Sequence[int]) -> Dataset:
    """Return the data set with the logits of a network as labels; classes of others are called `logit 0`, …

    Args:
        logits: the logit of each class, in the order of the classes.

    Raises:
        InputError: there are fewer or more than classes, or a logit is below 0 or of two classes.
    """
    given, classes = f"[{','.join(map(str, logits))}]", len(dataset.classes)
    require(len(logits) == len(set(logits)) == classes, "data.labels", given, f"give {classes}, one for each class")
    require(min(logits) >= 0 and max(logits) < 2**31, "data.labels", given, "give numbers of logits, which start at 0")
    names = [f"logit {number}" for number in range(max(logits) + 1)]
    for name, logit in zip(dataset.classes, logits, strict=True):
        names[logit] = name
    of_class_C = torch.tensor(logits)
    train, test = (replace(one, labels_N=of_class_C[one.labels_N]) for one in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test, classes=tuple(names), logits=tuple(logits))
