"""The options of the data set, and those of them that decide a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tipping.errors import require_whole


@dataclass
class DataOptions:
    """Options of the data set: where its images are, and what is taken of them and done to them.

    Attributes:
        name: the name of the data set, and of its source where `source` does not name that.
        root: the folder of the files of public data sets, which are downloaded if they are missing.
    """

    name: str
    root: str | None
    source: str | None = None
    path: str | None = None
    size: Any = None
    crop: Any = None
    channels: int = 3
    test_share: float | None = None
    split_seed: int = 0
    _target_: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: list[Any] | None = None
    labels: list[int] | None = None
    images: int = 0
    responses: int = 0
    mean: Any = 0
    std: Any = 1
    memory: int = 2000
    workers: int = 2

    def __post_init__(self) -> None:
        for option in ("images", "responses", "memory", "workers", "split_seed"):
            require_whole(f"data.{option}", getattr(self, option), 0)

    def place(self) -> dict[str, Any]:
        """Return the keyword arguments of `tipping.data.load`, all but the device."""
        options = {key: value for key, value in asdict(self).items() if key not in ("_target_", "responses")}
        return {**options, "target": self._target_}


DATA_ELSEWHERE = ("root", "memory", "workers")  # options of the data that decide no result


def chosen_of_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the data that decide a result and are not as they are by default, beside the name.

    Args:
        data: all options of the data; records from before there were more have the name and root alone.
    """
    plain = asdict(DataOptions(name="", root=None))
    options = {key: value for key, value in data.items() if key not in ("name", *DATA_ELSEWHERE)}
    return {key: value for key, value in options.items() if value != plain.get(key)}


def deciding_of_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the data that decide the result of a job: the name, and others where any is given."""
    chosen = chosen_of_data(data)
    return {"data": data["name"], **({"data_options": chosen} if chosen else {})}
