"""The files of a job in its folder: the record, the selection, the predictions and the pictures, each written whole."""

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
    from tipping.visualize.draw import Picture  # imports matplotlib

log = logging.getLogger(__name__)
RECORD, SELECTION, PREDICTIONS = "result.json", "selection.npz", "predictions.npz"
PICTURES = "pictures"  # a folder
DAMAGED = (ValueError, LookupError, TypeError, RecursionError)
UNREADABLE = (OSError, *DAMAGED)
Kind = TypeVar("Kind", bound=Record)


def begin(directory: Path, composed: DictConfig, conf: Path, kind: type[Kind]) -> config.Config | None:
    """Begin a job in a directory: remove other records from the directory, and return the options of the job.

    Args:
        directory: the folder of the job.
        composed: the composed options.
        conf: the folder of the presets.
        kind: the class of the job's record.

    Returns:
        the options; None if the directory holds the record of a job with these options and this code, and the options
        ask to resume.

    Raises:
        InputError, omegaconf.errors.OmegaConfBaseException: `parse` raises it.
        OSError: `read_matching` raises it; nothing is removed from the directory.
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
        directory: the folder of the job.
        job: the name of the job in its sweep.

    Raises:
        one of UNREADABLE: there is no record, or the record is not whole, or of another version.
    """
    text = (directory / RECORD).read_text()
    return parse_record(json.loads(text, parse_constant=_finite, parse_float=_finite), job)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def read_predictions(directory: Path) -> dict[str, np.ndarray]:
    """Read the classes that a job predicted for the images evaluated, and the images' labels, by name.

    Raises:
        one of UNREADABLE: there are no predictions, or they are not whole.
    """
    held = _arrays(directory / PREDICTIONS)
    classes = {name: held[name] for name in ("labels", "intact", "selected", "random")}
    images = classes["labels"].shape
    whole = all(array.dtype.kind in "iu" and array.shape[-1:] == images for array in classes.values())
    if not whole or [array.ndim for array in classes.values()] != [1, 1, 1, 2] or 0 in classes["random"].shape:
        raise ValueError("not whole")
    return classes


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file, without running code from the file."""
    with path.open("rb") as file, parsing(), np.load(file, allow_pickle=False) as held:
        return dict(held)


def read_matching(directory: Path, options: config.Config, conf: Path, kind: type[Kind]) -> Kind | None:
    """Read the record in a directory, if its job had these options, model files and code, and its files are whole.

    Args:
        directory: the folder of the job.
        options: the options.
        conf: the folder of the presets.
        kind: the class of the record.

    Returns:
        the record; None if the directory holds no such record.

    Raises:
        OSError: a file of the directory, or the checkpoint, cannot be read, though the file may be whole.
        InputError: the network's class cannot be imported.
    """
    try:
        record = read_record(directory)
        recorded = {key: value for key, value in record.config.items() if key not in config.ELSEWHERE}
        if not isinstance(record, kind) or {**recorded, "data": record.data} != config.deciding(options):
            return None
        for name in [SELECTION, PREDICTIONS] if kind is InterpretRecord else []:
            _arrays(directory / name)
        model_files, made_by, pictures = record.model_files, record.versions, record.pictures
    except (FileNotFoundError, *DAMAGED):
        return None
    same_code = {**made_by, "commit": ""} == {**versions(conf), "commit": ""}
    drawn = pictures is not None and all((directory / PICTURES / f"{name}.png").is_file() for name in pictures)
    return record if same_code and drawn and model_files == file_digests(options.model) else None


def _clear(directory: Path) -> None:
    """Remove the files of an earlier job from a directory, so that a job that fails has no record."""
    for name in (RECORD, SELECTION, PREDICTIONS):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / PICTURES, ignore_errors=True)


def write_selection(directory: Path, selection: Selection, filters: Filters) -> None:
    """Write a job's ``selection.npz``.

    The file holds ``weights`` (R, C); for each response, the ``layer`` and the ``channel`` of its filter, and the
    submodule whose ``maps`` were measured; and the filters ablated, as positions in the network's index: ``order``
    (K,), the strongest first, and ``controls`` (draws, K).
    """
    layer_R, channel_R, map_R = zip(*filters.places, strict=True)
    arrays: dict[str, Any] = {"weights": selection.weights_RC, "layer": layer_R, "channel": channel_R, "maps": map_R}
    arrays |= {"order": selection.order_K, "controls": np.array(selection.controls)}
    with replacing(directory / SELECTION) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def write_predictions(
    directory: Path, evaluated: Split, intact_N: np.ndarray, predictions_AN: np.ndarray, images: Split, curve: DropCurve
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
    """Write pictures into a folder, as PNG files with the pictures' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn.items():
        with replacing(folder / f"{name}.png") as part:
            picture.figure.savefig(part, format="png")


def write_record(directory: Path, record: Record) -> None:
    """Write a job's ``result.json``, with the date and time. The file is the last that a job must write."""
    ended = replace(record, ended=time.strftime("%Y-%m-%d %H:%M:%S"))
    with replacing(directory / RECORD) as part:
        part.write_text(json.dumps(ended.as_json(), indent=1, allow_nan=False) + "\n")
