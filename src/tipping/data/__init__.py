"""Labelled images: load data sets by name, split them, and slice them into batches."""

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
