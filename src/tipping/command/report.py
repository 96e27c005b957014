"""`tipping report`: the page of sweeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tipping.command import line
from tipping.errors import printable

EXAMPLES = """examples:
  {call} outputs/interpret/2026-11-24_10-00-00-000000
  {call} outputs/tipping_point outputs/map      # side by side; the page is in the first"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: write the page of sweeps. Return the exit code."""
    parser = line.arguments("report", "Write the page of sweeps.", EXAMPLES)
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun or search")
    return line.answer(parser, arguments, _write)


def _write(given: argparse.Namespace) -> int:
    from tipping.report import page

    print(printable(str(page.write_report(given.sweeps))))
    return 0
