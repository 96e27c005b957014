"""Random controls: as many filters as there are relevant filters, chosen at random."""

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
NEAR, EXCHANGES = 0.1, 100  # tolerance of `norm`, as a share of the mass matched; exchanges tried for each filter


@dataclass(frozen=True)
class Candidates:
    """The properties of every filter of a network that random controls may depend on.

    Attributes:
        layer_F: the position of the filter's layer.
        dead_F: whether the filter responds to no image.
        mass_F: the filter's L1-normalised responses, summed over images.
        strength_F: the filter's relevance Σ_c |w_fc|.
        ablatable_F: whether the filter may be ablated.
    """

    layer_F: np.ndarray
    dead_F: np.ndarray
    mass_F: np.ndarray
    strength_F: np.ndarray
    ablatable_F: np.ndarray


@dataclass(frozen=True)
class Draws:
    """A choice of random controls.

    Attributes:
        count: the number of controls.
        match: what each control has in common with the relevant filters, as in `MATCHES`.
        seed: the seed of the draws.
    """

    count: int = 5
    match: str = "layer"
    seed: int = 0


LAYER_MATCHED = Draws()


def draw_control(
    order_K: np.ndarray, filters: Candidates, rng: np.random.Generator, match: str = "layer"
) -> np.ndarray:
    """Draw one random control of the relevant filters, as an order of K filters: (K,).

    Filters are drawn without replacement, uniformly among the sets that match. A control may contain relevant filters.

    Args:
        order_K: positions of the K relevant filters, strongest first.
        match: what the control has in common with the relevant filters:
            `layer`: as many filters in each layer, among the first k of both orders, for every k;
            `live`: as `layer`, drawn among the filters that are not dead, as relevant filters are not;
            `global`: as many filters in all, of any layer, drawn among the filters that may be ablated;
            `norm`: as `live`, and in each layer the same response mass, to within a tenth. Where few other filters
            respond as much, the control shares many filters with the relevant ones;
            `least_relevant`: as many filters in each layer, the least relevant; ties in random order.

    Raises:
        ValueError: `match` is unknown, or `dead_F` holds for a relevant filter.
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
    """Draw a control for the relevant filters of one layer, among all filters of the layer."""
    if match in ("live", "norm"):
        layer = layer[~filters.dead_F[layer]]
    if match == "norm":
        return _draw_with_mass(relevant_K, layer, filters.mass_F, rng)
    shuffled = rng.permutation(layer)
    if match == "least_relevant":
        shuffled = shuffled[np.argsort(filters.strength_F[shuffled], kind="stable")]
    return shuffled[: len(relevant_K)]


def _draw_with_mass(
    relevant_K: np.ndarray, layer: np.ndarray, mass_F: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw as many filters of a layer as are relevant, whose total mass is near the mass of the relevant filters.

    A random walk starts from the relevant filters. Each step exchanges a chosen filter for one that is not chosen, if
    the mass stays near. Since an exchange is undone with the same probability, all sets that exchanges reach are
    equally likely in the long run. A filter that responds more than all others together may always stay.
    """
    chosen, spare = relevant_K.tolist(), np.setdiff1d(layer, relevant_K).tolist()
    if not spare:
        return rng.permutation(relevant_K)
    mass, reach = mass_F.tolist(), NEAR * float(mass_F[relevant_K].sum())
    off, tries = (
        0.0,
        EXCHANGES * len(layer) + int(rng.integers(2)),
    )  # of random parity: two equal filters swap each time
    for i, j in rng.integers((len(chosen), len(spare)), size=(tries, 2)).tolist():
        change = mass[spare[j]] - mass[chosen[i]]
        if abs(off + change) <= reach:
            off += change
            chosen[i], spare[j] = spare[j], chosen[i]
    return rng.permutation(chosen)


def draw_controls(
    order_K: np.ndarray, filters: Candidates, mu: float, draws: Draws, label: int | None = None
) -> list[np.ndarray]:
    """Draw independent random controls of the relevant filters, each (K,).

    Each depends only on the seed, mu, the number of the draw, the candidates and the match, and on the class whose
    filters they are, if they are of one only.
    """
    class_ = () if label is None else (label,)
    rng = np.random.default_rng((draws.seed, int(np.float64(mu).view(np.uint64)), *class_))
    return [draw_control(order_K, filters, stream, draws.match) for stream in rng.spawn(draws.count)]
