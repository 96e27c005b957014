"""From mu-lasso weights to relevant filters, their order, and their controls."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tipping import config
from tipping.controls import Filters, controls
from tipping.mu_lasso import MuLassoProblem, Solution, homotopy, spg

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The relevant filters of a network at one mu.

    Attributes:
        weights_FC: W of the mu-lasso.
        order_K: the relevant filters' positions, strongest first.
        controls: controls of that order.
        solution: the certificate.
    """

    weights_FC: np.ndarray
    order_K: np.ndarray
    controls: list[np.ndarray]
    solution: Solution


def select(problem: MuLassoProblem, layer_F: np.ndarray, options: config.Config) -> Selection:
    """Solve the mu-lasso at the configured mu, order its relevant filters and draw controls of that order."""
    solution = solve(problem, options.mu, options.selection)
    for sentence in solution.stopped.values():
        log.warning(sentence)
    weights_FC = solution.weights_MFC[0].cpu().numpy()
    order_K = strongest_first(weights_FC)
    filters = Filters(layer_F, problem.dead_F(), masses(problem, layer_F), np.abs(weights_FC).sum(1))
    protocol = options.protocol
    drawn = controls(order_K, filters, options.seed, options.mu, protocol.draws, protocol.control)
    return Selection(weights_FC, order_K, drawn, solution)


def solve(problem: MuLassoProblem, mu: float, options: config.Selection) -> Solution:
    """The solution at one mu, by the configured solver."""
    if options.solver == "homotopy":
        try:
            return homotopy(problem, largest_mu=mu).solution([mu], tolerance=options.tolerance)
        except ArithmeticError as error:
            raise config.InputError(f"selection=homotopy: {error}") from error
    assert options.max_iterations is not None, "checked in config"
    return spg(problem, [mu], tolerance=options.tolerance, max_iterations=options.max_iterations)


def relevant(weights_FC: np.ndarray) -> np.ndarray:
    """Whether each filter is relevant: a non-zero weight for some class; boolean (F,)."""
    return (weights_FC != 0).any(1)


def strongest_first(weights_FC: np.ndarray) -> np.ndarray:
    """The relevant filters' positions, by falling Σ_c |w_fc|; ties in the order of the network."""
    strength_F = np.abs(weights_FC).sum(1)
    order_F = np.argsort(-strength_F, kind="stable")
    return order_F[: int(relevant(weights_FC).sum())]


def masses(problem: MuLassoProblem, layer_F: np.ndarray) -> np.ndarray:
    """Each filter's response, its share of its layer's, summed over images: (F,).

    Σ_n x_nf is Σ_g Σ_n x_nf x_ng over the filters g of its layer, since their responses sum to 1.
    """
    gram_FF = problem.gram_FF.cpu().numpy()
    return (gram_FF * (layer_F[:, None] == layer_F)).sum(1)
