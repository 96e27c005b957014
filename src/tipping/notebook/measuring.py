"""Functions for any network and loader: its relevant filters, its accuracy without them, and where accuracy tips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal, overload

import numpy as np
from torch import Tensor, nn

from tipping.ablation import chance_of
from tipping.ablation import drop_curve as measured_curve
from tipping.data import Split
from tipping.errors import InputError, require, require_mu, require_whole
from tipping.mu_lasso import MuLassoProblem, Reach, Solution, homotopy
from tipping.network import Filters
from tipping.notebook.loader import Batches, checked, class_names, gathered, with_labels_below
from tipping.notebook.results import Curve, RelevantFilters, Tipping, require_kind
from tipping.selection import LAYER_MATCHED, MATCHES, Draws, collect, require_memory, select_each
from tipping.selectors import MU_LASSO, Evidence, chosen_by, require_selector, score


@overload
def relevant_filters(
    network: Filters | nn.Module,
    batches: Batches,
    mu: float = 100,
    *,
    draws: Draws = LAYER_MATCHED,
    classes: Sequence[str] | None = None,
    selector: str = MU_LASSO,
    positive: bool = False,
) -> RelevantFilters:
    """Find the relevant filters at one mu."""


@overload
def relevant_filters(
    network: Filters | nn.Module,
    batches: Batches,
    mu: Sequence[float] | Literal["auto"],
    *,
    draws: Draws = LAYER_MATCHED,
    classes: Sequence[str] | None = None,
    selector: str = MU_LASSO,
    positive: bool = False,
) -> list[RelevantFilters]:
    """Find the relevant filters at several mu."""


def relevant_filters(
    network: Filters | nn.Module,
    batches: Batches,
    mu: float | Sequence[float] | Literal["auto"] = 100,
    *,
    draws: Draws = LAYER_MATCHED,
    classes: Sequence[str] | None = None,
    selector: str = MU_LASSO,
    positive: bool = False,
) -> RelevantFilters | list[RelevantFilters]:
    """Find the relevant filters of a network, those with a weight for some class, by the mu-lasso [oramas2019].

    For each class c, the mu-lasso solves min ½‖X w − l_c‖² subject to ‖w‖₁ ≤ mu, with the responses X (N, R) of the
    filters to the images and the one-hot labels l_c. The exact path in mu is followed.

    Args:
        network: the filters of a network, or a model, whose filters are found by watching the first image.
        batches: any iterable of images (N, C, H, W) and integer labels (N,), such as a DataLoader of the training
            images, or a split of `tipping.images`. It is gone through once; a few batches at a time are moved to the
            model's device.
        mu: the L1 radius of each class: one value, or several, for which the path is followed once; or `auto`, nine
            values from the first mu that says something to the last, where the path ends.
        draws: the random controls with which `drop_curve` compares.
        classes: the names of the classes; by default, those that the loader's data set has as `classes`, if any.
        selector: what chooses the filters: `mu_lasso`, or the name of another of `tipping.selectors`, which gives as
            many filters as the mu-lasso, those with the largest scores. For these the batches are put together in
            memory.
        positive: whether the weights of the mu-lasso must be at least 0.

    Returns:
        the relevant filters; a list of them if mu is several values, or `auto`.

    Raises:
        InputError: the network has no filters, or does not give logits; the batches hold something else; mu or draws
            are out of range; there is no such selector, or it does not suit the network.
    """
    require_kind(network, (Filters, nn.Module), "a torch network, or tipping.Filters")
    given = None if isinstance(mu, str) and mu == "auto" else _values(mu)
    require_draws(draws)
    require_selector(selector)
    filters, pairs = _opened(network, batches)
    names = class_names(filters.classes, classes, batches)
    require_memory(filters)
    images = with_labels_below(pairs, filters.classes)
    split = None if selector == MU_LASSO else _together(batches, images, filters)
    try:
        problem = collect(filters, split or images).non_negative(positive)
        several = given or _grid(problem)
        chosen = select_each(problem, filters, several, solver=_exactly, draws=draws)
    except ArithmeticError as error:
        raise InputError(str(error)) from error
    if split:
        chosen = [
            chosen_by(score(selector, Evidence(filters, split, value)), one, filters, value, draws)
            for one, value in zip(chosen, several, strict=True)
        ]
    each = [
        RelevantFilters(filters, value, selection, names, selector)
        for value, selection in zip(several, chosen, strict=True)
    ]
    return each if given is None or np.ndim(mu) else each[0]


def require_draws(draws: Draws) -> None:
    """Raise `InputError` unless random controls can be drawn so."""
    require_whole("draws.count", draws.count, at_least=1)
    require(draws.match in MATCHES, "draws.match", draws.match, f"give one of {', '.join(MATCHES)}")


def _grid(problem: MuLassoProblem) -> list[float]:
    """Return values of mu from the first that says something to the last, by the exact path."""
    reach = Reach.from_path(homotopy(problem))
    require(reach.last > 0, "mu", "auto", "no class depends on any filter; give other images")
    return reach.grid()


def _values(mu: float | Sequence[float]) -> list[float]:
    """Return the values of mu in a list, checked."""
    try:
        mu_M = np.atleast_1d(np.asarray(mu, dtype=float))
    except (TypeError, ValueError) as error:
        raise InputError(f"mu={mu!r}: give a number, several, or auto") from error
    require(mu_M.ndim == 1 and mu_M.size > 0, "mu", mu, "give a number, or several")
    for value in mu_M.tolist():
        require_mu("mu", value)
    return mu_M.tolist()


def _opened(network: Filters | nn.Module, batches: Batches) -> tuple[Filters, Iterator[tuple[Tensor, Tensor]]]:
    """Return the filters of a network, found by watching the first image if need be, and all batches, checked."""
    model = network.given if isinstance(network, Filters) else network
    pairs = checked(batches, model)
    first = next(pairs)
    filters = network if isinstance(network, Filters) else Filters.of(model, first[0][:1])
    return filters, chain([first], pairs)


def _together(batches: Batches, pairs: Iterable[tuple[Tensor, Tensor]], filters: Filters) -> Split:
    """Return the images of batches, which are checked as `pairs`, as a split; one that is given stays where it is."""
    return gathered(batches if isinstance(batches, Split) else pairs, filters.given, filters.classes)


def _exactly(problem: MuLassoProblem, mu: Sequence[float]) -> Solution:
    return homotopy(problem, largest_mu=max(mu)).solution(mu)


def drop_curve(relevant: RelevantFilters, batches: Batches, points: int = 8) -> Curve:
    """Measure accuracy as the relevant filters are ablated, strongest first, beside as many random ones.

    The random filters are the controls of the selection, by default from the same layers.

    Args:
        relevant: the relevant filters.
        batches: the test images with labels, as in `relevant_filters`. They are gone through once and put together in
            memory, since each image is needed for many ablations.
        points: the number of counts of filters, evenly spaced, at which accuracy is measured.

    Raises:
        InputError: the batches hold something else, or points is not over 0.
    """
    require_kind(relevant, RelevantFilters, "what relevant_filters returns for one mu")
    require_whole("points", points, at_least=1)
    split = gathered(batches, relevant.filters.given, relevant.filters.classes)
    order_K, controls = relevant.order, relevant.selection.controls
    measured = measured_curve(relevant.filters, split, order_K, controls, points)
    return Curve(measured, chance_of(split), split.labels_N.cpu().numpy())


def tipping_point(curve: Curve) -> Tipping:
    """Estimate how many filters have to be removed until accuracy tips, for the relevant and for random filters.

    Args:
        curve: the curve that `drop_curve` returns.

    Raises:
        InputError: no filter is removed along the curve, as none is relevant.
    """
    require_kind(curve, Curve, "what drop_curve returns")
    return Tipping(curve.tipping_point("selected"), curve.tipping_point("random"), curve.measured.removed[-1])
