"""The mu-lasso solvers beside what a user would pick instead: python benchmarks/solver.py (make bench-solver).

Prints Markdown tables. Everything runs in this process, on the same cores and threads; the problems are

- reference: that of a MatConvNet network on MNIST, 570 filters, 60,000 images, given by its Gram matrix. Responses
  with exactly these products are rebuilt for the solvers that want them: 571 rows, or 60,000 for spgl1;
- network: the responses of a network of 640 filters on the digits (1,437 images), trained here unless in the store;
- synthetic: layers of collinear responses that sum to 1, labels from a few of their factors.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import logging
import os
import platform
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celer
import numpy as np
import spgl1
import torch
from hydra import compose, initialize_config_dir
from scipy.sparse.linalg import LinearOperator
from skglm.penalties import L1
from skglm.solvers import GramCD
from sklearn.linear_model import Lasso, lars_path_gram
from threadpoolctl import threadpool_limits

from tipping import data, models
from tipping.classifier import find_or_train
from tipping.config import parse
from tipping.mu_lasso import MuLassoProblem, homotopy, spg
from tipping.responses import response_batches
from tipping.store import Store

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "mulasso_matconvnet_570.npz"
GRID = (10.0, 100.0, 500.0, 600.0, 700.0)  # the report's mu
GAP = 1e-8
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Measured:
    """What a run returned, its seconds, and by how many MB it raised the process's memory at its peak."""

    result: Any
    seconds: float
    megabytes: float


def measure(run: Callable[[], Any], repeats: int = 1) -> Measured:
    """The peak of the memory in a first run; the median of the seconds of some more, or its own if it took over 10."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory freed by earlier runs would hide what this one takes
    before, peak, over = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result, seconds = timed(run)
    over.set()
    watcher.join()
    if seconds < 10:
        seconds = statistics.median(timed(run)[1] for _ in range(repeats))
    return Measured(result, seconds, max(0, peak - before) / 1e6)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a run returns, and its seconds."""
    start = time.perf_counter()
    return run(), time.perf_counter() - start


def resident() -> int:
    """Bytes of memory the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def table(title: str, columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Print a Markdown table, each row as it comes."""
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(cell if isinstance(cell, str) else f'{cell:.3g}' for cell in row)} |", flush=True)


# ---- problems


def reference() -> MuLassoProblem:
    """The stored real problem."""
    stored = np.load(REFERENCE)
    return MuLassoProblem(*(torch.as_tensor(stored[name]) for name in ("gram", "cross", "label_sq")))


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
    dataset = data.load(config.data)
    model = models.build(config.model, dataset.image_shape, data.CLASSES, config.seed)
    find_or_train(model, dataset, config, Store(config.store.dir))
    with torch.inference_mode():
        batches = [(x.numpy(), y.double().numpy()) for x, y in response_batches(model, dataset.train)]
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


# ---- solvers


def by_spg(problem: MuLassoProblem, mu: Sequence[float]) -> torch.Tensor:
    return spg(problem, mu).weights_MFC


def by_homotopy(problem: MuLassoProblem, mu: Sequence[float]) -> torch.Tensor:
    return homotopy(problem, largest_mu=max(mu)).weights(mu)


def by_lars(problem: MuLassoProblem, mu: Sequence[float], last: Sequence[float]) -> torch.Tensor:
    """scikit-learn's exact path, read off at each mu; `last` is λ of each class at the largest mu, where it stops."""
    weights = np.zeros((len(mu), *problem.cross_FC.shape))
    live = np.flatnonzero(~problem.dead_F())
    gram = problem.gram_FF.numpy()[np.ix_(live, live)]
    for c, cross in enumerate(problem.cross_FC.numpy()[live].T):
        stop = {"alpha_min": last[c], "max_iter": 10**6}
        _, _, path = lars_path_gram(Xy=cross, Gram=gram, n_samples=1, method="lasso", **stop)
        norms = np.append(np.abs(path).sum(0), np.inf)  # beyond the end the weights stay
        path = np.hstack([path, path[:, -1:]])
        after = np.searchsorted(norms, mu).clip(1)
        share = (np.asarray(mu) - norms[after - 1]) / (norms[after] - norms[after - 1])
        weights[:, live, c] = (path[:, after - 1] * (1 - share) + path[:, after] * share).T
    return torch.as_tensor(weights)


class Penalised:
    """A solver of ½‖X w − l‖² + λ‖w‖₁ for one class, continued from where it stood, at λ of the exact solution."""

    def __init__(self, x: np.ndarray, label: np.ndarray, multiplier: float) -> None:
        self.x, self.label, self.alpha = x, label, multiplier / len(x)


class ScikitLearn(Penalised):
    name = "scikit-learn `Lasso(precompute)`"

    def go_on(self, iterations: int) -> np.ndarray:
        if not hasattr(self, "model"):
            options = {"precompute": self.x.T @ self.x, "fit_intercept": False, "warm_start": True, "tol": 1e-15}
            self.model = Lasso(self.alpha, **options)
        return self.model.set_params(max_iter=30 * iterations).fit(self.x, self.label).coef_


class Celer(Penalised):
    name = "celer"

    def go_on(self, iterations: int) -> np.ndarray:
        if not hasattr(self, "model"):
            options = {"max_epochs": 1000, "fit_intercept": False, "warm_start": True, "tol": 1e-15}
            self.model = celer.Lasso(self.alpha, **options)
        return self.model.set_params(max_iter=min(iterations, 20)).fit(self.x, self.label).coef_


class Skglm(Penalised):
    name = "skglm `GramCD`"

    def go_on(self, iterations: int) -> np.ndarray:
        solver = GramCD(30 * iterations, use_acc=True, greedy_cd=False, tol=1e-15, fit_intercept=False)
        start = getattr(self, "weights", np.zeros(self.x.shape[1]))
        self.weights = solver.solve(self.x, self.label, None, L1(self.alpha), start.copy())[0]
        return self.weights


def until_certified(solver: Penalised, problem: MuLassoProblem, limit: float) -> np.ndarray:
    """A solver's weights after ever more iterations, when the gap is small enough or the limit in seconds over."""
    start, iterations = time.perf_counter(), 10
    while True:
        weights = solver.go_on(iterations)
        gap = gap_of(problem, weights, np.abs(weights).sum())  # at its own radius: the penalty fixes λ, not mu
        if gap <= GAP or time.perf_counter() - start > limit:
            return weights
        iterations = min(2 * iterations, 80)


class Enough(Exception):
    """The time limit is over, or the gap small enough."""


def by_spgl1(
    problem: MuLassoProblem, x: np.ndarray, label: np.ndarray, mu: float, limit: float, **options: float
) -> np.ndarray:
    """spgl1's weights when it stops by itself; the best it tried when the limit in seconds is over; or, looked at every
    20 products, the first that is certified."""
    start, tried = time.perf_counter(), []
    best = np.inf, np.zeros(x.shape[1])

    def forward(weights: np.ndarray) -> np.ndarray:
        nonlocal best
        tried.append(0)
        if len(tried) % 20 == 0:
            best = min(best, (gap_of(problem, weights, mu), weights.copy()), key=lambda pair: pair[0])
            if best[0] <= GAP or time.perf_counter() - start > limit:
                raise Enough
        return x @ weights

    operator = LinearOperator(x.shape, matvec=forward, rmatvec=lambda residual: x.T @ residual, dtype=float)
    try:
        return spgl1.spg_lasso(operator, label, mu, **options)[0]
    except Enough:
        return best[1]


def gap_of(problem: MuLassoProblem, weights: np.ndarray, mu: float) -> float:
    """The relative gap of one class's weights, at their own norm where it is beyond mu."""
    radius = torch.tensor(max(mu, np.abs(weights).sum()))
    return float(problem.relative_gap(torch.as_tensor(weights)[:, None], radius))


# ---- tables


def grid(title: str, problem: MuLassoProblem) -> None:
    """The report's five mu for all classes."""
    mu_M1 = torch.tensor(GRID, dtype=torch.float64)[:, None]
    exact = by_spg(problem, GRID)
    last = problem.gradient(exact[-1]).abs().amax(0).tolist()
    lars = measure(lambda: by_lars(problem, GRID, last), 3)

    def rows() -> Iterator[Sequence[Any]]:
        runs = {
            "scikit-learn `lars_path_gram`": lars,
            "`spg`": measure(lambda: by_spg(problem, GRID), 5),
            "`homotopy`": measure(lambda: by_homotopy(problem, GRID), 5),
        }
        for name, run in runs.items():
            gap = float(problem.relative_gap(run.result, mu_M1).max())
            support = ", ".join(str(int(count)) for count in (run.result.abs() > 1e-9).any(2).sum(1))
            times = f"{lars.seconds / run.seconds:.1f}×"
            yield name, run.seconds, times, f"{gap:.0e}", support, f"{run.megabytes:.0f}"

    filters, classes = problem.cross_FC.shape
    columns = ("solver", "seconds", "speed", "largest relative gap", "relevant filters", "MB")
    table(f"{title}: {filters} filters, mu = 10, 100, 500, 600, 700, {classes} classes", columns, rows())


def columns(
    title: str,
    problem: MuLassoProblem,
    rows_of: tuple[np.ndarray, np.ndarray],
    mu: Sequence[float],
    slow: Sequence[float],
    limit: float,
) -> None:
    """Class 0 alone: `spg` and the solvers that take one column; spgl1, on all rows, only at the mu in `slow`."""
    column = problem.classes(torch.tensor([0]))
    x, label = rebuilt(column, 0, 0)

    def run(value: float) -> Iterator[tuple[str, float, Measured]]:
        own = measure(lambda: by_spg(column, [value])[0, :, 0].numpy(), 5)
        yield "`spg`", value, own
        multiplier = float(column.gradient(torch.as_tensor(own.result)[:, None]).abs().max())
        for kind in (ScikitLearn, Celer, Skglm):
            measured = measure(lambda kind=kind: until_certified(kind(x, label, multiplier), column, limit / 10))
            yield kind.name, float(np.abs(measured.result).sum()), measured
        if value in slow:
            yield "spgl1, defaults", value, measure(lambda: by_spgl1(column, *rows_of, value, limit))
            tight = functools.partial(by_spgl1, column, *rows_of, value, limit, opt_tol=1e-12, iter_lim=10**9)
            yield f"spgl1, until {GAP:g}", value, measure(tight)

    def rows() -> Iterator[Sequence[Any]]:
        for value in mu:
            for name, radius, measured in run(value):
                own = measured.seconds if name == "`spg`" else own  # noqa: F821
                nonzero = str(int((np.abs(measured.result) > 1e-9).sum()))
                gap, times = gap_of(column, measured.result, radius), measured.seconds / own
                yield (
                    f"{value:g}",
                    name,
                    measured.seconds,
                    f"{times:,.2g}×",
                    f"{gap:.0e}",
                    nonzero,
                    f"{measured.megabytes:.0f}",
                )

    heads = ("mu", "solver", "seconds", "times `spg`", "relative gap", "non-zero", "MB")
    table(f"{title}: class 0 alone, spgl1 for up to {limit:g} s, others {limit / 10:g} s", heads, rows())


def growth() -> None:
    """Synthetic problems: more images, then more filters."""
    mu = [10 * value for value in GRID]  # up to where supports are as full as those of the reference

    def row(images: int, filters: int) -> Sequence[Any]:
        streamed = measure(lambda: MuLassoProblem.stream(synthetic(images, filters)))
        problem = streamed.result
        own = [measure(lambda solve=solve: solve(problem, mu), 3) for solve in (by_spg, by_homotopy)]
        gap = max(float(problem.relative_gap(run.result, torch.tensor(mu)[:, None].double()).max()) for run in own)
        relevant = [str(int((weights != 0).any(1).sum())) for weights in own[0].result]
        last = problem.gradient(own[0].result[-1]).abs().amax(0).tolist()
        runs = [*own, measure(lambda: by_lars(problem, mu, last), 3)]
        memory = ", ".join(f"{run.megabytes:.0f}" for run in runs)
        return f"{images:,}", f"{filters:,}", ", ".join(relevant), *(run.seconds for run in runs), f"{gap:.0e}", memory

    heads = ("images", "filters", "relevant", "`spg` s", "`homotopy` s", "`lars_path_gram` s", "gap of ours", "MB each")
    sizes = ((6_000, 640), (60_000, 640), (1_600, 160), (25_600, 2_560))
    table("Synthetic, mu = 100, 1000, 5000, 6000, 7000, 10 classes", heads, (row(*size) for size in sizes))


def gpu() -> None:
    """Many classes and filters on a GPU; on the CPU a hundredth of the classes, which take a hundredth of the time."""
    mu = np.geomspace(1, 100, 10).tolist()
    problem = MuLassoProblem.stream(synthetic(20_000, 4_096, 1_000))

    def row(device: str, classes: int) -> Sequence[Any]:
        there = problem.classes(torch.arange(classes)).to(device)
        spg(there.classes(torch.arange(2, device=device)), mu[:1])  # loads the libraries
        run = measure(lambda: float(spg(there, mu).relative_gap_MC.max()))
        megabytes = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else run.megabytes
        return device, f"{classes:,}", run.seconds, f"{run.result:.0e}", f"{megabytes:.0f}"

    heads = ("device", "classes", "seconds", "largest relative gap", "MB")
    table(
        "Synthetic, 4,096 filters, 10 mu from 1 to 100", heads, (row(*size) for size in (("cuda", 1_000), ("cpu", 10)))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=600, help="seconds for a solver that does not come to an end")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores to pin them to")
    parser.add_argument("overrides", nargs="*", help="Hydra options of the network: store.dir=…, data=mnist")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # the other solvers' warnings that they have not converged: the gap says it
    torch.set_num_threads(arguments.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    with threadpool_limits(arguments.threads):
        x, labels = network(arguments.overrides)
        trained = MuLassoProblem.stream([(torch.as_tensor(x), torch.as_tensor(labels))])
        for kind in (Celer, Skglm):  # compiled at their first call
            kind(x[:50, :5].copy(order="F"), labels[:50, 0], 0.01).go_on(1)
        grid("Network", trained)
        if REFERENCE.exists():
            grid("Reference", reference())
        growth()
        columns("Network", trained, (np.asfortranarray(x), labels[:, 0]), (10, 100, 500), (100,), arguments.limit)
        if REFERENCE.exists():
            every_row = rebuilt(reference(), 0, 60_000)
            columns("Reference", reference(), every_row, (10, 100, 200, 500), (200,), arguments.limit)
        if torch.cuda.is_available():
            gpu()


if __name__ == "__main__":
    main()
