"""What a job records: what was run and on what, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tipping.experiment import schema
from tipping.selection import Overlap


@dataclass(frozen=True)
class Accuracy:
    """Accuracies, in [0, 1], on the images evaluated.

    Attributes:
        intact: of the network as it is.
        selected: without the relevant filters.
        random: without each of the random controls.
        chance: of always giving the most frequent class.
    """

    intact: float
    selected: float
    random: list[float]
    chance: float


@dataclass(frozen=True)
class TestAccuracy:
    """The accuracy, in [0, 1], of a trained network on the test images."""

    __test__ = False  # or pytest takes it for a test

    intact: float


@dataclass(frozen=True)
class FilterCounts:
    """How many filters there are.

    Attributes:
        total: of the network.
        dead: that never respond.
        relevant: with a weight for some class.
        ablated: of the relevant ones, those that may be ablated.
        shared: for each control, how many of its filters are among the ablated ones.
        per_layer: the ablated ones by their layer.
    """

    total: int
    dead: int
    relevant: int
    ablated: int
    shared: list[int]
    per_layer: dict[str, int]


@dataclass(frozen=True)
class Certificate:
    """How good the weights are, for each class.

    Attributes:
        solver: its name.
        relative_gap: the relative duality gap.
        certified: whether every gap is within the tolerance.
        unique: whether the support is the only one that reaches the minimum.
        iterations: of the solver.
        explained: the share of the variance of the labels that the weights explain.
        explainable: the share that any weights could explain.
        explainable_by_noise: the share that weights on noise would seem to explain.
    """

    solver: str
    relative_gap: list[float]
    certified: bool
    unique: list[bool]
    iterations: list[int]
    explained: list[float]
    explainable: list[float]
    explainable_by_noise: float


@dataclass(frozen=True)
class CurvePoints:
    """An accuracy-drop curve: accuracies after so many filters are removed.

    Attributes:
        images: on how many it was measured.
        removed: numbers of filters, rising from 0.
        selected, weakest: accuracies without the relevant filters, strongest or weakest first.
        random: the same without the filters of each control.
    """

    images: int
    removed: list[int]
    selected: list[float]
    weakest: list[float]
    random: list[list[float]]


@dataclass(frozen=True)
class EpochCurve(CurvePoints):
    """The accuracy-drop curve after some epochs of a training; `tips_at` filters tip the network there, if any do."""

    tips_at: float | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """What any job records.

    Attributes:
        schema: the version of this form.
        config: all options.
        mu, seed, model, data, protocol: those that name the job; the protocol's name says what differs from its preset.
        model_files: SHA-256 of the files that decide the network beside its options.
        device, versions: what it ran on, and with.
        trained_on: what its network was trained on, by this job or an earlier one; None where nobody knows, as of
            checkpoints.
        store: keys of what the store holds of it, and a digest of the network's weights.
        made: what was made by this job, and not found in the store.
        seconds: spent in each stage.
        pictures: their names; None until they are drawn.
        ended: the time of day.
        job: the name of the job in its sweep, given by what reads it.
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
    pictures: list[str] | None = field(default_factory=list)
    ended: str = ""
    schema: int = schema.SCHEMA
    job: str = field(default="", compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {key: value for key, value in asdict(self).items() if key != "job"}


@dataclass(frozen=True, kw_only=True)
class TrainRecord(Record):
    """What a job of `train` records.

    Attributes:
        accuracy: on the test images.
        curves: by the number of epochs, as text.
    """

    accuracy: TestAccuracy
    curves: dict[str, EpochCurve]


@dataclass(frozen=True, kw_only=True)
class InterpretRecord(Record):
    """What a job of `interpret` records.

    Attributes:
        overlap: of the selection with the trained network's, in a sanity check.
        signals_alike: in one, by each rule how alike the signals of both networks are.
    """

    accuracy: Accuracy
    filters: FilterCounts
    selection: Certificate
    curve: CurvePoints
    overlap: Overlap | None = None
    signals_alike: dict[str, float | None] = field(default_factory=dict)


def parse_record(value: dict[str, Any], job: str = "") -> TrainRecord | InterpretRecord:
    """Return the record that JSON holds.

    Raises:
        ValueError: it is of another version, or not whole.
        LookupError, TypeError: it is no record.
    """
    if value["schema"] != schema.SCHEMA:
        raise ValueError("of another version")
    if not schema.whole(value):
        raise ValueError("not whole")
    if "curves" in value:
        curves = {epoch: _parsed(EpochCurve, curve) for epoch, curve in value["curves"].items()}
        parts = {"accuracy": _parsed(TestAccuracy, value["accuracy"]), "curves": curves}
        return TrainRecord(**_common(value), **parts, job=job)
    kinds = {"accuracy": Accuracy, "filters": FilterCounts, "selection": Certificate, "curve": CurvePoints}
    parts = {name: _parsed(kind, value[name]) for name, kind in kinds.items()}
    overlap = value["overlap"] and _parsed(Overlap, value["overlap"])
    return InterpretRecord(**_common(value), **parts, overlap=overlap, signals_alike=value["signals_alike"], job=job)


def _common(value: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(Record)} - {"job"}
    return {name: value[name] for name in value.keys() & names}


def _parsed(kind: Any, value: dict[str, Any]) -> Any:
    return kind(**{one.name: value[one.name] for one in fields(kind)})
