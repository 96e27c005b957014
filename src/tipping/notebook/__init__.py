"""The functions for notebooks: results of any network and loader, as objects that show themselves."""

from tipping.notebook.classes import AblatedClasses, ablate_classes
from tipping.notebook.contest import ComparedSelectors, compare_selectors
from tipping.notebook.measuring import drop_curve, relevant_filters, tipping_point
from tipping.notebook.pictures import Explained, Gallery, explain, gallery
from tipping.notebook.results import Curve, RelevantFilters, Tipping

__all__ = [
    "AblatedClasses",
    "ComparedSelectors",
    "Curve",
    "Explained",
    "Gallery",
    "RelevantFilters",
    "Tipping",
    "ablate_classes",
    "compare_selectors",
    "drop_curve",
    "explain",
    "gallery",
    "relevant_filters",
    "tipping_point",
]
