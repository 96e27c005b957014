"""Labelled images: load data sets by name, split them, and slice them into batches."""

from tipping.data.batches import Batches, evaluation_batches
from tipping.data.normalising import Normalisation
from tipping.data.readers import OWN
from tipping.data.sources import content_digests, load, load_anew
from tipping.data.splits import CPU, Dataset, Split

__all__ = [
    "CPU",
    "OWN",
    "Batches",
    "Dataset",
    "Normalisation",
    "Split",
    "content_digests",
    "evaluation_batches",
    "load",
    "load_anew",
]
