"""The selection alone, on problems up to ImageNet's number of classes: on the device, and on the CPU beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from measuring import measure
from problems import synthetic

from gpu.work import Pace, Rows, Work
from tipping.mu_lasso import MuLassoProblem, spg

FILE = "selection.csv"
MUS = np.geomspace(0.01, 0.3, 10)  # for each filter, since a layer's responses sum to 1


def run(work: Work) -> None:
    """Solve one problem after another on the device, the smallest first, and then on the CPU as far as they fit.

    The largest is tried on the device whatever the others took: how long it takes there is what is asked.

    Raises:
        OutOfTime: some are left.
    """
    rows, device = Rows(work.out / FILE), "cuda" if work.device.type == "cuda" else "cpu"
    for on in dict.fromkeys([device, "cpu"]):
        pace, before = Pace(work), 0
        for filters, classes in work.size.problems:
            size = filters**2 * classes
            if not rows.having(filters=filters, classes=classes, on=on, **work.made_by):
                print(f"{filters} filters, {classes} classes on {on}", flush=True)
                with pace.piece(scale=size / before if before and on == "cpu" else 0.0):
                    rows.add({**solved(filters, classes, on), **work.made_by})
                before = size


def solved(filters: int, classes: int, device: str) -> dict[str, Any]:
    """Seconds, gap and memory of the solutions of one problem at ten mu."""
    problem = MuLassoProblem.stream(synthetic(4 * filters, filters, classes)).to(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    taken = measure(lambda: spg(problem, (filters * MUS).tolist()))
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else 1e6 * taken.megabytes
    solution = taken.result
    return {
        "filters": filters,
        "classes": classes,
        "mu": len(MUS),
        "on": device,
        "seconds": round(taken.seconds, 3),
        "megabytes": round(peak / 1e6),
        "relative_gap": float(solution.relative_gap_MC.max()),
        "certified": bool(solution.certified_MC.all()),
        "relevant": int((solution.weights_MFC != 0).any(2).any(0).sum()),
    }
