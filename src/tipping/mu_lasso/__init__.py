"""The mu-lasso: least squares under an L1 bound, one problem per class, on the Gram matrix alone.

For each class c: minimise ½‖X w_c − l_c‖² over w_c, subject to ‖w_c‖₁ ≤ mu [oramas2019], and to w_c ≥ 0 in the
non-negative one [meynen2023].
"""

from tipping.mu_lasso.homotopy import ClassPath, SolutionPath, homotopy
from tipping.mu_lasso.problem import MuLassoProblem
from tipping.mu_lasso.projection import project_l1_ball
from tipping.mu_lasso.reach import GRID, Reach, followed_quickly
from tipping.mu_lasso.solution import Solution
from tipping.mu_lasso.spg import spg

__all__ = [
    "GRID",
    "ClassPath",
    "MuLassoProblem",
    "Reach",
    "Solution",
    "SolutionPath",
    "followed_quickly",
    "homotopy",
    "project_l1_ball",
    "spg",
]
