"""The mu-lasso solvers beside what a user would pick instead: python benchmarks/solver.py (make bench-solver).

Prints Markdown tables. Everything runs in this process, on the same cores and threads; the problems are

- reference: that of a MatConvNet network on MNIST, 570 filters, 60,000 images, given by its Gram matrix. Responses
  with exactly these products are rebuilt for the solvers that want them: 571 rows, or 60,000 for spgl1;
- network: the responses of a network of 640 filters on the digits (1,437 images), trained here unless in the store;
- synthetic: layers of collinear responses that sum to 1, labels from a few of their factors.
"""

from __future__ import annotations

import argparse
import functools
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from measuring import Measured, measure, pin, table
from peers import GAP, Celer, ScikitLearn, Skglm, by_lars, by_spgl1, gap_of, until_certified
from problems import REFERENCE, network, rebuilt, reference, synthetic
from threadpoolctl import threadpool_limits

from tipping.mu_lasso import MuLassoProblem, homotopy, spg

GRID = (10.0, 100.0, 500.0, 600.0, 700.0)  # the report's mu


def by_spg(problem: MuLassoProblem, mu: Sequence[float]) -> torch.Tensor:
    return spg(problem, mu).weights_MFC


def by_homotopy(problem: MuLassoProblem, mu: Sequence[float]) -> torch.Tensor:
    return homotopy(problem, largest_mu=max(mu)).weights(mu)


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
    every_row: tuple[np.ndarray, np.ndarray],
    mu: Sequence[float],
    slow: Sequence[float],
    limit: float,
) -> None:
    """Class 0 alone: `spg` and the solvers that take one column; spgl1, on all rows, only at the mu in `slow`."""
    column = problem.classes(torch.tensor([0]))
    x, label = rebuilt(column, 0, 0)

    def runs(value: float, own: Measured) -> Iterator[tuple[str, float, Measured]]:
        yield "`spg`", value, own
        multiplier = float(column.gradient(torch.as_tensor(own.result)[:, None]).abs().max())
        for kind in (ScikitLearn, Celer, Skglm):
            made = functools.partial(kind, x, label, multiplier)
            peer = measure(functools.partial(_made_and_certified, made, column, limit / 10))
            yield kind.name, float(np.abs(peer.result).sum()), peer
        if value in slow:
            yield "spgl1, defaults", value, measure(lambda: by_spgl1(column, *every_row, value, limit))
            tight = functools.partial(by_spgl1, column, *every_row, value, limit, opt_tol=1e-12, iter_lim=10**9)
            yield f"spgl1, until {GAP:g}", value, measure(tight)

    def rows() -> Iterator[Sequence[Any]]:
        for value in mu:
            own = measure(functools.partial(_alone, column, value), 5)
            for name, radius, run in runs(value, own):
                times, gap = f"{run.seconds / own.seconds:,.2g}×", f"{gap_of(column, run.result, radius):.0e}"
                nonzero = str(int((np.abs(run.result) > 1e-9).sum()))
                yield f"{value:g}", name, run.seconds, times, gap, nonzero, f"{run.megabytes:.0f}"

    heads = ("mu", "solver", "seconds", "times `spg`", "relative gap", "non-zero", "MB")
    table(f"{title}: class 0 alone, spgl1 for up to {limit:g} s, others {limit / 10:g} s", heads, rows())


def growth() -> None:
    """Synthetic problems: more images, then more filters."""
    mu = [10 * value for value in GRID]  # up to where supports are as full as those of the reference

    def row(images: int, filters: int) -> Sequence[Any]:
        streamed = measure(lambda: MuLassoProblem.stream(synthetic(images, filters)))
        problem = streamed.result
        own = [measure(functools.partial(solve, problem, mu), 3) for solve in (by_spg, by_homotopy)]
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


def _made_and_certified(made: Callable[[], Any], column: MuLassoProblem, limit: float) -> Any:
    return until_certified(made(), column, limit)


def _alone(column: MuLassoProblem, value: float) -> np.ndarray:
    weights: np.ndarray = by_spg(column, [value])[0, :, 0].numpy()
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=600, help="seconds for a solver that does not come to an end")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores to pin them to")
    parser.add_argument("overrides", nargs="*", help="Hydra options of the network: store.dir=…, data=mnist")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # the other solvers' warnings that they have not converged: the gap says it
    pin(arguments.threads)
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
