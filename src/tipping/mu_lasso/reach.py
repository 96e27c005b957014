"""The values of mu between which the mu-lasso of a problem says something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tipping.mu_lasso.homotopy import SolutionPath
from tipping.mu_lasso.problem import MuLassoProblem

GRID = 9  # values of mu in a grid
QUICK = 3e10  # classes · filters³ up to which a whole path takes seconds: 1,400 filters and 10 classes


@dataclass(frozen=True)
class Reach:
    """The values of mu between which the mu-lasso says something.

    As a function of mu, the minimum of f is convex, and falls at the rate λ, the multiplier of the bound. λ falls too,
    and is 0 from the saturation mu on: the smallest ‖w‖₁ of all minima without the bound. Under it the bound binds.
    Under `first`, each class has at most one filter, and no mu changes which.

    Attributes:
        first: the smallest mu at which a second filter enters for some class, or its first is all there is; infinite
            where no class depends on any filter.
        saturation_C: the saturation mu of each class; 0 for one that no filter speaks of.
    """

    first: float
    saturation_C: np.ndarray

    @classmethod
    def from_path(cls, path: SolutionPath) -> Reach:
        """Return the reach of a problem whose path was followed to its end."""
        saturation_C = path.saturation().double().cpu().numpy()
        mus = [saturation_C, *(one.mu_K for one in path.classes)]
        return cls(min(float(mu_K[mu_K > 0].min(initial=np.inf)) for mu_K in mus), saturation_C)

    @property
    def last(self) -> float:
        """The mu from which the bound binds for no class."""
        return float(self.saturation_C.max())

    def at(self, share: float) -> float:
        """Return the mu at a share of the way from `first` to `last`, on a logarithmic scale, to four digits.

        At the end it is rounded up, so that no class is bound there.
        """
        mu = float(f"{self.first ** (1 - share) * self.last**share:.4g}")
        return float(np.nextafter(self.last, np.inf)) if share == 1 and mu < self.last else mu

    def grid(self, points: int = GRID) -> list[float]:
        """Return values of mu from `first` to `last`, evenly spaced on a logarithmic scale."""
        return [self.at(share) for share in np.linspace(0, 1, points).tolist()]


def followed_quickly(problem: MuLassoProblem) -> bool:
    """Return whether the whole path of a problem takes no more than some seconds, by its number of operations."""
    filters, classes = problem.cross_FC.shape
    return bool(classes * filters**3 <= QUICK)
