"""The result of a job, for its record, its table and a line of its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tipping.ablation import DropCurve, accuracies, chance_of
from tipping.data import Split
from tipping.experiment import config
from tipping.experiment.reached import binding
from tipping.experiment.record import InterpretRecord
from tipping.experiment.record_parts import Accuracy, Certificate, CurvePoints, FilterCounts, SelfTest
from tipping.mu_lasso import Reach
from tipping.network import FilterIndex, Filters
from tipping.selection import MATCHES, Selection, ranked_filters


def outcome(
    options: config.Config,
    index: FilterIndex,
    selection: Selection,
    images: Split,
    intact_N: np.ndarray,
    predictions_AN: np.ndarray,
    curve: DropCurve,
    reach: Reach | None = None,
) -> dict[str, Any]:
    """Return the result of a job, as the parts of an `InterpretRecord`.

    Args:
        options: the options of the job, with mu as a number.
        index: the index of the network's filters.
        images: the images evaluated.
        intact_N: the predictions of the intact network.
        predictions_AN: the predictions without the relevant filters, then without the filters of each control.
        curve: the accuracy-drop curve.
        reach: between which mu the mu-lasso says something; None where that is not known.
    """
    intact, selected, *random = accuracies(np.vstack([intact_N, predictions_AN]), images.labels_N)
    return {
        "accuracy": Accuracy(intact, selected, random, chance_of(images)),
        "filters": count_filters(index, selection),
        "selection": certificate(options.selection.solver, selection, options.mu, reach),
        "curve": CurvePoints(**curve.record()),
    }


def count_filters(index: FilterIndex, selection: Selection) -> FilterCounts:
    """Count the filters of a network and of a selection."""
    counts = np.bincount(index.layer_F[selection.order_K], minlength=len(index.layers)).tolist()
    return FilterCounts(
        total=len(index.layer_F),
        dead=int((~selection.live_F).sum()),
        relevant=int(selection.relevant_F.sum()),
        ablated=len(selection.order_K),
        shared=[len(np.intersect1d(selection.order_K, control)) for control in selection.controls],
        per_layer=dict(zip(index.layers, counts, strict=True)),
    )


def certificate(solver: str, selection: Selection, mu: float, reach: Reach | None = None) -> Certificate:
    """Return the certificate of a selection's weights at mu, which `solver` found.

    Where the reach is not known, the saturation mu of a class is if its weights are the only ones without the bound.
    """
    solution = selection.solution
    binds_C, saturation_C = binding(selection, mu, reach), None
    if reach is not None:
        saturation_C = reach.saturation_C.tolist()
    elif binds_C is not None:
        unique_C, norms_C = solution.unique_MC[0].tolist(), solution.weights_MFC[0].abs().sum(0).tolist()
        known_C = [unique and not binds for unique, binds in zip(unique_C, binds_C, strict=True)]
        saturation_C = [norm if known else None for norm, known in zip(norms_C, known_C, strict=True)]
    return Certificate(
        solver=solver,
        relative_gap=solution.relative_gap_MC[0].tolist(),
        certified=bool(solution.certified_MC.all()),
        unique=solution.unique_MC[0].tolist(),
        iterations=solution.iterations_MC[0].tolist(),
        explained=selection.explained_C.tolist(),
        explainable=selection.explainable_C.tolist(),
        explainable_by_noise=selection.noise,
        binds=binds_C,
        saturation=saturation_C,
    )


def self_test(filters: Filters) -> SelfTest | None:
    """Return what the network's test of its own ablations has shown; None where the filters were given."""
    proof = filters.proof
    return SelfTest(proof.passes, list(proof.moved), list(proof.remarks)) if proof else None


def ranked(
    filters: Filters, selection: Selection, classes: Sequence[str], alone_K: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Rank the relevant filters, as `ranked_filters` does.

    Args:
        classes: the names of the classes.
        alone_K: the drop of accuracy without each of them alone, where it was measured.
    """
    places = [place[:2] for place in filters.places]
    weights_RC, strength_F = selection.weights_RC, selection.strength_F
    return ranked_filters(places, weights_RC, selection.order_K, classes, strength_F=strength_F, alone_K=alone_K)


def sentence(record: InterpretRecord) -> str:
    """Say a job's result in one line."""
    accuracy, filters, selection = record.accuracy, record.filters, record.selection
    protocol, overlap = record.protocol, record.overlap
    certified = "certified" if selection.certified else "NOT certified"
    certified += "" if all(selection.unique) else ", others may do as well"
    only = "" if filters.ablated == filters.relevant else f", {filters.ablated} of them ablated"
    chosen = record.config.get("selector", config.MU_LASSO)
    relevant = "relevant" if chosen == config.MU_LASSO else f"chosen by {chosen}"
    text = (
        f"{protocol['name']}, mu={record.mu:g}: {filters.relevant} of {filters.total} filters {relevant}{only} "
        f"({certified}, relative gap {max(selection.relative_gap):.0e}); {protocol['evaluated_on']} accuracy "
        f"{100 * accuracy.intact:.2f} % intact, {100 * accuracy.selected:.2f} % without them, "
        f"{100 * float(np.mean(accuracy.random)):.2f} % without {MATCHES[protocol['control']]}"
    )
    if max(selection.explainable) <= selection.explainable_by_noise:
        text += "; but nothing is relevant: no class is explained better than by noise"
    if overlap and overlap.jaccard is not None and overlap.jaccard_by_chance is not None:
        shared, low, high = (round(100 * share) for share in (overlap.jaccard, *overlap.jaccard_by_chance))
        text += f"; {shared} % overlap with the trained network's ({low} to {high} % by chance)"
    return text
