"""The files of a job in its folder: the record, the selection, the predictions and the pictures, each written whole."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tipping.ablation import DropCurve
from tipping.data import Split
from tipping.experiment.class_files import check_classes
from tipping.experiment.contest_files import check_contest
from tipping.experiment.options import RECORD as RECORD  # for all that read records
from tipping.experiment.record import AnyRecord, ArenaRecord, InterpretRecord, Record, TrainRecord, parse_record, sealed
from tipping.files import ARRAYS, load_arrays, opened, read_json, replacing
from tipping.network import Filters
from tipping.selection import Selection

if TYPE_CHECKING:
    from tipping.visualize.draw import Picture  # imports matplotlib

SELECTION, PREDICTIONS = "selection.npz", "predictions.npz"
PREDICTED = ("labels", "intact", "selected", "random")  # arrays of PREDICTIONS, of all images evaluated
RANKED = "relevant_filters.csv"  # for people: what SELECTION holds, as a ranked list
PICTURES = "pictures"  # a folder
STAGED, STAGED_RECORD = ".new", "record"  # the folder of files whose job is not finished, and the record in it
ROUNDING = 1e-9  # how far an accuracy may be from the one recomputed
DAMAGED = (ValueError, LookupError, TypeError, RecursionError)
UNREADABLE = (OSError, *DAMAGED)
Kind = TypeVar("Kind", bound=Record)


def read_record(directory: Path, job: str = "") -> AnyRecord:
    """Read the record in a directory, and check it against the job's files, as `read_job` does."""
    return read_job(directory, job)[0]


def read_job(directory: Path, job: str = "") -> tuple[AnyRecord, dict[str, np.ndarray]]:
    """Read the record in a directory, and check it against the job's files, each of which is read once.

    The arrays must be those that were written, and the accuracies and counts of filters must be theirs.

    Args:
        directory: the folder of the job.
        job: the name of the job in its sweep.

    Returns:
        the record, and its arrays by name: those of `write_selection` and `write_predictions`; of a contest of
            selectors, what `write_scores` has written; none for a job of train.py.

    Raises:
        one of UNREADABLE: there is no record, or the record is of another version, or it or its arrays are not whole.
            Pictures are not looked at: `spoilt_picture` does it.
    """
    record = parse_record(read_json(directory / RECORD), job)
    for name in record.files:
        _inside(directory, name)
    if isinstance(record, TrainRecord):
        return record, {}
    if record.digest and not {SELECTION, PREDICTIONS} <= record.files.keys():
        raise ValueError("not whole: it names no arrays")
    selection, held = (
        load_arrays(directory / name, sha256=record.files.get(name)) for name in (SELECTION, PREDICTIONS)
    )
    if isinstance(record, ArenaRecord):
        check_contest(record, selection, held)
        return record, selection
    classes = _classes(held)
    _check_numbers(record, selection, held, classes)
    return record, {**selection, **held}


def spoilt_picture(directory: Path, record: Record) -> str | None:
    """Say which picture is not in a job's folder, or is not what was written; return None if all are right.

    Args:
        directory: the folder of the job.
        record: the record of the job, whose pictures are drawn.

    Raises:
        OSError: a picture cannot be read.
    """
    named = [f"{PICTURES}/{name}.png" for name in record.pictures or ()]
    for name in dict.fromkeys([*named, *record.files]):
        path = _inside(directory, name)
        if not path.is_file():
            return f"{name} is missing"
        if name.startswith(PICTURES) and record.files.get(name) not in (None, _digest(path)):
            return f"{name} is not what was written"
    return None


def _inside(directory: Path, name: str) -> Path:
    """Return the path of a file that a record names.

    Raises:
        ValueError: the file is outside the folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"{name!r} is no file of a job")
    return directory / name


def _digest(path: Path) -> str:
    with opened(path, ARRAYS) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _check_numbers(
    record: InterpretRecord,
    selection: dict[str, np.ndarray],
    held: dict[str, np.ndarray],
    classes: dict[str, np.ndarray],
) -> None:
    """Recompute the numbers of a record that follow from its arrays.

    Raises:
        ValueError: a number of the record is another.
        LookupError: an array is missing.
    """
    accuracy, curve = record.accuracy, record.curve
    labels_N = classes["labels"]
    rows = np.vstack([classes["intact"], classes["selected"], classes["random"]])
    shares = [accuracy.intact, accuracy.selected, *accuracy.random]
    _same("accuracy", shares, (rows == labels_N).mean(-1))
    _same("accuracy.chance", [accuracy.chance], np.unique(labels_N, return_counts=True)[1].max() / len(labels_N))
    orders = [curve.selected, curve.weakest, *curve.random]
    _same("curve", orders, (held["curve"] == held["curve_labels"]).mean(-1))
    check_classes(record, held)
    _same("curve.images", [curve.images], len(held["curve_labels"]))
    if "order" in selection:  # records from before there were digests may do without
        order_K = selection["order"]
        shared = [len(np.intersect1d(order_K, control)) for control in selection["controls"]]
        _same("filters.ablated", [record.filters.ablated], len(order_K))
        _same("filters.shared", record.filters.shared, shared)
        _check_filters(record, selection)


def _check_filters(record: InterpretRecord, selection: dict[str, np.ndarray]) -> None:
    """Count the filters of a record anew from where they are, and from their weights; raise as `_check_numbers`."""
    places = list(zip(selection["layer"].tolist(), selection["channel"].tolist(), strict=True))  # one for each response
    index = list(dict.fromkeys(places))
    weighted = {place for place, weights_C in zip(places, selection["weights"], strict=True) if weights_C.any()}
    per_layer = dict.fromkeys((layer for layer, _ in index), 0)
    for position in selection["order"].tolist():
        per_layer[index[position][0]] += 1
    _same("filters.total", [record.filters.total], len(index))
    _same("filters.relevant", [record.filters.relevant], len(weighted))
    if record.filters.per_layer != per_layer:
        raise ValueError("filters.per_layer is not that of the job's arrays")


def _same(name: str, values: Any, recomputed: Any) -> None:
    values_A, recomputed_A = np.asarray(values, float), np.atleast_1d(np.asarray(recomputed, float))
    if values_A.shape != recomputed_A.shape or not (abs(values_A - recomputed_A) <= ROUNDING).all():
        raise ValueError(f"{name} is not that of the job's arrays")


def _classes(held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    classes = {name: held[name] for name in PREDICTED}
    images = classes["labels"].shape
    whole = all(array.dtype.kind in "iu" and array.shape[-1:] == images for array in classes.values())
    if not whole or [array.ndim for array in classes.values()] != [1, 1, 1, 2] or 0 in classes["random"].shape:
        raise ValueError("not whole")
    return classes


def write_selection(directory: Path, selection: Selection, filters: Filters) -> None:
    """Write a job's ``selection.npz``.

    The file holds ``weights`` (R, C); for each response, the ``layer`` and the ``channel`` of its filter, and the
    submodule whose ``maps`` were measured; the ``strength`` (F,) by which filters are ordered; and the filters ablated,
    as positions in the network's index: ``order`` (K,), the strongest first, and ``controls`` (draws, K).
    """
    layer_R, channel_R, map_R = zip(*filters.places, strict=True)
    arrays: dict[str, Any] = {"weights": selection.weights_RC, "layer": layer_R, "channel": channel_R, "maps": map_R}
    arrays |= {"strength": selection.strength_F, "order": selection.order_K, "controls": np.array(selection.controls)}
    with replacing(directory / SELECTION) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def write_predictions(
    directory: Path,
    evaluated: Split,
    intact_N: np.ndarray,
    predictions_AN: np.ndarray,
    images: Split,
    curve: DropCurve,
    more: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a job's ``predictions.npz``: the class predicted for each image, and the image's label.

    The file holds ``intact`` (N,), ``selected`` (N,), ``random`` (draws, N) and ``labels`` (N,) for the images
    evaluated. For the images of the accuracy-drop curve it holds ``curve_labels`` and ``curve`` (orders, points,
    images), with the orders selected, weakest and random.

    Args:
        evaluated: the images evaluated.
        intact_N: the predictions of the intact network.
        predictions_AN: the predictions without the relevant filters, then without the filters of each control.
        images: the images of the accuracy-drop curve.
        curve: the accuracy-drop curve.
        more: other arrays to keep, by name.
    """
    arrays = {
        **(more or {}),
        "labels": evaluated.labels_N.cpu().numpy().astype(intact_N.dtype),
        "intact": intact_N,
        "selected": predictions_AN[0],
        "random": predictions_AN[1:],
        "curve": curve.predictions_OPN,
        "curve_labels": images.labels_N.cpu().numpy().astype(intact_N.dtype),
    }
    with replacing(directory / PREDICTIONS) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_pictures(folder: Path, drawn: Mapping[str, Picture]) -> None:
    """Write pictures into a folder, as PNG files with the pictures' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn.items():
        with replacing(folder / f"{name}.png") as part:
            picture.figure.savefig(part, format="png")


def write_record(directory: Path, record: Record) -> None:
    """Write a job's ``result.json``, with the date and time and the digests of the job's files.

    The file is the last that a job must write.
    """
    names = [] if isinstance(record, TrainRecord) else [SELECTION, PREDICTIONS]
    names += sorted(path.relative_to(directory).as_posix() for path in (directory / PICTURES).rglob("*.png"))
    ended = replace(
        record,
        ended=time.strftime("%Y-%m-%d %H:%M:%S"),
        files={name: _digest(directory / name) for name in names},
    )
    with replacing(directory / (STAGED_RECORD if directory.name == STAGED else RECORD)) as part:
        part.write_text(json.dumps(sealed(ended.as_json()), indent=1, allow_nan=False) + "\n")
