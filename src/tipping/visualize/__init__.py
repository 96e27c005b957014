"""Visual feedback: what relevant filters see, and why an image got its class. `draw` draws it, with matplotlib."""

from __future__ import annotations

from tipping.visualize.gallery import (
    MOST_CLASSES,
    Portrait,
    Strongest,
    class_name,
    drawn_classes,
    portraits,
    strongest_images,
)
from tipping.visualize.reasons import Explanation, explanations
from tipping.visualize.receptive_field import receptive_fields
from tipping.visualize.rules import backward_rule, check_rules, grid_energy, has_stride
from tipping.visualize.side_by_side import Beside, beside
from tipping.visualize.signals import Backward, look

__all__ = [
    "MOST_CLASSES",
    "Backward",
    "Beside",
    "Explanation",
    "Portrait",
    "Strongest",
    "backward_rule",
    "beside",
    "check_rules",
    "class_name",
    "drawn_classes",
    "explanations",
    "grid_energy",
    "has_stride",
    "look",
    "portraits",
    "receptive_fields",
    "strongest_images",
]
