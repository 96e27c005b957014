"""The problems the solvers are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from tipping import data
from tipping.experiment.config import parse
from tipping.experiment.network import find_or_train
from tipping.experiment.store import Store
from tipping.mu_lasso import MuLassoProblem
from tipping.network import Filters, build
from tipping.selection import response_batches

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "mulasso_matconvnet_570.npz"


def reference() -> MuLassoProblem:
    """The stored real problem."""
    stored = np.load(REFERENCE)
    gram_FF, cross_FC, label_sq_C = (torch.as_tensor(stored[name]) for name in ("gram", "cross", "label_sq"))
    return MuLassoProblem(gram_FF, cross_FC, label_sq_C)


def rebuilt(problem: MuLassoProblem, c: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Some X (images, F) and l (images,) with the Gram matrix, Xᵀl and ‖l‖² of one class."""
    gram, cross = problem.gram_FF.numpy(), problem.cross_FC[:, c].numpy()
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(values.clip(0))
    part = np.divide(vectors.T @ cross, root, out=np.zeros_like(root), where=root > 1e-6 * root.max())
    rest = max(float(problem.label_sq_C[c]) - part @ part, 0) ** 0.5
    x, label = np.vstack([root[:, None] * vectors.T, 0 * root]), np.append(part, rest)
    if images > len(x):
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(images, len(x))))[0]
        x, label = rotation @ x, rotation @ label
    return np.asfortranarray(x), label


def network(overrides: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Responses and one-hot labels of a network of 640 filters on the training images."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        sizes = ["data=digits", "model.filters=128", "trainer.max_epochs=20", "tracking=off"]
        config = parse(compose("config", [*sizes, *overrides]))
    dataset = data.load(config.data.name, config.data.root)
    model = build(config.model, dataset.image_shape, len(dataset.classes), config.seed)
    find_or_train(model, dataset, config, Store(config.store.dir))
    filters = Filters.of(model, dataset.train[:1].images_NCHW)
    with torch.inference_mode():
        batches = [(x.numpy(), y.double().numpy()) for x, y in response_batches(filters, dataset.train)]
    x_NF, l_NC = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return x_NF, l_NC


def synthetic(images: int, filters: int, classes: int = 10) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of responses as ill-conditioned as real ones: in each of 5 layers the filters are mixtures of a few
    common positive factors with falling weights, plus 2 % noise, divided by their sum; labels: the largest of as many
    random scores of the factors."""
    rng = np.random.default_rng(0)
    factors, layer = filters // 8, filters // 5
    falling = np.arange(1, factors + 1) ** -0.5
    mixtures = [falling[:, None] * rng.exponential(size=(factors, layer)) for _ in range(5)]
    scores = rng.normal(size=(factors, classes)) * falling[:, None]
    for start in range(0, images, 1000):
        images_K = rng.exponential(size=(min(1000, images - start), factors))
        layers = [images_K @ mixture for mixture in mixtures]
        layers = [maps + 0.02 * maps.mean() * rng.exponential(size=maps.shape) for maps in layers]
        responses = np.concatenate([maps / maps.sum(1, keepdims=True) for maps in layers], 1)
        labels = np.eye(classes)[((images_K - 1) @ scores).argmax(1)]
        yield torch.as_tensor(responses), torch.as_tensor(labels)
