"""`tipping table`: the table and the chart of sweeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tipping.command import line

EXAMPLES = """examples:
  {call} outputs/interpret/2026-11-24_10-00-00-000000
  {call} outputs/seeds --differences
  {call} outputs/figure4 --against report"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: write the table and the chart of sweeps. Return the exit code."""
    parser = line.arguments("table", "Write the table and the chart of each sweep.", EXAMPLES)
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun")
    parser.add_argument(
        "--against", choices=["report", "meynen2023"], help="print published numbers beside those of the sweeps"
    )
    parser.add_argument(
        "--differences", action="store_true", help="print how far selected filters differ from random ones, over seeds"
    )
    return line.answer(parser, arguments, _gather)


def _gather(given: argparse.Namespace) -> int:
    from tipping.results import tables

    missing = [job for sweep in given.sweeps for job in tables.write_table(sweep)]
    if given.differences:
        tables.print_differences(given.sweeps)
    if given.against == "report":
        tables.print_against_report(given.sweeps)
    if given.against == "meynen2023":
        tables.print_against_meynen2023(given.sweeps)
    return 1 if missing else 0
