"""Where falling accuracy crosses a level: of one curve, or of many at the same positions."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression


def crossing(x_P: np.ndarray, accuracy_P: np.ndarray, level: float) -> float:
    """Return the position at which accuracy falls to a level: -inf or inf where it is censored.

    A falling curve is fitted by isotonic regression, weighted by the spacing Δx of positions so that dense positions
    do not count more. The crossing is interpolated linearly between positions.

    Raises:
        ValueError: there are fewer than two positions, or the positions do not rise.
    """
    return float(crossings(x_P, np.asarray(accuracy_P, dtype=float)[None], np.array([level]))[0])


def crossings(x_P: np.ndarray, curves_BP: np.ndarray, level_B: np.ndarray) -> np.ndarray:
    """Return the `crossing` of each of B curves with a level of its own: (B,).

    Raises:
        ValueError: there are fewer than two positions, or the positions do not rise.
    """
    x_P = rising(x_P)
    weights_P, fitted_BP = np.gradient(x_P), np.array(curves_BP, dtype=float)
    for b in np.flatnonzero((np.diff(fitted_BP) > 0).any(1)):  # others fall already, and are their own fits
        fitted_BP[b] = isotonic_regression(fitted_BP[b], weights=weights_P, increasing=False).x
    below_BP = fitted_BP <= level_B[:, None]
    after_B = np.maximum(below_BP.argmax(1), 1)
    above_B, under_B = (np.take_along_axis(fitted_BP, place_B[:, None], 1)[:, 0] for place_B in (after_B - 1, after_B))
    before_B, fall_B = x_P[after_B - 1], above_B - under_B
    inside_B = ~below_BP[:, 0] & below_BP[:, -1]
    at_B = before_B + (x_P[after_B] - before_B) * (above_B - level_B) / np.where(inside_B, fall_B, 1)
    return np.where(below_BP[:, 0], -np.inf, np.where(below_BP[:, -1], at_B, np.inf))


def rising(x_P: np.ndarray) -> np.ndarray:
    """Return positions as numbers; raise `ValueError` unless there are at least two, and they rise."""
    x_P = np.asarray(x_P, dtype=float)
    if x_P.ndim != 1 or len(x_P) < 2 or not (np.diff(x_P) > 0).all():
        raise ValueError(f"positions must rise, at least two of them, got {x_P.tolist()}")
    return x_P
