"""The options in records: as one level, and the options that differ between jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tipping.experiment.data_options import DATA_ELSEWHERE, DataOptions

if TYPE_CHECKING:
    from tipping.experiment.record import Record

MU_LASSO = "mu_lasso"  # the selector of the paper, and of all records that name none
LATER: dict[str, dict[str, Any]] = {  # what options that older records lack had for their jobs
    "selection": {"gram": "float64", "positive": False},
    "protocol": {"scale": "layer"},
}
OWN = "own"  # the name that a user's network has by default
RECORD = "result.json"  # the file of a record, in the folder of its job
# options that do not decide a result, or that tables show anyway
ELSEWHERE = (
    *("mu", "seed", *(f"data.{option}" for option in DATA_ELSEWHERE), "device", "store.", "tracking.", "visualize."),
    "selection.max_iterations",
    "selection.memory",
    "ablate",
    "by_class.",
    "resume",
    "replace",
)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration as one level of dotted options, each with `prefix`."""
    options: dict[str, Any] = {}
    for key, value in tree.items():
        options |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return options


def varying_options(records: Sequence[Record]) -> list[str]:
    """Return the options that differ between the jobs of records and decide their results; mu and seed do not count."""
    plain = flat({"data": asdict(DataOptions("", None)), "selector": MU_LASSO, **LATER})  # older records lack some
    configs = [{**plain, **flat(record.config)} for record in records]
    options = dict.fromkeys(option for config in configs for option in config)
    different = [option for option in options if len({json.dumps(config.get(option)) for config in configs}) > 1]
    classes = {(config.get("model.name"), config.get("model._target_")) for config in configs}
    by_name = len(classes) == len({name for name, _ in classes})  # the name of a model tells its class
    return [
        option
        for option in different
        if not option.startswith(ELSEWHERE) and not (by_name and option == "model._target_")
    ]


def model_text(name: str, target: str | None, alone: bool) -> str:
    """Name a model, with its class unless the name alone tells it: `own` never does.

    Args:
        name: the name of the model.
        target: its class, with its module.
        alone: whether all models of this name are of one class.
    """
    return f"{name} ({target})" if target and (name == OWN or not alone) else name
