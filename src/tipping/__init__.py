"""Which filters does a convolutional network rely on, and at how many removed filters does its accuracy tip?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tipping.ablation import ablated, evaluate_ablations
    from tipping.data import load_anew as images
    from tipping.errors import InputError
    from tipping.network import Filters
    from tipping.notebook import (
        ablate_classes,
        compare_selectors,
        drop_curve,
        explain,
        gallery,
        relevant_filters,
        tipping_point,
    )
    from tipping.selection import Draws
    from tipping.visualize import look as backproject

__all__ = [
    "Draws",
    "Filters",
    "InputError",
    "ablate_classes",
    "ablated",
    "backproject",
    "compare_selectors",
    "drop_curve",
    "evaluate_ablations",
    "explain",
    "gallery",
    "images",
    "relevant_filters",
    "tipping_point",
]
WINGS = {  # the wing of each name, and the name there; imported on first use, so that commands start without torch
    "Draws": ("selection", "Draws"),
    "Filters": ("network", "Filters"),
    "InputError": ("errors", "InputError"),
    "ablate_classes": ("notebook", "ablate_classes"),
    "ablated": ("ablation", "ablated"),
    "backproject": ("visualize", "look"),
    "compare_selectors": ("notebook", "compare_selectors"),
    "drop_curve": ("notebook", "drop_curve"),
    "evaluate_ablations": ("ablation", "evaluate_ablations"),
    "explain": ("notebook", "explain"),
    "gallery": ("notebook", "gallery"),
    "images": ("data", "load_anew"),
    "relevant_filters": ("notebook", "relevant_filters"),
    "tipping_point": ("notebook", "tipping_point"),
}


def __getattr__(name: str) -> Any:
    if name not in WINGS:
        raise AttributeError(f"module 'tipping' has no attribute {name!r}")
    wing, attribute = WINGS[name]
    return getattr(import_module(f"tipping.{wing}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
