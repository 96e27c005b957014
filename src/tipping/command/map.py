"""`tipping map`: the tipping points of all networks of sweeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tipping.command import line

EXAMPLES = """examples:
  {call} outputs/tipping_point
  {call} outputs/widths outputs/dropout --compare model.dropout"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: write the tipping map of sweeps. Return the exit code."""
    parser = line.arguments("map", "Write the tipping points of all networks of sweeps.", EXAMPLES)
    parser.add_argument(
        "sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="the folder of a multirun or a search"
    )
    parser.add_argument("--compare", metavar="OPTION", help="compare networks that differ in it, such as model.dropout")
    return line.answer(parser, arguments, _gather)


def _gather(given: argparse.Namespace) -> int:
    from tipping.results import tipping_map

    return 1 if tipping_map.write_map(*given.sweeps, by=given.compare) else 0
