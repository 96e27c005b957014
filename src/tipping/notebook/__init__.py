"""The functions for notebooks: results of any network and loader, as objects that show themselves."""

from tipping.notebook.measuring import drop_curve, relevant_filters, tipping_point
from tipping.notebook.pictures import Explained, Gallery, explain, gallery
from tipping.notebook.results import Curve, RelevantFilters, Tipping

__all__ = [
    "Curve",
    "Explained",
    "Gallery",
    "RelevantFilters",
    "Tipping",
    "drop_curve",
    "explain",
    "gallery",
    "relevant_filters",
    "tipping_point",
]
