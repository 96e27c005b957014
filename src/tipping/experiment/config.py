"""The options of jobs: their types and ranges. Their defaults and units are in ``conf/``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from tipping.errors import require, require_positive, require_whole
from tipping.experiment.arena_options import ArenaOptions
from tipping.experiment.data_options import DataOptions, deciding_of_data
from tipping.experiment.mu import mu_option, require_one_path
from tipping.experiment.options import LATER
from tipping.experiment.options import MU_LASSO as MU_LASSO  # for all that take options
from tipping.tracking import Tracking

ABLATE = ("union", "class")  # the filters of all classes at once; besides, those of each class by themselves


@dataclass
class ByClassOptions:
    """Options of the ablation of each class's filters by themselves."""

    images: int | None

    def __post_init__(self) -> None:
        require_whole("by_class.images", 0 if self.images is None else self.images, 0)


@dataclass
class TrainerOptions:
    """Options of training, by RMSprop on the cross-entropy."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    precision: str

    def __post_init__(self) -> None:
        require_whole("trainer.max_epochs", self.max_epochs, 1)
        require_whole("trainer.batch_size", self.batch_size, 1)
        require_positive("trainer.learning_rate", self.learning_rate)
        require(self.learning_rate < 1e38, "trainer.learning_rate", self.learning_rate, "give one that float32 holds")
        precisions = ("float32", "tf32", "bf16")
        require(self.precision in precisions, "trainer.precision", self.precision, f"give {', '.join(precisions)}")


AXES = {  # the axes of a protocol; docs/protocols.md says what each value means
    "norm": ("frobenius", "spectral", "squared"),
    "scale": ("layer", "raw"),
    "maps": ("after_relu", "before_pooling", "all"),
    "labels": ("true", "predicted", "permuted"),
    "scope": ("filter", "first_input_channel"),
    "value": ("zero", "mean"),
    "sites": ("conv", "conv+dense"),
    "control": ("layer", "global", "live", "norm", "least_relevant"),
    "evaluated_on": ("test", "train"),
}


@dataclass
class Protocol:
    """The definitions of responses, labels, ablation and control; each result names its protocol."""

    name: str
    norm: str
    maps: str
    dense: bool
    labels: str
    scope: str
    value: str
    sites: str
    control: str
    draws: int
    evaluated_on: str
    scale: str = "layer"

    def __post_init__(self) -> None:
        self.labels = self.labels.lower()  # YAML's true
        for axis, values in AXES.items():
            value = getattr(self, axis)
            require(value in values, f"protocol.{axis}", value, f"give {', '.join(values)}")
        plain = self.scope == "filter" or self.value == "zero"
        require(
            plain, "protocol.value", self.value, "protocol.scope=first_input_channel sets weights to zero; give zero"
        )
        masses = self.control != "norm" or self.scale == "layer"
        require(masses, "protocol.control", self.control, "protocol.scale=raw has no response mass to match; give live")
        require_whole("protocol.draws", self.draws, 1)


@dataclass
class SelectionOptions:
    """Options of the mu-lasso: its solver with stopping rules, its Gram matrix, and the signs of its weights."""

    solver: str
    tolerance: float
    max_iterations: int | None = None  # for spg only
    gram: str = "float64"
    memory: float = 8.0
    positive: bool = False

    def __post_init__(self) -> None:
        require(self.solver in ("spg", "homotopy"), "selection.solver", self.solver, "give spg or homotopy")
        require_positive("selection.tolerance", self.tolerance)
        if self.solver == "spg":
            require_whole("selection.max_iterations", self.max_iterations, 1)
        require(self.gram in ("float64", "float32"), "selection.gram", self.gram, "give float64 or float32")
        reached = self.gram == "float64" or self.tolerance >= 1e-3
        require(reached, "selection.tolerance", self.tolerance, "selection.gram=float32 allows 1e-3; give 1e-3 or more")
        require_positive("selection.memory", self.memory)


@dataclass
class CurveOptions:
    """Options of the accuracy-drop curve."""

    points: int
    images: int
    every_n_epochs: int

    def __post_init__(self) -> None:
        require_whole("curve.points", self.points, 1)
        require_whole("curve.images", self.images, 0)
        require_whole("curve.every_n_epochs", self.every_n_epochs, 0)


MOST_IMAGES = 50  # the largest number of images in a picture of a filter
RULES = ("gradient", "deconvnet", "guided")  # for signals that go back; docs/visualize.md says what each means
SEEDS = ("map", "maximum")  # from which signals start
RESAMPLES = ("nearest", "none")  # of signals, in layers with a stride


@dataclass
class VisualizeOptions:
    """Options of pictures: of relevant filters, and of why images got their class."""

    enabled: bool
    filters_per_class: int
    images: int
    rules: list[str]
    seed: str
    resample: str
    pooling: bool
    every_n_epochs: int

    def __post_init__(self) -> None:
        require_whole("visualize.filters_per_class", self.filters_per_class, 1)
        require_whole("visualize.images", self.images, 1)
        few = self.images <= MOST_IMAGES
        require(few, "visualize.images", self.images, f"no picture holds so many; give at most {MOST_IMAGES}")
        require_whole("visualize.every_n_epochs", self.every_n_epochs, 0)
        rules, known = ",".join(map(str, self.rules)), ", ".join(RULES)
        right = bool(rules) and all(self.rules.count(rule) == 1 and rule in RULES for rule in self.rules)
        require(right, "visualize.rules", f"[{rules}]", f"give some of {known}, each once, such as [guided]")
        for option, values in {"seed": SEEDS, "resample": ("auto", *RESAMPLES)}.items():
            value = getattr(self, option)
            require(value in values, f"visualize.{option}", value, f"give {', '.join(values)}")
        resampled = self.resample != "none" or not self.pooling
        require(resampled, "visualize.pooling", self.pooling, "nothing is resampled; give visualize.resample=auto")


@dataclass
class StoreOptions:
    """Options of the store, the folder of networks and Gram matrices."""

    dir: str


ELSEWHERE = ("store", "tracking", "device", "resume", "replace")  # decide where and how a job runs, not its result


@dataclass
class Config:
    """All options of one job.

    Attributes:
        model: the network's class (`_target_`) and its arguments, which the class checks. Besides, `checkpoint` is a
            file of weights, and `layers` names the layers that count, if not all.
        mu: a number, or as text a share of the way from the first to the last mu that says something.
    """

    data: DataOptions
    model: dict[str, Any]
    protocol: Protocol
    selection: SelectionOptions
    tracking: Tracking
    trainer: TrainerOptions
    curve: CurveOptions
    visualize: VisualizeOptions
    store: StoreOptions
    mu: Any
    seed: int
    selector: str
    ablate: str
    by_class: ByClassOptions
    randomize: str
    device: str
    resume: bool
    replace: bool

    def __post_init__(self) -> None:
        require(isinstance(self.model.get("name"), str), "model.name", self.model.get("name"), "give a name")
        target = self.model.get("_target_")
        require(isinstance(target, str), "model._target_", target, "give the class of a network, or a function")
        for key in self.model:
            strange = str(key).startswith("_") and key != "_target_"  # a key that Hydra reads
            require(not strange, f"model.{key}", self.model[key], "no network takes it; leave it out")
        checkpoint, layers = self.model.get("checkpoint"), self.model.get("layers")
        require(checkpoint is None or isinstance(checkpoint, str), "model.checkpoint", checkpoint, "give a file")
        named = isinstance(layers, list) and layers != [] and all(isinstance(layer, str) for layer in layers)
        require(layers is None or named, "model.layers", layers, "give a list of layers, such as [conv1,block?.*]")
        self.mu = mu_option(self.mu)
        if isinstance(self.mu, str):
            require_one_path(self.mu, self.randomize, self.protocol.labels, self.selection.gram)
        require(self.ablate in ABLATE, "ablate", self.ablate, f"give {' or '.join(ABLATE)}")
        remedy = "the filters of a class are those with a weight for it; give selector=mu_lasso"
        require(self.ablate == ABLATE[0] or self.selector == MU_LASSO, "ablate", self.ablate, remedy)
        require_whole("seed", self.seed, 0)
        require(self.seed < 2**32, "seed", self.seed, "give a whole number below 2**32")
        require_device(self.device)


@dataclass
class ArenaConfig(Config):
    """All options of a contest of selectors."""

    arena: ArenaOptions


def require_device(device: object) -> None:
    """Raise `InputError` unless the value names a device."""
    require(device in ("auto", "cpu", "cuda"), "device", device, "give auto, cpu or cuda")


def presets() -> Path:
    """Return the folder of the presets: ``conf/`` at the top of a checkout, and inside the package in a wheel.

    In a checkout the package has a link to the folder. Therefore a wheel, a wheel of a source distribution and an
    editable install all find the folder in the package.
    """
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside.resolve() if inside.is_dir() else package.parents[1] / "conf"  # where links cannot be made


def parse(composed: DictConfig) -> Config:
    """Return the typed and checked options of a composed Hydra configuration.

    Raises:
        InputError: an option is out of its range.
        omegaconf.errors.OmegaConfBaseException: an option is unknown or of another type.
    """
    for option, hint in get_type_hints(Config).items():
        a_list = OmegaConf.is_list(composed.get(option))
        require(
            not a_list or hint in (str, int, float, bool, Any), option, composed.get(option), "give options by name"
        )
    rules = OmegaConf.select(composed, "visualize.rules")
    require(not OmegaConf.is_dict(rules), "visualize.rules", rules, "give a list in brackets, such as [guided]")
    kind = ArenaConfig if "arena" in composed else Config
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), composed))
    assert isinstance(config, Config)
    return config


def deciding(config: Config) -> dict[str, Any]:
    """Return the options that decide the result of a job, as JSON values."""
    return json.loads(json.dumps(decisive(asdict(config))))


def decisive(options: dict[str, Any]) -> dict[str, Any]:
    """Return those of a job's options that decide its result, without options at a default that older records lack."""
    chosen = {key: value for key, value in options.items() if key not in ELSEWHERE}
    for group, plain in LATER.items():
        pairs = [*plain.items(), ("memory", chosen[group].get("memory"))]
        chosen[group] = {key: value for key, value in chosen[group].items() if (key, value) not in pairs}
    if chosen.get("selector") == MU_LASSO:
        del chosen["selector"]
    if chosen.get("ablate", ABLATE[0]) == ABLATE[0]:
        chosen = {key: value for key, value in chosen.items() if key not in ("ablate", "by_class")}
    return {**chosen, **deciding_of_data(options["data"])}


def search_key(config: Config, *options: Any) -> str:
    """Return a hash of the options that decide the answer of a search.

    Args:
        config: the options of the search's jobs; mu does not count.
        options: the options of the search that count.
    """
    shared = {key: value for key, value in deciding(config).items() if key != "mu"}
    return hashlib.sha256(json.dumps([shared, *options], sort_keys=True).encode()).hexdigest()[:8]
