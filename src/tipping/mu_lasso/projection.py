"""Projection on the L1 ball, and on its part with weights of at least 0."""

from __future__ import annotations

import torch
from torch import Tensor


def project_l1_ball(points_FC: Tensor, radius: Tensor | float, positive: bool = False) -> Tensor:
    """Project each column onto the L1 ball: the nearest point with ‖w‖₁ ≤ radius, by soft thresholding [duchi2008].

    The nearest point with w ≥ 0 too is that of the column with 0 for its negative entries, which no larger threshold
    would raise over 0.

    Args:
        points_FC: the columns (..., F, C).
        radius: the radius of the ball, over 0, broadcastable to (..., C).
        positive: whether w ≥ 0 too.

    Returns:
        (..., F, C); columns inside the ball are unchanged, thresholded entries are exact zeros.
    """
    points_FC = points_FC.clamp(min=0) if positive else points_FC
    sizes = points_FC.abs()
    descending = sizes.sort(dim=-2, descending=True).values
    ranks = torch.arange(1, sizes.shape[-2] + 1, dtype=sizes.dtype, device=sizes.device)[:, None]
    radii = torch.as_tensor(radius, dtype=points_FC.dtype, device=points_FC.device)
    radius_1C = radii.expand(points_FC[..., 0, :].shape).unsqueeze(-2)
    levels = (descending.cumsum(-2) - radius_1C) / ranks
    kept = (descending > levels).sum(-2, keepdim=True).clamp(min=1)
    threshold = levels.gather(-2, kept - 1).clamp(min=0)
    shrunk = (sizes - threshold).clamp(min=0)
    norm_1C = shrunk.sum(-2, keepdim=True)  # not the radius for points far outside: the difference has few digits
    return points_FC.sign() * torch.where(norm_1C > radius_1C, shrunk * (radius_1C / norm_1C), shrunk)
