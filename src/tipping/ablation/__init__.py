"""Ablate filters of a network, and measure the accuracy that remains."""

from tipping.ablation.evaluation import DropCurve, accuracies, chance_of, drop_curve, evaluate_ablations, nearly_tied
from tipping.ablation.masks import ablated

__all__ = [
    "DropCurve",
    "ablated",
    "accuracies",
    "chance_of",
    "drop_curve",
    "evaluate_ablations",
    "nearly_tied",
]
