"""The parts of the records of jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """The accuracies, in [0, 1], on the images evaluated.

    Attributes:
        intact: of the intact network.
        selected: without the relevant filters.
        random: without the filters of each random control.
        chance: of the most frequent class as the only answer.
    """

    intact: float
    selected: float
    random: list[float]
    chance: float


@dataclass(frozen=True)
class TestAccuracy:
    """The accuracy, in [0, 1], of a trained network on the test images."""

    __test__ = False  # or pytest takes the class for a test

    intact: float


@dataclass(frozen=True)
class FilterCounts:
    """The numbers of filters.

    Attributes:
        total: all filters of the network.
        dead: filters that never respond.
        relevant: filters with a weight for some class.
        ablated: relevant filters that may be ablated.
        shared: for each control, the number of filters that the control shares with the ablated filters.
        per_layer: the number of ablated filters in each layer.
    """

    total: int
    dead: int
    relevant: int
    ablated: int
    shared: list[int]
    per_layer: dict[str, int]


@dataclass(frozen=True)
class Certificate:
    """The quality of the weights; lists have an entry for each class.

    Attributes:
        solver: the name of the solver.
        relative_gap: the relative duality gap.
        certified: whether every gap is within the tolerance.
        unique: whether no other support reaches the minimum.
        iterations: the iterations of the solver.
        explained: the share of the variance of the labels that the weights explain.
        explainable: the share that any weights could explain.
        explainable_by_noise: the share that weights on noise would seem to explain.
        binds: whether the bound mu binds; None in records from before it was noted, and in float32.
        saturation: the mu from which the bound no longer binds; None for a class where it is not known.
    """

    solver: str
    relative_gap: list[float]
    certified: bool
    unique: list[bool]
    iterations: list[int]
    explained: list[float]
    explainable: list[float]
    explainable_by_noise: float
    binds: list[bool] | None = None
    saturation: list[float | None] | None = None


@dataclass(frozen=True)
class CurvePoints:
    """The accuracy-drop curve: accuracies after filters are removed, at several numbers of filters.

    Attributes:
        images: the number of images evaluated.
        removed: the numbers of filters removed, rising from 0.
        selected, weakest: the accuracies when relevant filters are removed, the strongest or the weakest first.
        random: the accuracies when the filters of each control are removed.
    """

    images: int
    removed: list[int]
    selected: list[float]
    weakest: list[float]
    random: list[list[float]]


@dataclass(frozen=True)
class EpochCurve(CurvePoints):
    """The accuracy-drop curve after some epochs of a training.

    Attributes:
        tips_at: the number of filters at which the network tips; None if the network does not tip.
    """

    tips_at: float | None


@dataclass(frozen=True)
class SelfTest:
    """What the network's test of its own ablations has shown.

    Attributes:
        passes: how many times an image passed the network.
        moved: the layers whose filters are ablated earlier than where they would be measured best.
        remarks: what a reader should know, in sentences.
    """

    passes: int
    moved: list[str]
    remarks: list[str]


@dataclass(frozen=True)
class BareAccuracy:
    """The accuracy, in [0, 1], of a network whose filters are all there.

    Attributes:
        intact: of the intact network, on the images evaluated.
        chance: of the most frequent class as the only answer.
    """

    intact: float
    chance: float


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassEntry:
    """What it costs to ablate filters that have to do with one class.

    Attributes:
        kind: the kind of set, as in `tipping.selection.KINDS`.
        label: the class.
        filters: the number of filters ablated.
        own_class: the drop of accuracy on the images of the class; None where it has none.
        collateral: the mean drop on the images of the other classes; None where there are none.
        specificity: own-class minus collateral; None where one of them is.
        tips_at: of its own and of random filters, how many the class survives: the number at which its accuracy is
            midway between intact and 1 / the number of logits; None where it stays over that, or is not measured.
        tips_low, tips_high: its 95 % interval; None where it is open.
    """

    kind: str
    label: int
    filters: int
    own_class: Estimate | None
    collateral: Estimate | None
    specificity: Estimate | None
    tips_at: float | None
    tips_low: float | None
    tips_high: float | None


@dataclass(frozen=True)
class Entry:
    """The result of a selector by one kind of order: curves of D orders at P numbers of filters.

    Attributes:
        selector: the name of the selector.
        family, cost: its family, and what it takes.
        orders: `own`, over all layers, or `matched`, with as many filters of each layer as the mu-lasso's.
        seconds: how long the scores took, with what the selector shares with others.
        counts: the numbers of filters, rising from 0.
        removed, kept: the accuracies where the first filters are removed, and where only these are kept: (D, P).
        removed_loss, kept_loss: the mean cross-entropy there, in nats: (D, P).
        tips_at: the number of filters that have to be removed until accuracy is midway between intact and chance; None
            where it stays over that; 0 where the intact network is no better than that.
        tips_low, tips_high: its 95 % interval; None where it is open.
        own_class, collateral: the drops of the accuracy of a class, and of the others, without as many filters as the
            mu-lasso has for it, means over classes; None where the selector does not tell classes apart.
    """

    selector: str
    family: str
    cost: str
    orders: str
    seconds: float
    counts: list[int]
    removed: list[list[float]]
    kept: list[list[float]]
    removed_loss: list[list[float]]
    kept_loss: list[list[float]]
    tips_at: float | None
    tips_low: float | None
    tips_high: float | None
    own_class: float | None = None
    collateral: float | None = None
