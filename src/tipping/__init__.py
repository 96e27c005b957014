"""Which filters does a convolutional network rely on, and at how many removed filters does its accuracy tip?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tipping.ablation import ablated
    from tipping.controls import Draws
    from tipping.errors import InputError
    from tipping.evaluation import evaluate_ablations
    from tipping.filters import Filters
    from tipping.notebook import drop_curve, relevant_filters
    from tipping.visualize.sight import look as backproject

__all__ = [
    "Draws",
    "Filters",
    "InputError",
    "ablated",
    "backproject",
    "drop_curve",
    "evaluate_ablations",
    "relevant_filters",
]
ROOMS = {  # where each is, and its name there: imported when it is asked for, so that commands start without torch
    "Draws": ("controls", "Draws"),
    "Filters": ("filters", "Filters"),
    "InputError": ("errors", "InputError"),
    "ablated": ("ablation", "ablated"),
    "backproject": ("visualize.sight", "look"),
    "drop_curve": ("notebook", "drop_curve"),
    "evaluate_ablations": ("evaluation", "evaluate_ablations"),
    "relevant_filters": ("notebook", "relevant_filters"),
}


def __getattr__(name: str) -> Any:
    if name not in ROOMS:
        raise AttributeError(f"module 'tipping' has no attribute {name!r}")
    room, own = ROOMS[name]
    return getattr(import_module(f"tipping.{room}"), own)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
