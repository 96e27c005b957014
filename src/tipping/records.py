"""One record per job, written whole: what was run and on what, and what came of it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from tipping import config, schema
from tipping.atomic import replacing
from tipping.controls import MATCHES
from tipping.data import Split
from tipping.errors import InputError
from tipping.evaluation import DropCurve, accuracies, chance_of
from tipping.filters import FilterIndex, Filters
from tipping.models import file_digests
from tipping.selection import Selection
from tipping.store import parsing

if TYPE_CHECKING:
    from tipping.visualize.draw import Picture  # which takes matplotlib

log = logging.getLogger(__name__)
SCHEMA = 6
RECORD, SELECTION, PREDICTIONS = "result.json", "selection.npz", "predictions.npz"
PICTURES = "pictures"  # a folder
DAMAGED = (ValueError, LookupError, TypeError, RecursionError)
UNREADABLE = (OSError, *DAMAGED)
SCRIPTS = ("train.py", "interpret.py")  # beside the presets
OF_TRAINING, OF_INTERPRETING = "curves", "filters"  # what only records of these jobs have
PACKAGES = ("tipping", "torch", "numpy", "pytorch-lightning", "hydra-core", "wandb")


class Stopwatch:
    """Seconds spent in each stage of a job; on a terminal, a line names the stages so far."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs within it."""
        start = time.perf_counter()
        with tqdm(desc=" > ".join([*self.seconds, name]), bar_format="{desc}", leave=False, disable=None):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def describe(options: config.Config, device: torch.device, conf: Path) -> dict[str, Any]:
    """What any record begins with: what is run, and on what. As the job begins: code and files may change meanwhile.

    Args:
        conf: the folder of the presets.

    Raises:
        InputError: the checkpoint cannot be read, or the network's class cannot be imported.
    """
    cpu = f"cpu, {torch.get_num_threads()} threads ({_processor()})"
    try:
        files = file_digests(options.model)
    except OSError as error:
        raise InputError(
            f"model.checkpoint={options.model['checkpoint']} cannot be read ({error}); give a file of weights"
        ) from error
    return {
        "schema": SCHEMA,
        "config": asdict(options),
        "mu": options.mu,
        "seed": options.seed,
        "model": options.model,
        "model_files": files,
        "data": options.data.name,
        "protocol": {**asdict(options.protocol), "name": _full_name(options.protocol, conf)},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "versions": versions(conf),
    }


def begin(directory: Path, composed: DictConfig, conf: Path, kind: str) -> config.Config | None:
    """The options of the job to do in a directory, which is emptied of other records; None where a job with these
    options and this code has been done there.

    Args:
        conf: the folder of the presets.
        kind: of the job, `OF_TRAINING` or `OF_INTERPRETING`.

    Raises:
        InputError, omegaconf.errors.OmegaConfBaseException: as `parse`.
        OSError: as `read_own`; what is there is left.
    """
    try:
        options = config.parse(composed)
        done = options.resume and read_own(directory, options, conf, kind) is not None
    except (InputError, OmegaConfBaseException):
        _clear(directory)
        raise
    if done:
        log.info("done before: %s", directory)
        return None
    _clear(directory)
    return options


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _full_name(protocol: config.Protocol, conf: Path) -> str:
    """A preset's name with the axes that were set otherwise, such as ``described, control=live``."""
    preset = _protocol_preset(protocol.name, conf)
    if preset is None:
        return protocol.name
    given = {axis: str(getattr(protocol, axis)).lower() for axis in ("dense", *config.AXES)}  # as YAML writes true
    axes = [f"{axis}={value}" for axis, value in given.items() if value != str(preset.get(axis)).lower()]
    return ", ".join([protocol.name, *sorted(axes)])


def _protocol_preset(name: str, conf: Path) -> Any:
    """The protocol of a preset of this name, ours or, in a job of Hydra's, the user's own; None where there is none."""
    path = conf / "protocol" / f"{name}.yaml"
    if path.is_file():
        preset: Any = OmegaConf.load(path)
        return preset.get("protocol", preset)
    if not GlobalHydra.instance().is_initialized():
        return None
    try:
        return compose("config", [f"protocol={name}"]).protocol  # which may build on another preset
    except (HydraException, OmegaConfBaseException):
        return None


@cache
def versions(conf: Path) -> dict[str, str | None]:
    """Versions of Python, the main packages and the code, and the commit when run from a git checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    packages = {name: _version(name) for name in PACKAGES}
    commit = commit if (root / ".git").exists() else None
    return {"python": sys.version.split()[0], **packages, "code": _code(conf), "commit": commit}


def _version(package: str) -> str | None:
    """Of what is installed; None for what is not, as where the package runs from its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code(conf: Path) -> str:
    """A hash of the package, the presets and the scripts beside them, which a wheel does without."""
    package = Path(__file__).parent
    of = {path.relative_to(package): path for path in package.rglob("*.py")}
    of |= {path.relative_to(conf): path for path in conf.rglob("*.yaml")}
    of |= {Path(name): conf.parent / name for name in SCRIPTS if (conf.parent / name).is_file()}
    content = hashlib.sha256()
    for name, path in sorted(of.items()):
        content.update(f"{name} {path.stat().st_size} ".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def outcome(
    options: config.Config,
    index: FilterIndex,
    selection: Selection,
    images: Split,
    intact_N: np.ndarray,
    predictions_AN: np.ndarray,
    curve: DropCurve,
) -> dict[str, Any]:
    """What came of a selection: accuracies, filters, certificate and curve.

    Args:
        images: those evaluated.
        predictions_AN: without the relevant filters, and without each control.
    """
    intact, selected, *random = accuracies(np.vstack([intact_N, predictions_AN]), images.labels_N)
    return {
        "accuracy": {"intact": intact, "selected": selected, "random": random, "chance": chance_of(images)},
        "filters": filters(index, selection),
        "selection": {"solver": options.selection.solver, **certificate(selection)},
        "curve": curve.record(),
    }


def filters(index: FilterIndex, selection: Selection) -> dict[str, Any]:
    """How many filters the network has, how many never respond, are relevant, and are ablated, these also by layer,
    and how many of these each control has too."""
    counts = np.bincount(index.layer_F[selection.order_K], minlength=len(index.layers)).tolist()
    return {
        "total": len(index.layer_F),
        "dead": int((~selection.live_F).sum()),
        "relevant": int(selection.relevant_F.sum()),
        "ablated": len(selection.order_K),
        "shared": [len(np.intersect1d(selection.order_K, control)) for control in selection.controls],
        "per_layer": dict(zip(index.layers, counts, strict=True)),
    }


def certificate(selection: Selection) -> dict[str, Any]:
    """Of every class: the relative duality gap, whether its support is the only one, the solver's iterations, and the
    share of its variance that the weights explain, that any weights could, and that noise would seem to."""
    solution = selection.solution
    return {
        "relative_gap": solution.relative_gap_MC[0].tolist(),
        "certified": bool(solution.certified_MC.all()),
        "unique": solution.unique_MC[0].tolist(),
        "iterations": solution.iterations_MC[0].tolist(),
        "explained": selection.explained_C.tolist(),
        "explainable": selection.explainable_C.tolist(),
        "explainable_by_noise": selection.noise,
    }


def relevant_filters(filters: Filters, selection: Selection) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of relevant filters, strongest first: layer, channel, where it was measured, and
    the weight of each class."""
    columns = ["layer", "channel", "maps", *(f"class {c}" for c in range(selection.weights_RC.shape[1]))]
    places = filters.places
    strongest = np.argsort(-selection.strength_F[filters.filter_R], kind="stable")
    rows = [[*places[r], *selection.weights_RC[r].tolist()] for r in strongest if selection.weights_RC[r].any()]
    return columns, rows


def sentence(record: dict[str, Any]) -> str:
    """A job's result in one line."""
    accuracy, filters, selection = record["accuracy"], record["filters"], record["selection"]
    protocol, overlap = record["protocol"], record["overlap"]
    certificate = "certified" if selection["certified"] else "NOT certified"
    certificate += "" if all(selection["unique"]) else ", others may do as well"
    only = "" if filters["ablated"] == filters["relevant"] else f", {filters['ablated']} of them ablated"
    text = (
        f"{protocol['name']}, mu={record['mu']:g}: {filters['relevant']} of {filters['total']} filters relevant{only} "
        f"({certificate}, relative gap {max(selection['relative_gap']):.0e}); {protocol['evaluated_on']} accuracy "
        f"{100 * accuracy['intact']:.2f} % intact, {100 * accuracy['selected']:.2f} % without them, "
        f"{100 * float(np.mean(accuracy['random'])):.2f} % without {MATCHES[protocol['control']]}"
    )
    if max(selection["explainable"]) <= selection["explainable_by_noise"]:
        text += "; but nothing is relevant: no class is explained better than by noise"
    if overlap and overlap["jaccard"] is not None:
        shared, low, high = (round(100 * share) for share in (overlap["jaccard"], *overlap["jaccard_by_chance"]))
        text += f"; {shared} % overlap with the trained network's ({low} to {high} % by chance)"
    return text


def read_record(directory: Path) -> dict[str, Any]:
    """The record in a directory.

    Raises:
        one of UNREADABLE: there is none, or it is not whole, or of another version.
    """
    record: dict[str, Any] = json.loads((directory / RECORD).read_text(), parse_constant=_finite, parse_float=_finite)
    if record["schema"] != SCHEMA:
        raise ValueError("of another version")
    if not schema.whole(record):
        raise ValueError("not whole")
    return record


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def read_predictions(directory: Path) -> dict[str, np.ndarray]:
    """The predictions of a job for the images evaluated, and their labels.

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
    """The arrays of a file; no code in it is run."""
    with path.open("rb") as file, parsing(), np.load(file, allow_pickle=False) as held:
        return dict(held)


def read_own(directory: Path, options: config.Config, conf: Path, kind: str = OF_INTERPRETING) -> dict[str, Any] | None:
    """The record of a job with these options, files and code, if the directory holds one that is whole.

    Raises:
        OSError: what is there, or the checkpoint, cannot be read, for a reason that is none of its own.
        InputError: the network's class cannot be imported.
    """
    try:
        record = read_record(directory)
        own = {key: value for key, value in record["config"].items() if key not in config.ELSEWHERE}
        if kind not in record or {**own, "data": record["data"]} != config.deciding(options):
            return None
        for name in [SELECTION, PREDICTIONS] if kind == OF_INTERPRETING else []:
            _arrays(directory / name)
        given, made_by, pictures = record["model_files"], record["versions"], record["pictures"]
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


def write(directory: Path, record: dict[str, Any]) -> None:
    """Write a job's ``result.json``, its last file, with the time of day."""
    record = {**record, "ended": time.strftime("%Y-%m-%d %H:%M:%S")}
    with replacing(directory / RECORD) as part:
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
