"""Tipping points: estimates with confidence intervals, and the search for the mu to evaluate next."""

from tipping.tipping_points.bracketing import Bracketing, breakpoints
from tipping.tipping_points.difference import compare, student
from tipping.tipping_points.estimate import (
    Curves,
    TippingPoint,
    along,
    area,
    at_crossings,
    half_drop,
    partings,
    tipping_point,
)

__all__ = [
    "Bracketing",
    "Curves",
    "TippingPoint",
    "along",
    "area",
    "at_crossings",
    "breakpoints",
    "compare",
    "half_drop",
    "partings",
    "student",
    "tipping_point",
]
