"""`tipping layers`: the filters of a network that are measured and ablated, and where, without training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tipping.command import line
from tipping.errors import InputError, printable
from tipping.experiment.config import Config, parse, presets

EXAMPLES = """examples:
  {call} data=digits
  {call} model=matconvnet protocol=matconvnet_report
  {call} model=own model._target_=my_package.MyNet data=digits
  {call} model=own model._target_=my_package.MyNet 'model.layers=["blocks.[0-3].*"]' data=digits"""
NAMED = 20  # layers that are left out for one reason
HEADS = {"measured": "measured at", "ablated": "ablated at"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: describe a network. Return the exit code."""
    what = "Say what of a network is measured and ablated, and where, without training it."
    parser = line.arguments("layers", what, EXAMPLES)
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="those of interpret")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of presets of your own")
    return line.answer(parser, arguments, _describe)


def _describe(given: argparse.Namespace) -> int:
    """Print the filters that a job of these options measures and ablates; return the exit code."""
    from tipping.data import CPU
    from tipping.experiment.network import load_dataset_and_model
    from tipping.experiment.subject import Subject
    from tipping.results.rows import print_lines

    config = _composed(given.options, given.config_dir)
    dataset, model = load_dataset_and_model(config, CPU)
    filters = Subject.from_options(model, dataset, config).filters
    rows = filters.rows()
    if config.protocol.scope == "first_input_channel":
        spared = {"nowhere": "nowhere"}
        rows = [{**row, "ablated": spared.get(row["ablated"], f"{row['layer']}, first input channel")} for row in rows]
    print(f"\nWhat protocol {config.protocol.name} measures and ablates of {config.model['name']}\n")
    print_lines([[HEADS.get(name, name) for name in rows[0]], *([str(cell) for cell in row.values()] for row in rows)])
    print(f"\n{len(filters.index.layer_F)} filters in {len(rows)} layers; left out:")
    for why in dict.fromkeys(filters.left_out.values()):
        names = [printable(name) for name, reason in filters.left_out.items() if reason == why]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        print(f"{why}: {', '.join(names[:NAMED])}{more}")
    if not filters.left_out:
        print("nothing")
    return 0


def _composed(options: Sequence[str], presets_dir: Path | None) -> Config:
    """Return the options of a job of `interpret`.

    Args:
        options: the overrides.
        presets_dir: a folder of the user's presets.
    """
    from hydra import compose, initialize_config_dir

    if presets_dir is not None and not presets_dir.is_dir():
        raise InputError(f"--config-dir={presets_dir}: no such folder; give that of your presets")
    places = [f"hydra.searchpath=['file://{presets_dir.resolve()}']"] if presets_dir else []
    with initialize_config_dir(str(presets()), version_base="1.3"):
        return parse(compose("config", [*places, *options]))
