"""One record per job, written whole: what was run and on what, and what came of it."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tipping.ablation import DropCurve
from tipping.data import Split
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.record import InterpretRecord, Record, TrainRecord, parse_record
from tipping.experiment.versions import versions
from tipping.files import parsing, replacing
from tipping.network import Filters, file_digests
from tipping.selection import Selection

if TYPE_CHECKING:
    from tipping.visualize.draw import Picture  # which takes matplotlib

log = logging.getLogger(__name__)
RECORD, SELECTION, PREDICTIONS = "result.json", "selection.npz", "predictions.npz"
PICTURES = "pictures"  # a folder
DAMAGED = (ValueError, LookupError, TypeError, RecursionError)
UNREADABLE = (OSError, *DAMAGED)
Kind = TypeVar("Kind", bound=Record)


def begin(directory: Path, composed: DictConfig, conf: Path, kind: type[Kind]) -> config.Config | None:
    """Return the options of the job to do in a directory, which is emptied of other records; None where a job with
    these options and this code has been done there.

    Args:
        conf: the folder of the presets.
        kind: of record.

    Raises:
        InputError, omegaconf.errors.OmegaConfBaseException: as `parse`.
        OSError: as `read_matching`; what is there is left.
    """
    try:
        options = config.parse(composed)
        done = options.resume and read_matching(directory, options, conf, kind) is not None
    except (InputError, OmegaConfBaseException):
        _clear(directory)
        raise
    if done:
        log.info("done before: %s", directory)
        return None
    _clear(directory)
    return options


def read_record(directory: Path, job: str = "") -> TrainRecord | InterpretRecord:
    """Read the record in a directory.

    Args:
        job: what the job is called there.

    Raises:
        one of UNREADABLE: there is none, or it is not whole, or of another version.
    """
    text = (directory / RECORD).read_text()
    return parse_record(json.loads(text, parse_constant=_finite, parse_float=_finite), job)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def read_predictions(directory: Path) -> dict[str, np.ndarray]:
    """Read the predictions of a job for the images evaluated, and their labels.

    Raises:
        one of UNREADABLE: they are not there, or not whole.
    """
    held = _arrays(directory / PREDICTIONS)
    classes = {name: held[name] for name in ("labels", "intact", "selected", "random")}
    images = classes["labels"].shape
    whole = all(array.dtype.kind in "iu" and array.shape[-1:] == images for array in classes.values())
    if not whole or [array.ndim for array in classes.values()] != [1, 1, 1, 2] or 0 in classes["random"].shape:
        raise ValueError("not whole")
    return classes


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file; no code in it is run."""
    with path.open("rb") as file, parsing(), np.load(file, allow_pickle=False) as held:
        return dict(held)


def read_matching(directory: Path, options: config.Config, conf: Path, kind: type[Kind]) -> Kind | None:
    """Read the record of a job with these options, files and code, if the directory holds one that is whole.

    Raises:
        OSError: what is there, or the checkpoint, cannot be read, for a reason that is none of its own.
        InputError: the network's class cannot be imported.
    """
    try:
        record = read_record(directory)
        own = {key: value for key, value in record.config.items() if key not in config.ELSEWHERE}
        if not isinstance(record, kind) or {**own, "data": record.data} != config.deciding(options):
            return None
        for name in [SELECTION, PREDICTIONS] if kind is InterpretRecord else []:
            _arrays(directory / name)
        given, made_by, pictures = record.model_files, record.versions, record.pictures
    except (FileNotFoundError, *DAMAGED):
        return None
    of_this_code = {**made_by, "commit": ""} == {**versions(conf), "commit": ""}
    drawn = pictures is not None and all((directory / PICTURES / f"{name}.png").is_file() for name in pictures)
    return record if of_this_code and drawn and given == file_digests(options.model) else None


def _clear(directory: Path) -> None:
    """Remove what an earlier job left in a directory, so that a job that fails has no record."""
    for name in (RECORD, SELECTION, PREDICTIONS):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / PICTURES, ignore_errors=True)


def write_selection(directory: Path, selection: Selection, filters: Filters) -> None:
    """Write a job's ``selection.npz``: W (R, C), of each response the layer and channel of its filter, and the
    submodule whose maps were measured; and the filters ablated, positions in the network's index: ``order`` (K,),
    strongest first, and ``controls`` (draws, K)."""
    layer_R, channel_R, map_R = zip(*filters.places, strict=True)
    arrays: dict[str, Any] = {"weights": selection.weights_RC, "layer": layer_R, "channel": channel_R, "maps": map_R}
    arrays |= {"order": selection.order_K, "controls": np.array(selection.controls)}
    with replacing(directory / SELECTION) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def write_predictions(
    directory: Path, evaluated: Split, intact_N: np.ndarray, predictions_AN: np.ndarray, images: Split, curve: DropCurve
) -> None:
    """Write a job's ``predictions.npz``: the class predicted for each image, and its label.

    ``intact`` (N,), ``selected`` (N,) and ``random`` (draws, N) for the images evaluated; ``curve`` (orders, points,
    images) for those of the accuracy-drop curve, with the orders selected, weakest and random; ``labels`` and
    ``curve_labels``.
    """
    arrays = {
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
    """Write pictures, as PNG, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn.items():
        with replacing(folder / f"{name}.png") as part:
            picture.figure.savefig(part, format="png")


def write_record(directory: Path, record: Record) -> None:
    """Write a job's ``result.json``, its last file, with the time of day."""
    ended = replace(record, ended=time.strftime("%Y-%m-%d %H:%M:%S"))
    with replacing(directory / RECORD) as part:
        part.write_text(json.dumps(ended.as_json(), indent=1, allow_nan=False) + "\n")
