"""The record of a job: the job, the device and versions it ran on, and its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tipping.experiment import schema
from tipping.experiment.options import LATER
from tipping.experiment.record_parts import (
    Accuracy,
    BareAccuracy,
    Certificate,
    ClassEntry,
    CurvePoints,
    Entry,
    EpochCurve,
    Estimate,
    FilterCounts,
    SelfTest,
    TestAccuracy,
)
from tipping.files import fit_to_print
from tipping.selection import Overlap


@dataclass(frozen=True, kw_only=True)
class Record:
    """The part of a record that all jobs have.

    Attributes:
        config: all options.
        mu, seed, model, data, protocol: the options that name the job. The protocol's name says how the protocol
            differs from its preset.
        device, versions: the device, and the versions of the code and the packages.
        store: the keys of the job's items in the store, and a digest of the network's weights.
        made: for each item, whether this job made it; otherwise the item existed before.
        seconds: the time of each stage.
        model_files: the SHA-256 of each file that decides the network besides the options.
        trained_on: the device that trained the network, in this job or an earlier one; None where it is not known, as
            for a checkpoint.
        data_files: the SHA-256 of the training and of the test images where these are the user's own.
        classes: the names of the classes, label by label; empty for trainings from before classes were named.
        pictures: the names of the pictures; None until the pictures are drawn.
        ended: the date and time of the job's end.
        schema: the version of the record's form.
        files: the SHA-256 of each array file and picture, by its path in the job's folder.
        overrides: the options given on the command line; None for a job of a search.
        presets: a digest of the user's own presets; None without any.
        digest: the SHA-256 of the record's other values; empty in records from before there were digests.
        job: the name of the job in its sweep. The reader of the sweep gives the name; it is not written.
    """

    config: dict[str, Any]
    mu: float
    seed: int
    model: dict[str, Any]
    data: str
    protocol: dict[str, Any]
    device: str
    versions: dict[str, str | None]
    store: dict[str, str | None]
    made: dict[str, bool]
    seconds: dict[str, float]
    model_files: dict[str, str | None] = field(default_factory=dict)
    trained_on: str | None = None
    data_files: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    pictures: list[str] | None = field(default_factory=list)
    ended: str = ""
    schema: int = schema.SCHEMA
    files: dict[str, str] = field(default_factory=dict)
    overrides: list[str] | None = None
    presets: str | None = None
    digest: str = ""
    job: str = field(default="", compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values, as it is written: without `job`."""
        return {key: value for key, value in asdict(self).items() if key != "job"}


@dataclass(frozen=True, kw_only=True)
class TrainRecord(Record):
    """The record of a job of `train`.

    Attributes:
        accuracy: the accuracy on the test images.
        curves: the accuracy-drop curves by the number of epochs, as text.
    """

    accuracy: TestAccuracy
    curves: dict[str, EpochCurve]


@dataclass(frozen=True, kw_only=True)
class InterpretRecord(Record):
    """The record of a job of `interpret`.

    Attributes:
        accuracy: the accuracies, intact and after ablation.
        filters: the numbers of filters.
        selection: the certificate of the selection.
        curve: the accuracy-drop curve.
        overlap: in a sanity check, the overlap of the selection with the selection of the trained network.
        signals_alike: in a sanity check, the similarity of both networks' signals, by rule.
        self_test: the test of the ablations; None in records from before there was one.
        by_class: what the filters of each class cost by themselves; empty unless ``ablate=class``.
    """

    accuracy: Accuracy
    filters: FilterCounts
    selection: Certificate
    curve: CurvePoints
    overlap: Overlap | None = None
    signals_alike: dict[str, float | None] = field(default_factory=dict)
    self_test: SelfTest | None = None
    by_class: list[ClassEntry] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ArenaRecord(Record):
    """The record of a contest of selectors on one network.

    Attributes:
        accuracy: the accuracy of the intact network.
        filters: the numbers of filters, and those of the mu-lasso's selection at mu.
        selection: the certificate of that selection.
        images: the number of images evaluated.
        entries: the results.
        refused: why a selector could not take part, by its name.
        self_test: the test of the ablations.
    """

    accuracy: BareAccuracy
    filters: FilterCounts
    selection: Certificate
    images: int
    entries: list[Entry]
    refused: dict[str, str]
    self_test: SelfTest | None = None


AnyRecord = TrainRecord | InterpretRecord | ArenaRecord
KINDS: dict[str, type[Record]] = {"train": TrainRecord, "arena": ArenaRecord}  # by job; of others, InterpretRecord


class OtherVersion(ValueError):
    """The error for a record whose form is that of another version of the package."""


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON values of a record with their digest."""
    content = {key: one for key, one in value.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True)
    return {**content, "digest": hashlib.sha256(text.encode()).hexdigest()}


def parse_record(value: Any, job: str = "") -> AnyRecord:
    """Return the record that JSON values hold, with texts that are fit to be printed.

    Args:
        value: the JSON values.
        job: the name of the job in its sweep.

    Raises:
        OtherVersion: the record is of another version.
        ValueError: the record is not whole, or has changed since it was written.
        LookupError, TypeError: the values are no record.
    """
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if "digest" in value and sealed(value)["digest"] != value["digest"]:
        raise ValueError("not whole: it has changed since it was written")
    value = fit_to_print(value)
    if value["schema"] not in (schema.WITHOUT_DIGESTS, schema.SCHEMA):
        raise OtherVersion("of another version")
    if not schema.whole(value):
        raise ValueError("not whole")
    if "curves" in value:
        curves = {epoch: _parsed(EpochCurve, curve) for epoch, curve in value["curves"].items()}
        parts = {"accuracy": _parsed(TestAccuracy, value["accuracy"]), "curves": curves}
        return TrainRecord(**_common(value), **parts, job=job)
    if "entries" in value:
        return ArenaRecord(**_common(value), **_parts_of_arena(value), job=job)
    kinds = {"accuracy": Accuracy, "filters": FilterCounts, "selection": Certificate, "curve": CurvePoints}
    parts = {name: _parsed(kind, value[name]) for name, kind in kinds.items()}
    overlap = value["overlap"] and _parsed(Overlap, value["overlap"])
    parts["self_test"] = value.get("self_test") and _parsed(SelfTest, value["self_test"])
    parts["by_class"] = [_class_entry(entry) for entry in value.get("by_class", ())]
    return InterpretRecord(**_common(value), **parts, overlap=overlap, signals_alike=value["signals_alike"], job=job)


def _parts_of_arena(value: dict[str, Any]) -> dict[str, Any]:
    kinds = {"accuracy": BareAccuracy, "filters": FilterCounts, "selection": Certificate}
    return {
        **{name: _parsed(kind, value[name]) for name, kind in kinds.items()},
        "entries": [_parsed(Entry, entry) for entry in value["entries"]],
        "self_test": value["self_test"] and _parsed(SelfTest, value["self_test"]),
        **{name: value[name] for name in ("images", "refused")},
    }


def _class_entry(value: dict[str, Any]) -> ClassEntry:
    drops = {
        name: value[name] and _parsed(Estimate, value[name]) for name in ("own_class", "collateral", "specificity")
    }
    return _parsed(ClassEntry, {**value, **drops})


def _common(value: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(Record)} - {"job"}
    protocol = {**LATER["protocol"], **value["protocol"]}
    numbers = [
        str(label) for label in range(len(value.get("selection", {}).get("explained", ())))
    ]  # named by later jobs
    return {"classes": numbers} | {name: value[name] for name in value.keys() & names} | {"protocol": protocol}


def _parsed(kind: Any, value: dict[str, Any]) -> Any:
    return kind(**{one.name: value[one.name] for one in fields(kind) if one.name in value})  # older ones lack some
