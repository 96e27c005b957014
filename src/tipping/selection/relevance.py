"""From mu-lasso weights to the relevant filters, their order, and their random controls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tipping.mu_lasso import MuLassoProblem, Solution, spg
from tipping.network import Filters
from tipping.selection.controls import LAYER_MATCHED, Candidates, Draws, draw_controls

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The relevant filters of a network at one mu.

    Attributes:
        weights_RC: W of the mu-lasso, a row for each response.
        strength_F: the relevance of each filter: Σ |w_rc| over its responses r and all classes c.
        relevant_F: whether the filter is relevant: one of its responses has a non-zero weight for some class.
        live_F: whether the filter responds to some image.
        mass_F: the filter's responses, summed over the images.
        order_K: positions of the relevant filters that may be ablated, strongest first.
        controls: random controls of these K filters, each (K,).
        solution: the solution of the mu-lasso at this mu, with its certificates.
        explained_C: R² of each class under the weights.
        explainable_C: R² of each class under the best weights without the bound mu.
        noise: the value that `explainable_C` would stay under with 95 % probability, for all classes at once, if labels
            did not depend on responses.
    """

    weights_RC: np.ndarray
    strength_F: np.ndarray
    relevant_F: np.ndarray
    live_F: np.ndarray
    mass_F: np.ndarray
    order_K: np.ndarray
    controls: list[np.ndarray]
    solution: Solution
    explained_C: np.ndarray
    explainable_C: np.ndarray
    noise: float


Solver = Callable[[MuLassoProblem, Sequence[float]], Solution]


def select(
    problem: MuLassoProblem, filters: Filters, mu: float, *, solver: Solver = spg, draws: Draws = LAYER_MATCHED
) -> Selection:
    """Solve the mu-lasso at one mu, order the relevant filters by strength and draw random controls for them."""
    return select_each(problem, filters, [mu], solver=solver, draws=draws)[0]


def select_each(
    problem: MuLassoProblem,
    filters: Filters,
    mu: Sequence[float],
    *,
    solver: Solver = spg,
    draws: Draws = LAYER_MATCHED,
) -> list[Selection]:
    """Solve the mu-lasso at several mu with one call of the solver, and return the selection at each mu.

    A warning is logged for each column that is not certified.
    """
    solution = solver(problem, mu)
    for sentence in solution.stopped.values():
        log.warning(sentence)
    return selections(problem, filters, mu, solution, draws)


def selections(
    problem: MuLassoProblem,
    filters: Filters,
    mu: Sequence[float],
    solution: Solution,
    draws: Draws = LAYER_MATCHED,
    best: tuple[np.ndarray, float] | None = None,
) -> list[Selection]:
    """Return the selection at each mu of a solution.

    Args:
        solution: the solution of the problem at these mu.
        best: the result of `explainable`, where it is known already.
    """
    live_F = by_filter(~problem.dead_F(), filters) > 0
    best = explainable(problem) if best is None else best
    each = [_selected(problem, filters, solution.at(m), live_F, best) for m in range(len(mu))]
    return [with_controls(chosen, filters, value, draws) for chosen, value in zip(each, mu, strict=True)]


def _selected(
    problem: MuLassoProblem,
    filters: Filters,
    solution: Solution,
    live_F: np.ndarray,
    best: tuple[np.ndarray, float],
) -> Selection:
    weights_RC = solution.weights_MFC[0].cpu().numpy()
    strength_F = by_filter(np.abs(weights_RC).sum(1), filters)
    relevant_F = by_filter((weights_RC != 0).any(1), filters) > 0
    order_K = strongest_first(strength_F, relevant_F & filters.ablatable_F)
    shares_C = explained(problem, weights_RC)
    mass_F = by_filter(masses(problem, filters), filters)
    return Selection(weights_RC, strength_F, relevant_F, live_F, mass_F, order_K, [], solution, shares_C, *best)


def with_controls(selection: Selection, filters: Filters, mu: float, draws: Draws) -> Selection:
    """Return a copy of the selection at mu with newly drawn random controls."""
    candidates = candidates_of(selection, filters)
    return replace(selection, controls=draw_controls(selection.order_K, candidates, mu, draws))


def candidates_of(selection: Selection, filters: Filters) -> Candidates:
    """Return the properties of all filters that random controls of a selection may depend on."""
    dead_F = ~(selection.live_F | selection.relevant_F)  # other selectors than the mu-lasso may choose dead filters
    return Candidates(filters.index.layer_F, dead_F, selection.mass_F, selection.strength_F, filters.ablatable_F)


def by_filter(values_R: np.ndarray, filters: Filters) -> np.ndarray:
    """Sum values (R,) or (R, C) over the responses of each filter: (F,) or (F, C)."""
    sums_F = np.zeros((len(filters.ablatable_F), *values_R.shape[1:]))
    np.add.at(sums_F, filters.filter_R, values_R)
    return sums_F


def strongest_first(strength_F: np.ndarray, chosen_F: np.ndarray) -> np.ndarray:
    """Return the positions of the chosen filters by falling strength: (K,). Ties keep the order of the network."""
    order_F = np.argsort(-strength_F, kind="stable")
    return order_F[chosen_F[order_F]]


def masses(problem: MuLassoProblem, filters: Filters) -> np.ndarray:
    """Return each response summed over images, Σ_n x_nr: (R,).

    It is computed from the Gram matrix as Σ_s Σ_n x_nr x_ns over the responses s measured at the same place, since the
    responses at one place sum to 1 for each image.
    """
    gram_RR = problem.gram_FF.cpu().numpy()
    sizes = [int((filters.index.layer_F == filters.index.layers.index(layer)).sum()) for layer, _ in filters.maps]
    place_R = np.repeat(np.arange(len(sizes)), sizes)
    return np.array([(row_R * (place == place_R)).sum() for row_R, place in zip(gram_RR, place_R, strict=True)])


def explained(problem: MuLassoProblem, weights_RC: np.ndarray) -> np.ndarray:
    """Return R² = 1 − ‖X w − l‖² / ‖l − mean l‖² of each class, for one-hot labels l: (C,)."""
    objective_C = problem.objective(torch.as_tensor(weights_RC).to(problem.gram_FF))
    return _share(problem, 2 * objective_C.double().cpu().numpy())


def explainable(problem: MuLassoProblem) -> tuple[np.ndarray, float]:
    """Return how much of each class the responses can explain, and how much they would explain by chance.

    Returns:
        R² of each class by least squares, without the bound mu: (C,).
        the value that all R² stay under with 95 % probability if labels do not depend on responses. For N images and
            responses of rank r whose span holds the constants, R² then follows the Beta distribution with parameters
            (r − 1)/2 and (N − r)/2 [anderson2003], as far as labels are normal; Bonferroni correction over classes.
            The span holds them where the responses of a layer sum to 1. Where it does not, R² is at most that of the
            span with them, of rank r + 1.
    """
    from scipy.stats import beta  # here: it takes long to load

    gram_RR, norm_R = problem.normalised()
    gram_RR = gram_RR.to(problem.gram_FF.dtype)  # float32 takes half the memory
    values_R, vectors_RR = torch.linalg.eigh(gram_RR)
    range_R = values_R > len(values_R) * torch.finfo(values_R.dtype).eps * values_R.max()
    along_RC = vectors_RR[:, range_R].T @ (problem.cross_FC.double() / norm_R[:, None]).to(vectors_RR)
    fitted_C = (along_RC.square() / values_R[range_R, None]).sum(0).cpu().numpy()
    images, classes, rank = round(float(problem.label_sq_C.sum())), len(fitted_C), int(range_R.sum())
    constants = float((along_RC.sum(1).square() / values_R[range_R]).sum())  # ‖P 1‖², as one-hot labels sum to 1
    rank += constants < (1 - torch.finfo(values_R.dtype).eps ** 0.5) * images
    if rank >= images:
        noise = 1.0
    else:
        noise = float(beta.ppf(1 - 0.05 / classes, (rank - 1) / 2, (images - rank) / 2)) if rank > 1 else 0.0
    return _share(problem, problem.label_sq_C.double().cpu().numpy() - fitted_C), noise


def _share(problem: MuLassoProblem, residual_C: np.ndarray) -> np.ndarray:
    """Return R² of each class from its residual sum of squares; 0 for a class without images: (C,)."""
    count_C = problem.label_sq_C.double().cpu().numpy()
    spread_C = count_C * (1 - count_C / count_C.sum())
    shares_C: np.ndarray = 1 - np.divide(residual_C, spread_C, out=np.ones_like(residual_C), where=spread_C > 0)
    return shares_C
