"""Random controls: as many filters as the relevant ones, chosen without regard to relevance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MATCHES = {
    "layer": "as many random ones of the same layers",
    "global": "as many random ones of any layer",
    "live": "as many random live ones of the same layers",
    "norm": "as many random ones of the same layers and response",
    "least_relevant": "as many of the least relevant ones of the same layers",
}
NEAR, EXCHANGES = 0.1, 100  # of the response matched, and exchanges tried for each filter of a layer


@dataclass(frozen=True)
class Candidates:
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


@dataclass(frozen=True)
class Draws:
    """Which controls are drawn: how many, what they have in common with the relevant filters, as in `control`, and the
    seed."""

    count: int = 5
    match: str = "layer"
    seed: int = 0


LAYER_MATCHED = Draws()


def control(order_K: np.ndarray, filters: Candidates, rng: np.random.Generator, match: str = "layer") -> np.ndarray:
    """Draw one control of an order of filters, itself an order; without replacement, and uniform given what it matches.

    Args:
        order_K: positions of K filters, the relevant ones, strongest first.
        match: what the control has in common with them:
            `layer`, the number of filters in each layer, for the first k of both and every k;
            `live`, the same, among filters that are not dead, as no relevant filter is;
            `global`, the number of filters in all, whatever their layers, among those that may be ablated;
            `norm`, the same among live filters, and of all K the response mass in each layer, to within a tenth; it
            shares many filters with the order where few others respond as much;
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
    control_K = np.empty_like(order_K)
    for layer in np.unique(filters.layer_F[order_K]):
        places_K = np.flatnonzero(filters.layer_F[order_K] == layer)
        members = np.flatnonzero(filters.layer_F == layer)
        control_K[places_K] = _draw(order_K[places_K], members, filters, rng, match)
    return control_K


def _draw(
    relevant_K: np.ndarray, layer: np.ndarray, filters: Candidates, rng: np.random.Generator, match: str
) -> np.ndarray:
    """Draw a control of the relevant filters of one layer among all of that layer."""
    if match in ("live", "norm"):
        layer = layer[~filters.dead_F[layer]]
    if match == "norm":
        return _of_mass(relevant_K, layer, filters.mass_F, rng)
    shuffled = rng.permutation(layer)
    if match == "least_relevant":
        shuffled = shuffled[np.argsort(filters.strength_F[shuffled], kind="stable")]
    return shuffled[: len(relevant_K)]


def _of_mass(relevant_K: np.ndarray, layer: np.ndarray, mass_F: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many filters of a layer, whose mass is near to that of the relevant ones.

    A random walk from these: one filter is exchanged for one that is left out wherever the mass stays near. As any
    exchange may be undone with the same probability, all sets that exchanges reach are equally likely in the long run.
    A filter that responds more than the others together may have nothing to be exchanged for: it stays.
    """
    taken, left = relevant_K.tolist(), np.setdiff1d(layer, relevant_K).tolist()
    if not left:
        return rng.permutation(relevant_K)
    mass, reach = mass_F.tolist(), NEAR * float(mass_F[relevant_K].sum())
    off, tries = 0.0, EXCHANGES * len(layer) + int(rng.integers(2))  # two filters alike would else only change places
    for i, j in rng.integers((len(taken), len(left)), size=(tries, 2)).tolist():
        change = mass[left[j]] - mass[taken[i]]
        if abs(off + change) <= reach:
            off += change
            taken[i], left[j] = left[j], taken[i]
    return rng.permutation(taken)


def controls(order_K: np.ndarray, filters: Candidates, mu: float, draws: Draws) -> list[np.ndarray]:
    """Independent controls that depend on (seed, mu, number of the draw), the filters and the match only."""
    rng = np.random.default_rng((draws.seed, int(np.float64(mu).view(np.uint64))))
    return [control(order_K, filters, stream, draws.match) for stream in rng.spawn(draws.count)]
