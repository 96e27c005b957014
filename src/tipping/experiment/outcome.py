"""What came of a job, as its record, its table and a line say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tipping.ablation import DropCurve, accuracies, chance_of
from tipping.data import Split
from tipping.experiment import config
from tipping.network import FilterIndex, Filters
from tipping.selection import MATCHES, Selection

if TYPE_CHECKING:
    pass  # which takes matplotlib


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
