"""`tipping layers`: the filters of a network that are measured and ablated, and where, without training."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tipping.command import line
from tipping.errors import InputError
from tipping.experiment.config import Config, parse, presets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tipping.data import Dataset

EXAMPLES = """examples:
  {call} data=digits
  {call} model=matconvnet protocol=matconvnet_report
  {call} model=own model._target_=my_package.MyNet data=digits"""


class Site(NamedTuple):
    """The modules at which the filters of a layer are measured and ablated, as text."""

    measured: str
    ablated: str


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
    from tipping.results.rows import print_lines

    config = _composed(given.options, given.config_dir)
    dataset, model = load_dataset_and_model(config, CPU)
    image_1CHW = dataset.train[:1].images_NCHW
    sites, shapes = _sites(model, dataset, config), _shapes(model, image_1CHW)
    rows = [_row(model, name, shapes[name], site) for name, site in sites.items()]
    print(f"\nWhat protocol {config.protocol.name} measures and ablates of {config.model['name']}\n")
    print_lines([["layer", "kind", "filters", "maps", "measured at", "ablated at"], *rows])
    print(f"\n{sum(shapes[name][0] for name in sites)} filters in {len(sites)} layers; left out:")
    left_out = [
        [name, _kind(model, name), why]
        for name, why in _left_out(model, shapes, sites, config, len(dataset.classes)).items()
    ]
    print_lines(left_out) if left_out else print("nothing")
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


def _sites(model: nn.Module, dataset: Dataset, config: Config) -> dict[str, Site]:
    """Return the site of each layer that counts, in the order of the layers."""
    from tipping.experiment.subject import Subject

    protocol, filters = config.protocol, Subject.from_options(model, dataset, config).filters
    spared = set(filters.index.layer_F[~filters.ablatable_F].tolist())
    sites = {}
    for number, (layer, ablated) in enumerate(filters.sites.items()):
        measured = ", ".join(module for owner, module in filters.maps if owner == layer)
        if protocol.scope == "first_input_channel":
            ablated = f"{layer}, first input channel"
        sites[layer] = Site(measured, "nowhere" if number in spared else ablated)
    return sites


def _shapes(model: nn.Module, image_1CHW: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of the output of each layer with weights, in the order in which an image passes the layers."""
    import torch

    from tipping.network import evaluating

    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def note(_: object, __: object, maps: object) -> None:
            shapes.pop(name, None)  # a layer used twice stands at its last use
            shapes[name] = tuple(maps.shape[1:]) if isinstance(maps, torch.Tensor) else ()

        layer.register_forward_hook(note)

    for name, layer in _weighted(model).items():
        watch(name, layer)
    with evaluating(model), torch.no_grad():
        model(image_1CHW.clone())
    return shapes


def _weighted(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules with direct weights, without activations and norms."""
    from torch import nn

    from tipping.network import ACTIVATIONS, NORMALISING

    others = (*ACTIVATIONS, *NORMALISING, nn.BatchNorm1d, nn.LayerNorm)
    modules = {name: module for name, module in model.named_modules() if not isinstance(module, others)}
    return {name: module for name, module in modules.items() if any(True for _ in module.parameters(recurse=False))}


def _left_out(
    model: nn.Module, shapes: dict[str, tuple[int, ...]], sites: dict[str, Site], config: Config, classes: int
) -> dict[str, str]:
    """Return the reason for each layer with weights that does not count."""
    from torch import nn

    from tipping.network import MIXING

    weighted, only = _weighted(model), config.model.get("layers")
    last = [name for name in shapes if isinstance(weighted[name], MIXING)][-1:]
    why = {}
    for name, layer in weighted.items():
        if name in sites:
            continue
        if not isinstance(layer, MIXING):
            why[name] = "filters are looked for in nn.Conv2d and nn.Linear only"
        elif name not in shapes:
            why[name] = "no image passes it"
        elif [name] == last and math.prod(shapes[name]) == classes:
            why[name] = "it gives the classes"
        elif len(shapes[name]) not in (1, 3):
            why[name] = f"its maps have {len(shapes[name])} dimensions"
        elif isinstance(layer, nn.Linear) and len(shapes[name]) > 1:
            why[name] = "it is applied at each position of its maps"
        elif only and name not in only:
            why[name] = "model.layers does not name it"
        elif isinstance(layer, nn.Linear):
            why[name] = "protocol.dense=true counts its units"
        else:
            why[name] = "not found"
    return why


def _row(model: nn.Module, name: str, shape: tuple[int, ...], site: Site) -> list[str]:
    size = "x".join(map(str, shape[1:])) or "1"
    return [name, _kind(model, name), str(shape[0]), size, site.measured, site.ablated]


def _kind(model: nn.Module, name: str) -> str:
    from torch import nn

    layer = model.get_submodule(name)
    if isinstance(layer, nn.Conv2d):
        return f"convolution {'x'.join(map(str, layer.kernel_size))}"
    return "dense" if isinstance(layer, nn.Linear) else type(layer).__name__
