"""The mu-lasso problem: objective, gradient, duality gap and saturation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TYPES = (torch.float64, torch.float32)
ROWS = 1024  # of the Gram matrix worked on at once, so that no further matrix of its size is made


@dataclass(frozen=True, eq=False)
class MuLassoProblem:
    """The mu-lasso problem: for each class, minimise f(w) = ½‖X w − l‖² over ‖w‖₁ ≤ mu [oramas2019].

    The non-negative mu-lasso has the further condition w ≥ 0, so that Σ_f w_f ≤ mu [meynen2023]. Weights that may be
    taken are those of the ball; of a non-negative problem, those of its part with w ≥ 0.

    X (N, F) and the one-hot labels L (N, C) enter by their products only. Weights are tensors (..., F, C), whose
    leading dimensions batch over values of mu.

    Args:
        gram_FF: XᵀX.
        cross_FC: XᵀL.
        label_sq_C: ‖l_c‖² of each class.
        positive: whether weights must be at least 0.

    Raises:
        ValueError: shapes, types or devices do not fit, a value is not finite, the Gram matrix is not symmetric and
            positive semidefinite, or a product in `cross_FC` exceeds the product of the norms.
    """

    gram_FF: Tensor
    cross_FC: Tensor
    label_sq_C: Tensor
    positive: bool = False

    def __post_init__(self) -> None:
        gram_FF, cross_FC, label_sq_C = self.gram_FF, self.cross_FC, self.label_sq_C
        if gram_FF.ndim != 2 or gram_FF.shape[0] != gram_FF.shape[1] or not len(gram_FF):
            raise ValueError(f"gram_FF must be square, got shape {tuple(gram_FF.shape)}")
        filters = len(gram_FF)
        if cross_FC.ndim != 2 or len(cross_FC) != filters or not cross_FC.shape[1]:
            raise ValueError(f"cross_FC must have shape ({filters}, classes), got {tuple(cross_FC.shape)}")
        if label_sq_C.shape != cross_FC.shape[1:]:
            raise ValueError(f"label_sq_C must have shape ({cross_FC.shape[1]},), got {tuple(label_sq_C.shape)}")
        if gram_FF.dtype not in TYPES:
            raise ValueError(f"gram_FF must be of type torch.float64 or torch.float32, got {gram_FF.dtype}")
        for name, tensor in {"gram_FF": gram_FF, "cross_FC": cross_FC, "label_sq_C": label_sq_C}.items():
            if (tensor.dtype, tensor.device) != (gram_FF.dtype, gram_FF.device):
                here, there = f"{tensor.dtype} on {tensor.device}", f"{gram_FF.dtype} on {gram_FF.device}"
                raise ValueError(f"{name} must be of gram_FF's type and device, got {here} beside {there}")
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} must be finite, got NaN or infinite values")
        rounding = torch.finfo(gram_FF.dtype).eps ** 0.5
        asymmetry = max(float((gram_FF[rows] - gram_FF.T[rows]).abs().max()) for rows in _blocks(filters))
        if asymmetry > rounding * max(float(gram_FF.max()), -float(gram_FF.min())):
            raise ValueError("gram_FF must be symmetric, as XᵀX is")
        if asymmetry > 0:
            object.__setattr__(self, "gram_FF", (gram_FF + gram_FF.T) / 2)
        normalised_FF, _ = self.normalised()
        normalised_FF.diagonal().add_(filters * torch.finfo(torch.float32).eps)  # rounding of sums in float32
        if int(torch.linalg.cholesky_ex(normalised_FF).info):
            raise ValueError("gram_FF must be positive semidefinite, as XᵀX is")
        del normalised_FF
        largest_FC = gram_FF.diagonal()[:, None] * label_sq_C  # Cauchy-Schwarz
        if bool((cross_FC.square() > (1 + rounding) * largest_FC).any()) or float(label_sq_C.min()) < 0:
            raise ValueError(
                "cross_FC must consist of products with the squared norms on gram_FF's diagonal and label_sq_C"
            )

    @classmethod
    @torch.no_grad()
    def stream(cls, batches: Iterable[tuple[Tensor, Tensor]], gram_type: torch.dtype = torch.float64) -> MuLassoProblem:
        """Sum the problem over batches (responses_NF, labels_NC), in one pass, with products in float64.

        Args:
            gram_type: the type of the sums: float64, or float32, which takes half the memory and rounds each sum once a
                batch.

        Raises:
            ValueError: there is no batch, the batches do not fit, or a value is not finite.
        """
        sums: tuple[Tensor, ...] = ()
        for number, (responses_NF, labels_NC) in enumerate(batches):
            for name, tensor in {"responses_NF": responses_NF, "labels_NC": labels_NC}.items():
                if tensor.ndim != 2 or len(tensor) != len(responses_NF):
                    shape = tuple(tensor.shape)
                    raise ValueError(
                        f"{name} must have a row for each image and a column for each filter or class, got {shape}"
                    )
                if tensor.device != (sums[0] if sums else responses_NF).device:
                    raise ValueError(f"{name} must stay on one device, got {tensor.device} in batch {number}")
                if not bool(tensor.isfinite().all()):
                    raise ValueError(f"{name} must be finite, got NaN or infinite values in batch {number}")
            x_NF, l_NC = responses_NF.double(), labels_NC.double()
            if not sums:
                filters, classes = x_NF.shape[1], l_NC.shape[1]
                gram_FF = x_NF.new_zeros(filters, filters, dtype=gram_type)
                sums = (gram_FF, x_NF.new_zeros(filters, classes), x_NF.new_zeros(classes))
            gram_FF, cross_FC, label_sq_C = sums
            if (x_NF.shape[1], l_NC.shape[1]) != cross_FC.shape:
                raise ValueError(f"responses_NF and labels_NC must keep their columns, but not in batch {number}")
            if gram_type == torch.float64:
                gram_FF.addmm_(x_NF.T, x_NF)
            else:
                for rows in _blocks(len(gram_FF)):
                    gram_FF[rows] += x_NF[:, rows].T @ x_NF
            cross_FC.addmm_(x_NF.T, l_NC)
            label_sq_C.add_(l_NC.square().sum(0))
        if not sums:
            raise ValueError("batches must hold at least one batch")
        gram_FF, cross_FC, label_sq_C = sums
        for rows in _blocks(len(gram_FF)):  # symmetric, whatever the rounding of the products
            upper, later = gram_FF[rows, rows.start :], gram_FF[rows.start :, rows]
            both = (upper + later.T) / 2
            upper.copy_(both)
            later.copy_(both.T)
        return cls(gram_FF, cross_FC.to(gram_type), label_sq_C.to(gram_type))

    def __add__(self, other: MuLassoProblem) -> MuLassoProblem:
        """Return the problem of the images of both problems, on the device of the first.

        Raises:
            ValueError: the problems differ in their number of filters or classes, in their type, or in whether weights
                must be at least 0.
        """
        for ours, theirs in ((self.cross_FC.shape, other.cross_FC.shape), (self.gram_FF.dtype, other.gram_FF.dtype)):
            if ours != theirs:
                raise ValueError(f"problems that add up must have the same shape and type, got {ours} and {theirs}")
        if self.positive != other.positive:
            raise ValueError("problems that add up must both be non-negative, or neither")
        theirs_there = other.to(self.gram_FF.device).products()
        sums = {name: tensor + theirs_there[name] for name, tensor in self.products().items()}
        return MuLassoProblem(**sums, positive=self.positive)

    def products(self) -> dict[str, Tensor]:
        """Return the tensors of the problem, by the names of their attributes."""
        return {"gram_FF": self.gram_FF, "cross_FC": self.cross_FC, "label_sq_C": self.label_sq_C}

    def non_negative(self, positive: bool = True) -> MuLassoProblem:
        """Return the problem of the same products whose weights must be at least 0, or need not if not `positive`."""
        part = self._part(**self.products())
        object.__setattr__(part, "positive", positive)
        return part

    def to(self, target: torch.device | torch.dtype | str) -> MuLassoProblem:
        """Return the problem on another device, or in another type; tensors are copied only where they change.

        Raises:
            ValueError: the type is neither float64 nor float32.
        """
        if isinstance(target, torch.dtype) and target not in TYPES:
            raise ValueError(f"a problem must be of type torch.float64 or torch.float32, got {target}")
        return self._part(self.gram_FF.to(target), self.cross_FC.to(target), self.label_sq_C.to(target))

    def classes(self, chosen: Tensor) -> MuLassoProblem:
        """Return the problem of some classes, given by their positions."""
        return self._part(self.gram_FF, self.cross_FC[:, chosen], self.label_sq_C[chosen])

    def _part(self, gram_FF: Tensor, cross_FC: Tensor, label_sq_C: Tensor) -> MuLassoProblem:
        """Return a problem of tensors that are derived from this problem's, without checking them again."""
        part = copy(self)
        for name, tensor in {"gram_FF": gram_FF, "cross_FC": cross_FC, "label_sq_C": label_sq_C}.items():
            object.__setattr__(part, name, tensor)
        return part

    def dead_F(self) -> np.ndarray:
        """Return whether each filter is dead: all its responses are zero. Boolean (F,)."""
        return (self.gram_FF.diagonal() == 0).cpu().numpy()

    def normalised(self) -> tuple[Tensor, Tensor]:
        """Return the Gram matrix of responses scaled to norm 1, and their norms, both in float64.

        Returns:
            gram_FF: the scaled matrix: 1 on the diagonal; 0 in the rows and columns of dead filters.
            norm_F: ‖x_f‖; 1 for a dead filter.
        """
        norm_F = self.gram_FF.diagonal().double().sqrt()
        norm_F = norm_F.where(norm_F > 0, 1)
        gram_FF = torch.empty_like(self.gram_FF, dtype=torch.float64)
        for rows in _blocks(len(gram_FF)):
            gram_FF[rows] = self.gram_FF[rows] / torch.outer(norm_F[rows], norm_F)
        return gram_FF, norm_F

    def objective(self, weights_FC: Tensor) -> Tensor:
        """Return f = ½‖X w − l‖² of each column: (..., C)."""
        product_FC = self.gram_FF @ weights_FC
        return (weights_FC * (product_FC / 2 - self.cross_FC)).sum(-2) + self.label_sq_C / 2

    def change(self, weights_FC: Tensor, other_FC: Tensor) -> Tensor:
        """Return f(other) − f(w) of each column, computed without subtracting objectives: (..., C)."""
        move_FC = other_FC - weights_FC
        return (move_FC * (self.gradient(weights_FC) + self.gram_FF @ move_FC / 2)).sum(-2)

    def gradient(self, weights_FC: Tensor) -> Tensor:
        """Return ∇f = Xᵀ(X w − l) of each column: (..., F, C)."""
        return self.gram_FF @ weights_FC - self.cross_FC

    def pull(self, gradient_FC: Tensor) -> Tensor:
        """Return how much f falls with ‖w‖₁ if the weight of each filter grows from 0, given g = ∇f: (..., F, C).

        It is |g_f|, since the weight may grow to either side; −g_f if weights must be at least 0. At the minimum no
        filter pulls more than those of the support, whose pull is the multiplier λ ≥ 0 of the bound.
        """
        return -gradient_FC if self.positive else gradient_FC.abs()

    def relative_gap(self, weights_FC: Tensor, mu: Tensor) -> Tensor:
        """Return the relative duality gap (gᵀw + mu λ) / max(f, 1) of each column, with g = ∇f: (..., C).

        λ is the largest pull: ‖g‖∞, or max(0, max_f −g_f) if weights must be at least 0. The numerator is the largest
        gᵀ(w − v) over the v that may be taken; it bounds f(w) − min f from above, for every w that may be [jaggi2013].
        """
        gradient_FC = self.gradient(weights_FC)
        gap_C = (gradient_FC * weights_FC).sum(-2) + mu * self.pull(gradient_FC).amax(-2).clamp(min=0)
        return gap_C / self.objective(weights_FC).clamp(min=1)

    def saturation(self) -> Tensor:
        """Return the saturation mu of each class, from which the bound no longer binds: (C,).

        It is the smallest ‖w‖₁ among the minima of f without the bound: the solutions of G w = XᵀL, or of non-negative
        least squares, which all have one G w. A linear program minimises ‖w‖₁ over the null directions of G:
        eigenvectors whose eigenvalue is 0 up to rounding, after scaling the diagonal to 1. In float32, rounding hides
        some directions: the result is within about a fifth.

        Raises:
            RuntimeError: the linear program fails.
        """
        live = ~self.dead_F()
        gram, norm = (tensor.cpu().numpy() for tensor in self.normalised())
        gram, norm = gram[np.ix_(live, live)], norm[live, None]
        cross = self.cross_FC.double().cpu().numpy()[live] / norm
        values, vectors = np.linalg.eigh(gram)
        null = values <= len(gram) * torch.finfo(self.gram_FF.dtype).eps * values.max(initial=0)
        range_, null_ = vectors[:, ~null], vectors[:, null] / norm
        coordinates = range_.T @ cross
        if self.positive:
            least = _non_negative(values[~null], range_, coordinates) / norm
        else:
            least = range_ @ (coordinates / values[~null, None]) / norm
        norms = [_smallest_l1(weights, null_, self.positive) for weights in least.T]
        return torch.as_tensor(norms, dtype=self.gram_FF.dtype, device=self.gram_FF.device)


def _blocks(filters: int) -> Iterator[slice]:
    """Yield slices of at most `ROWS` rows of a matrix."""
    return (slice(start, start + ROWS) for start in range(0, filters, ROWS))


def _non_negative(values_K: np.ndarray, vectors_FK: np.ndarray, coordinates_KC: np.ndarray) -> np.ndarray:
    """Return u ≥ 0 of least ½uᵀG u − qᵀu, for G of K eigenvalues over 0 and q = V coordinates: (F, C)."""
    from scipy.optimize import nnls  # here: it takes long to load

    root_K1 = np.sqrt(values_K)[:, None]
    targets = (coordinates_KC / root_K1).T
    return np.array([nnls(root_K1 * vectors_FK.T, one, maxiter=100 * len(vectors_FK))[0] for one in targets]).T


def _smallest_l1(point: np.ndarray, directions: np.ndarray, positive: bool) -> float:
    """Return min over v of ‖point + directions v‖₁, as the linear program min Σt with −t ≤ point + directions v ≤ t.

    If `positive`, point + directions v must be at least 0.

    Raises:
        RuntimeError: the linear program fails.
    """
    from scipy.optimize import linprog  # here: jobs do not compute saturation
    from scipy.sparse import block_array, eye_array

    filters, count = directions.shape
    if not count:
        return float(np.abs(point).sum())
    cost = np.r_[np.zeros(count), np.ones(filters)]
    lower = None if positive else -eye_array(filters)
    sides = block_array([[directions, -eye_array(filters)], [-directions, lower]], format="csc")
    result = linprog(cost, A_ub=sides, b_ub=np.r_[-point, point], bounds=(None, None), method="highs")
    if result.status != 0:
        raise RuntimeError(f"no saturation: {result.message}")
    return float(result.fun)
