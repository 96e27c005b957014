"""What ablations cost each class: accuracies, where the images of a class fall to, and drops with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LIMIT = 1.959963984540054  # 97.5 % quantile of the normal distribution


class Drop(NamedTuple):
    """A drop of accuracy, or a difference of drops, with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class ClassDrops(NamedTuple):
    """What the ablation of the filters of a class costs.

    Attributes:
        own_class: the drop of the accuracy of that class; None where it has no images.
        collateral: the mean drop over the other classes that have images; None where there are none.
        specificity: own-class minus collateral; None where one of them is.
    """

    own_class: Drop | None
    collateral: Drop | None
    specificity: Drop | None


def count_by_class(labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of each class: (C,)."""
    return np.bincount(labels_N, minlength=classes)


def accuracy_by_class(predictions_AN: np.ndarray, labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Return the accuracy on the images of each class, the recall, under each of A ablations.

    Returns:
        accuracies in [0, 1], NaN for a class without images: (A, C).
    """
    right_AN = predictions_AN == labels_N
    right_AC = np.stack([np.bincount(labels_N, weights=right_N, minlength=classes) for right_N in right_AN])
    count_C = count_by_class(labels_N, classes)
    return np.divide(right_AC, count_C, out=np.full_like(right_AC, np.nan), where=count_C > 0)


def confusion(predictions_N: np.ndarray, labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of each class, in rows, that are given each class, in columns: (C, C)."""
    pair_N = labels_N.astype(int) * classes + predictions_N
    return np.bincount(pair_N, minlength=classes * classes).reshape(classes, classes)


def class_drops(
    label: int,
    labels_N: np.ndarray,
    drop_DN: np.ndarray,
    other_labels_M: np.ndarray,
    other_drop_DM: np.ndarray,
) -> ClassDrops:
    """Estimate what D ablations of filters of one class cost this class, and what they cost the others.

    A drop of an image is whether the intact network is right minus whether the ablated one is: -1, 0 or 1. The interval
    of a mean drop is normal, over images of each class, with half an image more in each cell of right and wrong before
    and after [agresti2005]. Of several ablations, random draws, it is widened by Student's interval over draws.

    Args:
        label: the class.
        labels_N, drop_DN: the labels of some images and their drops, from which the own-class drop is taken.
        other_labels_M, other_drop_DM: those of some images, from which the collateral drop is taken.
    """
    classes = 1 + max(label, int(labels_N.max(initial=0)), int(other_labels_M.max(initial=0)))
    its_N, present_C = labels_N == label, count_by_class(other_labels_M, classes) > 0
    present_C[label] = False
    its_C, others_C = np.zeros(classes), present_C / max(int(present_C.sum()), 1)
    its_C[label] = its_N.any()
    its = _Sums.by_class(labels_N[its_N], drop_DN[:, its_N], classes)
    others = _Sums.by_class(other_labels_M, other_drop_DM, classes)
    return ClassDrops(
        _estimate([(its_C, its)]) if its_C.any() else None,
        _estimate([(others_C, others)]) if others_C.any() else None,
        _estimate([(its_C, its), (-others_C, others)]) if its_C.any() and others_C.any() else None,
    )


class _Sums(NamedTuple):
    """The drops of N images under D ablations, class by class.

    Attributes:
        count_C: the number of images.
        means_DC: the mean drop under each ablation; 0 of a class without images.
        sum_C, squares_C: of the images' drops, means over ablations: their sum, and that of their squares.
    """

    count_C: np.ndarray
    means_DC: np.ndarray
    sum_C: np.ndarray
    squares_C: np.ndarray

    @classmethod
    def by_class(cls, labels_N: np.ndarray, drop_DN: np.ndarray, classes: int) -> _Sums:
        """Add up drops (D, N) by the labels of the images."""

        def added(values_N: np.ndarray) -> np.ndarray:
            return np.bincount(labels_N, weights=values_N, minlength=classes)

        count_C, mean_N = count_by_class(labels_N, classes), drop_DN.mean(0)
        means_DC = np.stack([added(drop_N) for drop_N in drop_DN]) / np.maximum(count_C, 1)
        return cls(count_C, means_DC, added(mean_N), added(mean_N**2))


def _estimate(parts: list[tuple[np.ndarray, _Sums]]) -> Drop:
    """Estimate Σ_p Σ_c a_pc · mean drop of class c in part p, where no two parts share images of a class."""
    from scipy.special import stdtrit  # here: it takes long to load

    each_D = sum((one.means_DC @ share_C for share_C, one in parts), np.zeros(len(parts[0][1].means_DC)))
    mean, middle, variance = float(each_D.mean()), 0.0, 0.0
    for share_C, one in parts:
        size_C = one.count_C + 2
        middle += float(share_C @ (one.sum_C / size_C))
        variance += float(share_C**2 @ ((one.squares_C + 1 - one.sum_C**2 / size_C) / size_C**2))
    draws = len(each_D)
    spread = float(stdtrit(draws - 1, 0.975)) * each_D.std(ddof=1) / draws**0.5 if draws > 1 else 0.0
    reach = float((LIMIT**2 * variance + spread**2) ** 0.5)
    most = float(sum(np.abs(share_C).sum() for share_C, _ in parts))
    return Drop(mean, min(mean, max(middle - reach, -most)), max(mean, min(middle + reach, most)))


def fall_to(confusion_CC: np.ndarray) -> Mapping[int, tuple[int, float]]:
    """Say which class most wrong images of each class are given, and their share of the images of the class.

    Of classes that get as many, it is the first; classes without wrong images are left out.
    """
    wrong_CC = confusion_CC - np.diag(np.diag(confusion_CC))
    count_C = confusion_CC.sum(1)
    return {
        label: (int(wrong_CC[label].argmax()), float(wrong_CC[label].max() / count_C[label]))
        for label in np.flatnonzero(wrong_CC.any(1)).tolist()
    }
