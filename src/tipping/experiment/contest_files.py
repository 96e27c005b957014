"""The arrays of a contest of selectors in its job's folder: the scores, and the predictions along their orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tipping.experiment.record import ArenaRecord
from tipping.experiment.record_parts import Entry
from tipping.files import replacing

if TYPE_CHECKING:
    from tipping.arena import ByClass, Lines  # imports scipy
    from tipping.network import Filters
    from tipping.selectors import Scores

ROUNDING = 1e-9  # how far an accuracy may be from the one recomputed


def write_scores(path: Path, filters: Filters, relevant_K: np.ndarray, scores: Mapping[str, Scores]) -> None:
    """Write the scores of filters into an ``.npz`` file.

    The file holds the ``layer`` and the ``channel`` of each filter (F,), whether it is ``ablatable``, the ``relevant``
    filters of the mu-lasso (K,), strongest first, and for each selector ``score NAME``, (F,) or (F, C), with ``error
    NAME`` where the selector samples.
    """
    layers, layer_F, channel_F = filters.index
    arrays: dict[str, Any] = {"layer": np.array(layers)[layer_F], "channel": channel_F}
    arrays["ablatable"] = filters.ablatable_F
    arrays["relevant"] = relevant_K
    for name, one in scores.items():
        arrays[f"score {name}"] = one.values
        if one.error_F is not None:
            arrays[f"error {name}"] = one.error_F
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def write_lines(path: Path, labels_N: np.ndarray, lines: Sequence[Lines], classes: Sequence[ByClass | None]) -> None:
    """Write predictions along orders into an ``.npz`` file.

    The file holds the ``labels`` of the images (N,), and for entry i of the record ``removed i`` and ``kept i``: the
    predicted classes, (D orders, P counts, N images). Where the entry has drops by class, it holds ``class labels i``
    (C,) and ``class removed i`` (C, D, N).
    """
    arrays = {f"{kind} {i}": getattr(one, f"{kind}_DPN") for i, one in enumerate(lines) for kind in ("removed", "kept")}
    for i, by_class in enumerate(classes):
        if by_class:
            arrays |= {f"class labels {i}": by_class.labels_C, f"class removed {i}": by_class.removed_CDN}
    labels_N = labels_N.astype(np.min_scalar_type(int(labels_N.max())))
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, labels=labels_N, **arrays)


def check_contest(record: ArenaRecord, scores: Mapping[str, np.ndarray], lines: Mapping[str, np.ndarray]) -> None:
    """Recompute the numbers of a record that follow from its arrays.

    Args:
        scores, lines: what `write_scores` and `write_lines` have written, by name.

    Raises:
        ValueError: a number of the record is another.
        LookupError: an array is missing.
    """
    labels_N = lines["labels"]
    chance = np.unique(labels_N, return_counts=True)[1].max() / len(labels_N)
    if record.images != len(labels_N) or abs(record.accuracy.chance - chance) > ROUNDING:
        raise ValueError("images or accuracy.chance is not that of the job's arrays")
    if record.filters.total != len(scores["channel"]) or record.filters.ablated != len(scores["relevant"]):
        raise ValueError("filters is not that of the job's arrays")
    for i, entry in enumerate(record.entries):
        for kind in ("removed", "kept"):
            accuracy_DP = np.asarray(getattr(entry, kind))
            recomputed_DP = (lines[f"{kind} {i}"] == labels_N).mean(2)
            if accuracy_DP.shape != recomputed_DP.shape or not (abs(accuracy_DP - recomputed_DP) <= ROUNDING).all():
                raise ValueError(f"entries.{i}.{kind} is not that of the job's arrays")
        _check_classes(entry, i, lines)
        if entry.family != "random" and f"score {entry.selector}" not in scores:
            raise LookupError(f"score {entry.selector}")


def _check_classes(entry: Entry, number: int, lines: Mapping[str, np.ndarray]) -> None:
    """Recompute the drops by class of an entry; raise as `check_contest`."""
    if entry.own_class is None:
        return
    from tipping.arena import ByClass

    by_class = ByClass(lines[f"class labels {number}"], lines[f"class removed {number}"])
    recomputed = by_class.mean_drops(lines[f"removed {number}"][0, 0], lines["labels"])
    recorded = np.array([entry.own_class, entry.collateral], dtype=float)
    if not recomputed or not (abs(recorded - recomputed) <= ROUNDING).all():
        raise ValueError(f"entries.{number}.own_class or collateral is not that of the job's arrays")
