"""The mu-lasso problem: objective, gradient and duality gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MuLassoProblem:
    """Minimise f(w) = ½‖X w − l‖² over ‖w‖₁ ≤ mu, for each class; X and l enter by their products only.

    Args:
        gram_FF: XᵀX.
        cross_FC: XᵀL.
        label_sq_C: ‖l_c‖² of each class.

    Weights are (..., F, C) tensors: leading dimensions batch over values of mu.
    """

    gram_FF: Tensor
    cross_FC: Tensor
    label_sq_C: Tensor

    @classmethod
    def of(cls, responses_NF: Tensor, labels_NC: Tensor) -> MuLassoProblem:
        """The problem of the given rows; problems of other rows can be added."""
        return cls(responses_NF.T @ responses_NF, responses_NF.T @ labels_NC, labels_NC.square().sum(0))

    def __add__(self, other: MuLassoProblem) -> MuLassoProblem:
        """The problem of the rows of both."""
        return MuLassoProblem(
            self.gram_FF + other.gram_FF, self.cross_FC + other.cross_FC, self.label_sq_C + other.label_sq_C
        )

    def to(self, device: torch.device) -> MuLassoProblem:
        """The same problem on another device."""
        return MuLassoProblem(self.gram_FF.to(device), self.cross_FC.to(device), self.label_sq_C.to(device))

    def dead_F(self) -> np.ndarray:
        """Whether each filter's responses are all zero; boolean (F,)."""
        return (self.gram_FF.diagonal() == 0).cpu().numpy()

    def objective(self, weights_FC: Tensor) -> Tensor:
        """f = ½‖X w − l‖² of each column: (..., C)."""
        product_FC = self.gram_FF @ weights_FC
        return (weights_FC * (product_FC / 2 - self.cross_FC)).sum(-2) + self.label_sq_C / 2

    def gradient(self, weights_FC: Tensor) -> Tensor:
        """∇f = Xᵀ(X w − l) of each column: (..., F, C)."""
        return self.gram_FF @ weights_FC - self.cross_FC

    def relative_gap(self, weights_FC: Tensor, mu: Tensor) -> Tensor:
        """(gᵀw + mu‖g‖∞) / max(f, 1) with g = ∇f: (..., C).

        The numerator bounds f(w) − min f from above for every w in the ball [jaggi2013].
        """
        gradient_FC = self.gradient(weights_FC)
        gap_C = (gradient_FC * weights_FC).sum(-2) + mu * gradient_FC.abs().amax(-2)
        return gap_C / self.objective(weights_FC).clamp(min=1)
