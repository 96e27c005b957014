"""`tipping store`: list the items of the store, verify that they are whole, and prune those that no job uses."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tipping.command import line

EXAMPLES = """examples:
  {call} list                    # what the store holds
  {call} list outputs            # and which jobs use it
  {call} verify > sums           # sums that sha256sum --check takes
  {call} prune outputs           # what no job below outputs uses
  {call} prune outputs --yes     # deletes it
  {call} list --store FOLDER     # of another store than artifacts"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: list, verify or prune the store. Return the exit code."""
    what = "What the store holds, whether it is whole, and what of it no job uses."
    parser = line.arguments("store", what, EXAMPLES)
    commands = parser.add_subparsers(required=True, dest="command")
    lister = commands.add_parser("list", help="say what the store holds")
    lister.add_argument("sweeps", type=Path, nargs="*", metavar="SWEEP_DIR", help="name the jobs there that use it")
    verifier = commands.add_parser("verify", help="read all of it, and print checksums")
    pruner = commands.add_parser("prune", help="say, or delete, what no job uses and what stopped jobs left")
    pruner.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP_DIR", help="of all jobs that are to be kept")
    pruner.add_argument("--yes", action="store_true", help="delete it")
    for one in (lister, verifier, pruner):
        one.add_argument("--store", type=Path, default=Path("artifacts"), help="store.dir of the jobs (%(default)s)")
    return line.answer(parser, arguments, _keep)


def _keep(given: argparse.Namespace) -> int:
    from tipping.command import housekeeping  # with torch

    if given.command == "list":
        return housekeeping.list_items(given.store, given.sweeps)
    if given.command == "verify":
        return housekeeping.verify(given.store)
    return housekeeping.prune_orphans(given.store, given.sweeps, given.yes)
