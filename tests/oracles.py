"""Slow ways to what the package computes, by its definition."""

from __future__ import annotations

import copy
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import torch
from sklearn.linear_model import lars_path_gram
from torch import nn
from toys import Small, filters_of

from tipping.data import Split
from tipping.mu_lasso import MuLassoProblem, Solution


def accuracy(model: nn.Module, split: Split) -> float:
    """By a plain pass over all images at once."""
    with torch.no_grad():
        return int((model(split.images_NCHW).argmax(1) == split.labels_N).sum()) / len(split)


def without(model: nn.Module, filters: list[int]) -> nn.Module:
    """The slow way for a network of ReLUs: all of the filter's weights, and its bias, are set to zero."""
    model = copy.deepcopy(model)
    index = filters_of(model).index
    with torch.no_grad():
        for f in filters:
            layer = model.get_submodule(index.layers[index.layer_F[f]])
            layer.weight[index.channel_F[f]] = 0
            layer.bias[index.channel_F[f]] = 0
    return model


def mean_activations_slowly(model: nn.Module, split: Split) -> torch.Tensor:
    maps, means = split.images_NCHW.double(), []
    for name, module in copy.deepcopy(model).double().named_children():
        maps = module(maps)
        if name.startswith("relu"):
            means += [maps[:, c].mean() for c in range(maps.shape[1])]
    return torch.stack(means)


def slow_responses(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Image by image and filter by filter, in float64, by the definition."""
    rows = []
    for image in images.double():
        maps, row = image[None], []
        for name, module in model.named_children():
            maps = module(maps)
            if name.startswith("relu"):
                norms = [np.sqrt((channel.numpy() ** 2).sum()) for channel in maps[0]]
                row += [norm / (sum(norms) or 1) for norm in norms]
        rows.append(row)
    return np.array(rows)


def library_path(problem: MuLassoProblem, c: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's exact path of one class, non-negative for such a problem: L1 norms and weights (F, steps)."""
    gram, cross = problem.gram_FF.cpu().numpy(), problem.cross_FC[:, c].cpu().numpy()
    live = np.flatnonzero(gram.diagonal())  # scikit-learn's path does not take zero columns
    settings = {"n_samples": 1, "method": "lasso", "alpha_min": 1e-9, "max_iter": 10_000, "positive": problem.positive}
    _, _, path = lars_path_gram(Xy=cross[live], Gram=gram[np.ix_(live, live)], **settings)
    weights = np.zeros((len(gram), path.shape[1]))
    weights[live] = path
    return np.abs(weights).sum(0), weights


def feasible(solution: Solution, mu: list[float]) -> bool:
    norm_MC = solution.weights_MFC.double().abs().sum(1).cpu()
    rounding = 4 * len(solution.weights_MFC[0]) * torch.finfo(solution.weights_MFC.dtype).eps
    return bool((norm_MC <= torch.tensor(mu, dtype=torch.float64)[:, None] * (1 + rounding)).all())


def project_by_bisection(point: np.ndarray, radius: float) -> np.ndarray:
    if np.abs(point).sum() <= radius:
        return point
    low, high = 0.0, np.abs(point).max()
    for _ in range(200):
        level = (low + high) / 2
        if np.maximum(np.abs(point) - level, 0).sum() > radius:
            low = level
        else:
            high = level
    return np.sign(point) * np.maximum(np.abs(point) - high, 0)


def by_loops(model: Small, image: np.ndarray, signal: np.ndarray, rule: str) -> np.ndarray:
    """The signal at the image, by loops over the definition."""

    def conv(maps: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        out, _, height, width = weight.shape
        result = np.zeros((out, maps.shape[1] - height + 1, maps.shape[2] - width + 1))
        for f, i, j in np.ndindex(result.shape):
            result[f, i, j] = (weight[f] * maps[:, i : i + height, j : j + width]).sum() + bias[f]
        return result

    def conv_back(signal: np.ndarray, layer: nn.Conv2d, shape: tuple[int, ...]) -> np.ndarray:
        weight, result = layer.weight.detach().numpy(), np.zeros(shape)
        for f, i, j in np.ndindex(signal.shape):
            result[:, i : i + weight.shape[2], j : j + weight.shape[3]] += signal[f, i, j] * weight[f]
        return result

    def relu_back(signal: np.ndarray, before: np.ndarray) -> np.ndarray:
        return {
            "gradient": np.where(before > 0, signal, 0),
            "deconvnet": np.where(signal > 0, signal, 0),
            "guided": np.where((before > 0) & (signal > 0), signal, 0),
        }[rule]

    before1 = conv(image, model.conv1)
    after1 = np.maximum(before1, 0)
    pooled = np.zeros((len(after1), after1.shape[1] // 2, after1.shape[2] // 2))
    switch = {}
    for c, i, j in np.ndindex(pooled.shape):
        window = after1[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a, b = np.unravel_index(window.argmax(), window.shape)
        pooled[c, i, j], switch[c, i, j] = window[a, b], (c, 2 * i + a, 2 * j + b)
    before2 = conv(pooled, model.conv2)
    at_pooled = conv_back(relu_back(signal, before2), model.conv2, pooled.shape)
    at_after1 = np.zeros_like(after1)
    for place, value in np.ndenumerate(at_pooled):
        at_after1[switch[place]] += value
    return conv_back(relu_back(at_after1, before1), model.conv1, image.shape)


def nearest(signal: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Each position of the larger grid has the value of the one whose cell its centre lies in."""
    wide = torch.zeros(*signal.shape[:2], height, width, dtype=signal.dtype)
    for i, j in product(range(height), range(width)):
        row, column = (2 * i + 1) * signal.shape[2] // (2 * height), (2 * j + 1) * signal.shape[3] // (2 * width)
        wide[:, :, i, j] = signal[:, :, row, column]
    return wide


def occluded(model: nn.Module, module: str, image: torch.Tensor, position: tuple[int, int]) -> tuple[int, ...]:
    """The rows and columns of the pixels that change a layer's maps at a position, one after another."""
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, __, maps: kept.append(maps.clone()))
    with torch.no_grad():
        model(image)
        for pixel in range(image[0, 0].numel()):
            other = image.clone()
            other.view(image.shape[1], -1)[:, pixel] += 7.0
            model(other)
    handle.remove()
    intact, *changed = (maps[0, :, position[0], position[1]] for maps in kept)
    seen = torch.tensor([not torch.equal(maps, intact) for maps in changed]).view(image.shape[2:])
    rows, columns = seen.nonzero(as_tuple=True)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def exact_minimum(
    gram: list[list[int]], cross: list[int], mu: Fraction, positive: bool = False
) -> list[Fraction] | None:
    """The minimum of the mu-lasso in rational arithmetic, over all supports and signs; None where there are several."""
    found: set[tuple[Fraction, ...]] = set()
    filters = range(len(gram))
    for size in range(len(gram) + 1):
        for support in combinations(filters, size):
            inverse = exact_inverse([[gram[i][j] for j in support] for i in support])
            if inverse is not None:
                found |= _minima_on(gram, cross, mu, support, inverse, positive)
    if len(found) > 1 or not found:
        return None
    (only,) = found
    room = sum(map(abs, only)) < mu
    return None if room and exact_inverse(gram) is None else list(only)


def _minima_on(
    gram: list[list[int]],
    cross: list[int],
    mu: Fraction,
    support: tuple[int, ...],
    inverse: list[list[Fraction]],
    positive: bool,
) -> set[tuple[Fraction, ...]]:
    """The points with this support that meet the conditions of Karush, Kuhn and Tucker."""
    found = set()
    for signs in product((1,) if positive else (1, -1), repeat=len(support)):
        free = [sum((b * cross[j] for b, j in zip(row, support, strict=True)), Fraction()) for row in inverse]
        along = [sum((b * s for b, s in zip(row, signs, strict=True)), Fraction()) for row in inverse]
        over = sum((s * w for s, w in zip(signs, free, strict=True)), Fraction()) - mu
        multiplier = over / sum(s * a for s, a in zip(signs, along, strict=True)) if over > 0 else Fraction()
        point = [Fraction()] * len(gram)
        for j, w, a in zip(support, free, along, strict=True):
            point[j] = w - multiplier * a
        gradient = [
            sum((g * w for g, w in zip(row, point, strict=True)), -Fraction(q))
            for row, q in zip(gram, cross, strict=True)
        ]
        agree = all(s * point[j] > 0 for s, j in zip(signs, support, strict=True))
        if agree and all((-g if positive else abs(g)) <= multiplier for g in gradient):
            found.add(tuple(point))
    return found


def exact_inverse(matrix: list[list[int]]) -> list[list[Fraction]] | None:
    """The inverse in rational arithmetic, by Gauss and Jordan; None of a singular matrix."""
    size = len(matrix)
    rows = [[Fraction(a) for a in row] + [Fraction(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next((k for k in range(i, size) if rows[k][i]), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [a / rows[i][i] for a in rows[i]]
        for k in range(size):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]
