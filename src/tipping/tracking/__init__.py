"""Weights & Biases, which only this wing imports: a run for each job and sweep, and a workspace to compare runs."""

from tipping.tracking.run import CHARTS, Run, Tracking, summarise, sweep_of, track

__all__ = ["CHARTS", "Run", "Tracking", "summarise", "sweep_of", "track"]
