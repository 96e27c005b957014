"""From mu-lasso weights to relevant filters, their order, and random controls."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tipping import config
from tipping.mu_lasso import MuLassoProblem, Solution, homotopy, spg

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The relevant filters of a network at one mu.

    Attributes:
        weights_FC: W of the mu-lasso.
        order_K: the relevant filters' positions, strongest first.
        controls: random controls of that order, each (K,).
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
    controls = random_orders(order_K, layer_F, options.seed, options.mu, options.protocol.draws)
    return Selection(weights_FC, order_K, controls, solution)


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


def random_order(order_K: np.ndarray, layer_F: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random control of an order of filters: each place goes to a random filter of the same layer.

    Drawn uniformly without replacement within each layer, so the first k filters of both orders have the same
    count in each layer, for every k. A control may contain filters of the order itself.

    Args:
        order_K: positions of K filters.
        layer_F: layer of every filter of the network.
    """
    control_K = np.empty_like(order_K)
    for layer in np.unique(layer_F[order_K]):
        places = np.flatnonzero(layer_F[order_K] == layer)
        control_K[places] = rng.choice(np.flatnonzero(layer_F == layer), size=len(places), replace=False)
    return control_K


def random_orders(order_K: np.ndarray, layer_F: np.ndarray, seed: int, mu: float, draws: int) -> list[np.ndarray]:
    """Independent random controls that depend on (seed, mu, draw) and the network's layers only."""
    rng = np.random.default_rng((seed, int(np.float64(mu).view(np.uint64))))
    streams = rng.spawn(draws)
    return [random_order(order_K, layer_F, stream) for stream in streams]
