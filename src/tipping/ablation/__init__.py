"""Ablate filters of a network, and measure the accuracy that remains."""

from tipping.ablation.by_class import (
    ClassDrops,
    Drop,
    accuracy_by_class,
    class_drops,
    confusion,
    count_by_class,
    fall_to,
)
from tipping.ablation.evaluation import (
    DropCurve,
    Evaluated,
    accuracies,
    chance_of,
    drop_curve,
    evaluate_ablations,
    evaluate_losses,
    nearly_tied,
)
from tipping.ablation.masks import ablated

__all__ = [
    "ClassDrops",
    "Drop",
    "DropCurve",
    "Evaluated",
    "ablated",
    "accuracies",
    "accuracy_by_class",
    "chance_of",
    "class_drops",
    "confusion",
    "count_by_class",
    "drop_curve",
    "evaluate_ablations",
    "evaluate_losses",
    "fall_to",
    "nearly_tied",
]
