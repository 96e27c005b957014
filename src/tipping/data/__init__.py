"""Images with labels: data sets by name, their splits, batches as slices."""

from tipping.data.sources import load
from tipping.data.splits import CLASSES, CPU, Batches, Dataset, Split, evaluation_batches

__all__ = [
    "CLASSES",
    "CPU",
    "Batches",
    "Dataset",
    "Split",
    "evaluation_batches",
    "load",
]
