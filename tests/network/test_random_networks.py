"""Random networks of modules and functions, in place or not, whose filters are ablated as weights of zero would."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation import ablated
from tipping.network import Filters
from tipping.selection import Measure
from tipping.selection.responses import response_batches

IMAGES = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WIDTH = 3


class OwnActivation(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=0) + 0.1 * maps.clamp(max=0) ** 2


class OwnInPlace(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.tanh_()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Hardtanh(0, 6)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.gate(maps + 3)


class Signed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, maps: Tensor) -> Tensor:
        return maps.sign() * maps**2


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted = torch.jit.script(functional.softsign)


def called_script(maps: Tensor) -> Tensor:
    return scripted(maps)  # type: ignore[no-any-return]


# all give 0 for 0, so that a filter without weights gives 0 wherever its maps go
ACTIVATIONS: list[Callable[[], Callable[[Tensor], Tensor]]] = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.ELU(inplace=True),
    nn.Tanhshrink,
    lambda: nn.Threshold(0.0, 0.0, inplace=True),
    OwnActivation,
    OwnInPlace,
    Gated,
    nn.Identity,
    lambda: functional.relu,
    lambda: functional.relu_,
    lambda: functional.gelu,
    lambda: torch.tanh,
    lambda: called_script,
    lambda: Signed.apply,
]
JOINS = ("plain", "statement", "before", "after", "negative", "twice")


class Step(NamedTuple):
    """A convolution, what follows it, and how its maps go on."""

    activation: int
    normalised: bool
    join: str


class Random(nn.Module):
    """A network of steps."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.convs = nn.ModuleList(nn.Conv2d(WIDTH if i else 1, WIDTH, 3, padding=1) for i in range(len(steps)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) if step.normalised else nn.Identity() for step in steps)
        for norm in self.norms:
            if isinstance(norm, nn.BatchNorm2d):
                for tensor in (norm.running_mean, norm.running_var, norm.bias):
                    nn.init.uniform_(tensor, 0.5, 1)
        acts = [ACTIVATIONS[step.activation]() for step in steps]
        self.acts = nn.ModuleList(act for act in acts if isinstance(act, nn.Module))
        self.places = [next((i for i, own in enumerate(self.acts) if own is act), None) for act in acts]
        self.functions = [None if isinstance(act, nn.Module) else act for act in acts]
        self.head = nn.Linear(WIDTH * 25, 4)

    def act(self, number: int, maps: Tensor) -> Tensor:
        place, function = self.places[number], self.functions[number]
        return self.acts[place](maps) if place is not None else function(maps)  # type: ignore[misc]

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for number, (conv, norm, step) in enumerate(zip(self.convs, self.norms, self.steps, strict=True)):
            made = norm(conv(maps))
            if step.join == "negative":
                maps = self.act(number, made) + torch.relu(-made)
            elif step.join == "before":
                maps = self.act(number, made) + made
            elif step.join == "after":
                after = self.act(number, made)
                maps = after + after * 0.5
            elif step.join == "statement":
                self.act(number, made)
                maps = made
            elif step.join == "twice":
                maps = self.act(number, self.act(number, made))
            else:
                maps = self.act(number, made)
        return self.head(maps.flatten(1))


@st.composite
def networks(draw: st.DrawFn) -> Random:
    step = st.builds(Step, st.integers(0, len(ACTIVATIONS) - 1), st.booleans(), st.sampled_from(JOINS))
    steps = draw(st.lists(step, min_size=1, max_size=3))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return Random(steps).double().eval()


def emptied(model: Random, layer: int, gone: list[int]) -> Random:
    """Return a copy of a network in which some filters of a layer have weights, bias and norm of zero."""
    bare = copy.deepcopy(model)
    with torch.no_grad():
        for module in (bare.convs[layer], bare.norms[layer]):
            for tensor in module.parameters():
                tensor[gone] = 0
    return bare


@settings(max_examples=60)
@given(networks(), st.data())
def test_filters_that_are_ablated_leave_what_weights_of_zero_leave(model: Random, data: st.DataObject) -> None:
    with torch.random.fork_rng():
        filters = Filters.of(model, IMAGES[:1])
    assert list(filters.index.layers) == [f"convs.{number}" for number in range(len(model.steps))]
    layer = data.draw(st.integers(0, len(model.steps) - 1))
    gone = sorted(data.draw(st.sets(st.integers(0, WIDTH - 1), min_size=1)))
    with torch.no_grad():
        by_hand = emptied(model, layer, gone)(IMAGES.clone())
        with ablated(filters, np.array(gone) + WIDTH * layer):
            found = filters.model(IMAGES.clone())
    assert filters.proof is not None
    norm_behind = any("turns ablated filters" in remark for remark in filters.proof.remarks)
    if not norm_behind:
        torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)


@settings(max_examples=30)
@given(networks())
def test_responses_are_the_norms_of_the_maps_at_their_sites(model: Random) -> None:
    """Beside a plain reading of each module's output, kept as a copy when it is made."""
    filters = Filters.of(model, IMAGES[:1])
    seen: dict[str, Tensor] = {}

    def keep(site: str) -> Callable[[object, object, Tensor], None]:
        def hook(_: object, __: object, maps: Tensor) -> None:
            seen.setdefault(site, maps.clone())  # the first call: the layers' own

        return hook

    sites = list(filters.sites.values())
    handles = [filters.model.get_submodule(site).register_forward_hook(keep(site)) for site in sites]
    with torch.no_grad():
        filters.model(IMAGES.clone())
    for handle in handles:
        handle.remove()
    labels = torch.zeros(len(IMAGES), dtype=torch.long)
    ((responses_NR, _),) = response_batches(filters, [(IMAGES, labels)], Measure())
    norms = [seen[site].square().sum((2, 3)).sqrt() for site in filters.sites.values()]
    expected = torch.cat([norm / norm.sum(1, keepdim=True).clamp(min=1e-300) for norm in norms], 1)
    torch.testing.assert_close(responses_NR, expected, rtol=1e-6, atol=1e-12)
