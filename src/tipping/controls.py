"""Random controls: as many filters as the relevant ones, or as much response, chosen without regard to relevance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MATCHES = {
    "layer": "as many random ones of the same layers",
    "global": "as many random ones of any layer",
    "live": "as many random live ones of the same layers",
    "norm": "random ones of the same response in each layer",
    "least_relevant": "as many of the least relevant ones of the same layers",
}
NEAR, DRAWS = 0.1, 100  # of the response matched, and draws at most until one comes so near


@dataclass(frozen=True)
class Filters:
    """What controls may depend on, of every filter of a network.

    Attributes:
        layer_F: its layer.
        dead_F: whether it never responds.
        mass_F: its share of its layer's response, summed over images.
        strength_F: its relevance Σ_c |w_fc|.
        ablatable_F: whether it may be ablated.
    """

    layer_F: np.ndarray
    dead_F: np.ndarray
    mass_F: np.ndarray
    strength_F: np.ndarray
    ablatable_F: np.ndarray


def control(order_K: np.ndarray, filters: Filters, rng: np.random.Generator, match: str = "layer") -> np.ndarray:
    """One control of an order of filters, itself an order; without replacement, and uniform given what it matches.

    Args:
        order_K: positions of K filters, the relevant ones, strongest first.
        match: what the control has in common with them:
            `layer`, the number of filters in each layer, for the first k of both and every k;
            `live`, the same, among filters that are not dead, as no relevant filter is;
            `global`, the number of filters in all, whatever their layers, among those that may be ablated;
            `norm`, the response mass in each layer, to within a tenth (or the nearest of a hundred draws), by live
            filters, whose number may differ: it is uniform for each number;
            `least_relevant`, the number in each layer, of those least relevant, in random order where that is equal.

    A control may contain filters of the order itself.

    Raises:
        ValueError: unknown match, or a relevant filter is said to be dead.
    """
    if match not in MATCHES:
        raise ValueError(f"match must be one of {', '.join(MATCHES)}, got {match!r}")
    if filters.dead_F[order_K].any():
        raise ValueError("filters.dead_F must not hold for relevant filters")
    if match == "global":
        return rng.choice(np.flatnonzero(filters.ablatable_F), size=len(order_K), replace=False)
    parts, places = [], []
    for layer in np.unique(filters.layer_F[order_K]):
        places_K = np.flatnonzero(filters.layer_F[order_K] == layer)
        drawn = _draw(order_K[places_K], np.flatnonzero(filters.layer_F == layer), filters, rng, match)
        parts.append(drawn)
        places.append(_spread(places_K, len(drawn)))
    if not parts:
        return order_K.copy()
    return np.concatenate(parts)[np.argsort(np.concatenate(places), kind="stable")]


def _draw(
    relevant_K: np.ndarray, layer: np.ndarray, filters: Filters, rng: np.random.Generator, match: str
) -> np.ndarray:
    """A control of the relevant filters of one layer among all of that layer."""
    if match in ("live", "norm"):
        layer = layer[~filters.dead_F[layer]]
    if match == "norm":
        return _of_mass(float(filters.mass_F[relevant_K].sum()), layer, filters.mass_F, rng)
    shuffled = rng.permutation(layer)
    if match == "least_relevant":
        shuffled = shuffled[np.argsort(filters.strength_F[shuffled], kind="stable")]
    return shuffled[: len(relevant_K)]


def _of_mass(mass: float, layer: np.ndarray, mass_F: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some filters of a layer, at least one, whose mass comes near to that wanted.

    Random orders, cut where they come nearest, say how many it takes; as cuts favour some sets, so many are then drawn
    anew.
    """
    nearest, best = np.inf, layer
    for _ in range(DRAWS):
        shuffled = rng.permutation(layer)
        off = np.abs(np.cumsum(mass_F[shuffled]) - mass)
        if off.min() < nearest:
            nearest, best = off.min(), shuffled[: int(off.argmin()) + 1]
        if nearest <= NEAR * mass:
            break
    for _ in range(DRAWS):
        drawn = rng.choice(layer, len(best), replace=False)
        if abs(float(mass_F[drawn].sum()) - mass) <= NEAR * mass:
            return drawn
    return best


def _spread(places_K: np.ndarray, count: int) -> np.ndarray:
    """As many places as wanted, spread over an order as the given ones are: themselves for as many."""
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(places_K)), places_K)


def controls(
    order_K: np.ndarray, filters: Filters, seed: int, mu: float, draws: int, match: str = "layer"
) -> list[np.ndarray]:
    """Independent controls that depend on (seed, mu, draw), the filters and the match only."""
    rng = np.random.default_rng((seed, int(np.float64(mu).view(np.uint64))))
    return [control(order_K, filters, stream, match) for stream in rng.spawn(draws)]
