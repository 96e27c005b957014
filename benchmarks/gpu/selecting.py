"""The selection alone, on problems up to ImageNet's number of classes: on the device, and on the CPU beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from measuring import measure
from problems import synthetic

from gpu.work import OutOfTime, Pace, Rows, Work
from tipping.mu_lasso import MuLassoProblem, spg

FILE = "selection.csv"
MUS = np.geomspace(0.01, 0.3, 10)  # for each filter, since a layer's responses sum to 1


def run(work: Work) -> None:
    """Solve one problem after another on the device, the smallest first, then on the CPU as far as they fit.

    Last the largest on the device, whatever the others took: how long it takes there is what is asked.

    Raises:
        OutOfTime: some are left.
    """
    rows, device, most = (
        Rows(work.out / FILE),
        work.device.type if work.device.type == "cuda" else "cpu",
        work.size.problems[-1],
    )
    turns = [(device, one) for one in work.size.problems[:-1]] + [("cpu", one) for one in work.size.problems]
    paces, late = {on: Pace(work, f"selecting with {on}") for on in (device, "cpu")}, False
    for on, (filters, classes) in dict.fromkeys([*turns, (device, most)]):
        if not rows.having(asked=filters, classes=classes, on=on, **work.made_by):
            print(f"{filters} filters, {classes} classes on {on}", flush=True)
            try:
                with paces[on].piece(0.0 if (on, (filters, classes)) == (device, most) else filters**2 * classes):
                    rows.add({"asked": filters, **solved(filters, classes, on), **work.made_by})
            except OutOfTime:
                late = True
    if late:
        raise OutOfTime


def solved(filters: int, classes: int, device: str) -> dict[str, Any]:
    """Seconds, gap and memory of the solutions of one problem at ten mu."""
    batches = ((x.to(device), labels.to(device)) for x, labels in synthetic(4 * filters, filters, classes))
    problem = MuLassoProblem.stream(batches)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    taken = measure(lambda: spg(problem, (filters * MUS).tolist()))
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else 1e6 * taken.megabytes
    solution = taken.result
    return {
        "filters": len(problem.gram_FF),
        "classes": classes,
        "mu": len(MUS),
        "on": device,
        "seconds": round(taken.seconds, 3),
        "megabytes": round(peak / 1e6),
        "relative_gap": float(solution.relative_gap_MC.max()),
        "certified": bool(solution.certified_MC.all()),
        "relevant": int((solution.weights_MFC != 0).any(2).any(0).sum()),
    }
