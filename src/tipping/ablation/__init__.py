"""Ablate filters of a network, and measure the accuracy that remains."""

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
    "DropCurve",
    "Evaluated",
    "ablated",
    "accuracies",
    "chance_of",
    "drop_curve",
    "evaluate_ablations",
    "evaluate_losses",
    "nearly_tied",
]
