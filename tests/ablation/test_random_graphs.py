"""Random graphs of modules and functions, in place or not, whose engine gives what masks give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from toy_graphs import all_logits

from tipping.ablation import ablated
from tipping.ablation.engine import Engine
from tipping.network import Filters, evaluating

pytestmark = pytest.mark.usefixtures("differences")
IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LAYERS = ("convolution", "normalised", "apart", "grouped")
OTHERS = (
    *("add", "subtract", "in place", "concatenate", "half", "shuffle", "gate", "spatial gate", "relu", "relu in place"),
    *("tanh", "softmax", "pool", "padded mean", "normalise", "scale", "again"),
)
Step = tuple[str, int, int, int]  # what is done, with which of the values so far, and to how many channels


class Random(nn.Module):
    """A network whose values are made from earlier ones, step by step; the last is pooled and classified."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps, self.layers, self.sites = steps, nn.ModuleDict(), dict[str, str]()
        self.widths = widths = [2]
        for number, (what, first, _, width) in enumerate(steps):
            given = widths[first % len(widths)]
            if what in LAYERS:
                out, groups = {"apart": (given, given), "grouped": (2 * given, given)}.get(what, (width, 1))
                layer: nn.Module = nn.Conv2d(given, out, 3, padding=1, groups=groups)
                self.layers[f"{number}"] = layer
                if what == "normalised":
                    self.layers[f"{number}_norm"] = nn.BatchNorm2d(out)
                self.sites[f"layers.{number}"] = f"layers.{number}{'_norm' * (what == 'normalised')}"
            elif what == "normalise":
                self.layers[f"{number}"] = nn.BatchNorm2d(given)
            elif what == "gate":
                self.layers[f"{number}"] = nn.Linear(given, given)
            with torch.no_grad():
                widths.append(self.step(number, [torch.rand(1, some, 6, 6) for some in widths]).shape[1])
        self.head = nn.Linear(widths[-1], 4)

    def step(self, number: int, values: list[Tensor]) -> Tensor:
        what, first, second, _ = self.steps[number]
        maps, other = values[first % len(values)], values[second % len(values)]
        width, beside = self.widths[first % len(values)], self.widths[second % len(values)]
        if what in ("add", "subtract", "in place") and width != beside:
            other = other.mean(1, keepdim=True)
        if what in LAYERS:
            maps = self.layers[f"{number}"](maps)
            return self.layers[f"{number}_norm"](maps) if what == "normalised" else maps
        if what == "in place":
            maps = maps * 1.5
            maps += other
            return maps
        if what in ("gate", "normalise"):
            layer = self.layers[f"{number}"]
            return layer(maps) if what == "normalise" else maps * layer(maps.mean((2, 3))).sigmoid()[:, :, None, None]
        even = width // 2 * 2
        return {
            "add": lambda: maps + other,
            "subtract": lambda: torch.sub(maps, other, alpha=2),
            "concatenate": lambda: torch.cat([maps, other], 1),
            "half": lambda: maps.chunk(2, 1)[0],
            "shuffle": lambda: maps[:, :even].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2) if even else maps,
            "spatial gate": lambda: maps * maps.amax(1, keepdim=True).sigmoid(),
            "relu": lambda: functional.relu(maps),
            "relu in place": lambda: maps.relu_(),
            "tanh": lambda: torch.tanh(maps),
            "softmax": lambda: functional.softmax(maps, 1),
            "pool": lambda: functional.max_pool2d(maps, 3, 1, 1),
            "padded mean": lambda: functional.avg_pool2d(maps, 3, 1, 1),
            "scale": lambda: 2 - maps / 3,
            "again": lambda: maps.detach(),
        }[what]()

    def forward(self, images: Tensor) -> Tensor:
        values = [images.clone()]
        for number in range(len(self.steps)):
            values.append(self.step(number, values))
        return self.head(values[-1].mean((2, 3)))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(LAYERS), st.sampled_from(OTHERS)),
            *[st.sampled_from((0, 1, 2, -1, -1, -2))] * 2,
            st.integers(1, 5),
        ),
        min_size=3,
        max_size=9,
    ),
    st.booleans(),
    st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_random_graphs_give_the_logits_of_the_masked_network(steps: list[Step], mean: bool, seed: int) -> None:
    torch.manual_seed(seed)
    model = Random([("convolution", 0, 0, 4), *steps]).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    filters, draw = Filters.at(model, model.sites, classes=4), np.random.default_rng(seed)
    count = len(filters.index.layer_F)
    value = torch.randn(count, dtype=torch.float64) if mean else None
    first = np.flatnonzero(filters.index.layer_F == draw.integers(len(filters.sites)))
    chosen = [first, first[1:], *(draw.choice(count, some, replace=False) for some in (1, count // 2, count))]
    with evaluating(model), torch.no_grad():
        engine = Engine.tried(filters, IMAGES[:1], value, "filter")
        for gone, logits in zip(chosen, all_logits(engine, chosen, IMAGES), strict=True):
            with ablated(filters, gone, value=value):
                expected = model(IMAGES.clone())
            # sums in another order, in float64
            assert torch.allclose(logits, expected, rtol=1e-8, atol=1e-9 * max(1, float(expected.abs().max())))
