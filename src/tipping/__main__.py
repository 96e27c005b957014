"""The command `tipping`, also as ``python -m tipping``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COMMANDS = {  # by name: what the sub-command does, and its room in `tipping.command`
    "train": ("train networks", "train"),
    "interpret": ("find the filters a network relies on, and what is left without them", "interpret"),
    "layers": ("say what of a network is measured and ablated, without training it", "layers"),
    "arena": ("compare selectors: whose filters does a network use?", "arena"),
    "search": ("search the mu at which networks tip", "tipping_point"),
    "fewest": ("search the fewest filters that tip a network, over mu and its options", "fewest_filters"),
    "table": ("write the table and the chart of a sweep", "table"),
    "map": ("write the tipping points of all networks of sweeps", "map"),
    "report": ("write the page of sweeps", "report"),
    "store": ("list, verify or prune what is kept of networks", "store"),
    "dashboard": ("save the workspace in which W&B compares jobs", "dashboard"),
}
OF_HYDRA = ("train", "interpret", "arena", "search", "fewest")  # sub-commands whose command line is read by Hydra
HELP = """\
usage: {program} COMMAND [OPTION ...]

Which filters does a convolutional network rely on, and at how many removed filters does its accuracy tip?

commands:
{commands}

  {program} COMMAND --help    its options
  {program} --version"""


def main() -> None:
    """Run the sub-command that the command line names, and exit."""
    program = ["tipping"] if Path(sys.argv[0]).stem == "tipping" else ["python", "-m", "tipping"]
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-sc", "--shell-completion"):
        name, arguments = _completed(), sys.argv[1:]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {one.ljust(width)}  {does}" for one, (does, _) in COMMANDS.items()]
        print(HELP.format(program=" ".join(program), commands="\n".join(lines)))
    elif name == "--version":
        print(f"tipping {_version()}")
    elif name not in COMMANDS:
        sys.exit(f"{name}: no such command; there are {', '.join(COMMANDS)}")
    else:
        from tipping.experiment import invocation  # imports Hydra, which the lines above do not need

        invocation.used = program
        room = import_module(f"tipping.command.{COMMANDS[name][1]}")
        if name in OF_HYDRA:
            sys.argv[1:] = arguments
            room.main()
        sys.exit(room.main(arguments))


def _version() -> str:
    try:
        return version("tipping")
    except PackageNotFoundError:
        return "(not installed)"


def _completed() -> str:
    """Take the sub-command out of the line that the tab key completes, as Hydra expects the line, and return it.

    Where the line has no sub-command of Hydra, the names of sub-commands are printed and the program exits.
    """
    _, name, *rest = [*os.environ.get("COMP_LINE", "").split(" ", 2), "", ""][:3]
    if name not in OF_HYDRA:
        print(*(one for one in COMMANDS if one.startswith(name)))
        sys.exit(0)
    os.environ["COMP_LINE"] = " ".join(["tipping", *rest])
    return name


if __name__ == "__main__":
    main()
