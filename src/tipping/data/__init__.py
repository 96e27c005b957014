"""Labelled images: load data sets by name, split them, and slice them into batches."""

from tipping.data.sources import load
from tipping.data.splits import CPU, Batches, Dataset, Split, evaluation_batches

__all__ = [
    "CPU",
    "Batches",
    "Dataset",
    "Split",
    "evaluation_batches",
    "load",
]
