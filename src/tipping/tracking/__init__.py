"""Weights & Biases, imported by this wing only: a run for each job and sweep, and the workspace that compares them."""

from tipping.tracking.run import CHARTS, Run, Tracking, summarise, sweep_of, track

__all__ = ["CHARTS", "Run", "Tracking", "summarise", "sweep_of", "track"]
