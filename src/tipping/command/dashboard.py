"""`tipping dashboard`: the workspace in which W&B compares jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tipping.command import line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: save the workspace. Return the exit code."""
    parser = line.arguments("dashboard", "Save the workspace in which W&B compares jobs.")
    add_options(parser)
    return line.answer(parser, arguments, save)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the workspace to a command line."""
    parser.add_argument("--entity", help="the user or team it is for; yours if left out")
    parser.add_argument("--project", default="tipping", help="the project of the runs (%(default)s)")
    many = "the number of classes whose pictures are shown (%(default)s)"
    parser.add_argument("--classes", type=int, default=10, metavar="N", help=many)


def save(given: argparse.Namespace) -> int:
    """Save the workspace with the given options, and return the exit code."""
    from tipping.tracking.dashboard import save_dashboard

    return save_dashboard(given.entity, given.project, given.classes)
