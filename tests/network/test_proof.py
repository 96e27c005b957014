"""The network's test of its own ablations, on networks that do what hooks do not see, and with finders that err."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_hidden import (
    IMAGES,
    CalledTwice,
    Compiled,
    ConcatenatedReLU,
    InPlaceBranch,
    InPlaceStatement,
    NegativePart,
    negative,
    prepared,
    scripted_negative,
)

from tipping.ablation import ablated
from tipping.errors import InputError
from tipping.network import Filters, hooks
from tipping.network.discovery import FilterLayer
from tipping.network.proof import prove
from tipping.selection.responses import response_batches


def without(model: nn.Module, filters: Filters, gone: list[int]) -> Tensor:
    with torch.no_grad(), ablated(filters, np.array(gone)):
        return filters.model(IMAGES.clone())  # type: ignore[no-any-return]


@pytest.mark.parametrize("other", [negative, scripted_negative, NegativePart.apply])
def test_what_takes_maps_beside_a_module_is_seen(other: Callable[[Tensor], Tensor]) -> None:
    model = prepared(ConcatenatedReLU(other))
    filters = Filters.of(model, IMAGES[:1])
    assert filters.sites == {"conv": "conv"}
    with torch.no_grad():
        torch.testing.assert_close(without(model, filters, [0, 1, 2]), model.head.bias.expand(20, 4))


@pytest.mark.parametrize("relu", [nn.ReLU(inplace=True), nn.ELU(inplace=True), nn.Hardtanh(-0.1, 0.2, inplace=True)])
def test_maps_that_are_overwritten_lose_the_filter_wherever_they_are_read(relu: nn.Module) -> None:
    model = prepared(InPlaceBranch(relu))
    filters = Filters.of(model, IMAGES[:1])
    assert filters.sites["conv"] == "relu"
    kept = torch.tensor([1, 0, 1], dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        maps = relu(model.conv(IMAGES)) * kept
        by_hand = model.head((model.branch(maps) + maps).flatten(1))
    torch.testing.assert_close(without(model, filters, [1]), by_hand)


def test_a_module_whose_output_nothing_takes_is_a_place_to_ablate() -> None:
    model = prepared(InPlaceStatement(nn.ReLU(inplace=True)))
    filters = Filters.of(model, IMAGES[:1])
    assert filters.sites == {"conv": "relu"}
    assert filters.proof is not None
    assert not filters.proof.remarks
    with torch.no_grad():
        torch.testing.assert_close(without(model, filters, [0, 1, 2]), model.head.bias.expand(20, 4))


@pytest.mark.parametrize("kind", [InPlaceBranch, InPlaceStatement])
def test_gradients_go_back_through_what_works_in_place(kind: Callable[[nn.Module], nn.Module]) -> None:
    """Autograd refuses, or errs, where the output of a ReLU in place is overwritten."""
    model = prepared(kind(nn.ReLU(inplace=True)))
    filters = Filters.of(model, IMAGES[:1])
    images = IMAGES.clone().requires_grad_()
    value = torch.full((len(filters.index.layer_F),), 0.5, dtype=torch.float64)
    with ablated(filters, np.array([0]), value=value), ablated(filters, np.array([2])):
        filters.model(images * 1).sum().backward()
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad(), ablated(filters, np.array([0]), value=value), ablated(filters, np.array([2])):
        up, down = (filters.model(IMAGES + sign * 1e-6 * step).sum() for sign in (1, -1))
    assert images.grad is not None
    torch.testing.assert_close((images.grad * step).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["block", "wrap", "forward"])
def test_compiled_networks_are_ablated_as_they_are_written(how: str) -> None:
    model = prepared(Compiled(how))
    with torch.no_grad():
        model(IMAGES)  # hooks that come after the first compiled call would not run
    filters = Filters.of(model, IMAGES[:1])
    assert [name.removesuffix(".0") for name in filters.sites] == ["conv", "body" + "._orig_mod" * (how == "wrap")]
    with torch.no_grad():
        torch.testing.assert_close(without(model, filters, [3, 4, 5]), model.head.bias.expand(20, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("script", [torch.jit.script, lambda block: torch.jit.trace(block, torch.rand(1, 3, 4, 4))])
def test_scripted_and_traced_layers_are_refused_by_name(script: Callable[[nn.Module], nn.Module]) -> None:
    model = Compiled("none")
    model.body = script(model.body)
    with pytest.raises(InputError, match=r"^body is compiled by TorchScript, which runs no hooks: give the network as"):
        Filters.of(model.eval(), IMAGES[:1].float())


def test_a_layer_that_is_also_called_out_of_reach_is_refused() -> None:
    with pytest.raises(InputError, match=r"^conv: its filters reach the logits also past conv"):
        Filters.of(prepared(CalledTwice()), IMAGES[:1])


def test_a_finder_that_errs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = FilterLayer("conv", "relu", "relu", ("conv", "relu"), single=False)
    proof = prove(prepared(ConcatenatedReLU(negative)), [wrong], IMAGES[:1])
    assert (proof.sites, proof.moved) == ({"conv": "conv"}, ("conv",))
    assert "something takes their maps before that" in proof.remarks[0]
    monkeypatch.setattr(hooks, "_share", lambda one, other: False)  # nothing is replaced in place
    for kind in (InPlaceBranch, InPlaceStatement):
        assert prove(prepared(kind(nn.ReLU(inplace=True))), [wrong], IMAGES[:1]).moved == ("conv",)
    monkeypatch.setattr(hooks, "_after_layer", lambda *_: [lambda *_: None] * 4)
    assert prove(prepared(InPlaceStatement(nn.ReLU())), [wrong], IMAGES[:1]).moved == ("conv",)


def test_a_network_that_is_tried_is_not_changed() -> None:
    model = prepared(ConcatenatedReLU(scripted_negative))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    Filters.of(model, IMAGES[:1])
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Branching(nn.Module):
    """A network that goes another way for some batches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second, self.head = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.ReLU(), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head((self.first(maps) if float(images[0, 0, 0, 0]) > 0.5 else self.second(maps)).flatten(1))


def test_images_that_do_not_pass_the_place_of_an_ablation_are_refused() -> None:
    model, images = prepared(Branching()), IMAGES.clone()
    images[:10, 0, 0, 0], images[10:, 0, 0, 0] = 1, 0
    filters = Filters.of(model, images[:1])
    batches = [(images[start : start + 10], torch.zeros(10, dtype=torch.long)) for start in (0, 10)]
    says = r"^conv: for some images its maps do not pass first"
    with torch.no_grad(), ablated(filters, np.array([0])), pytest.raises(InputError, match=says):
        filters.model(images[10:])
    with pytest.raises(InputError, match=says):
        list(response_batches(filters, batches))


def test_code_that_goes_another_way_each_time_is_not_traced() -> None:
    class Alternating(nn.Module):
        calls = 0

        def __init__(self, drawing: bool) -> None:
            super().__init__()
            self.drawing, self.conv, self.head = drawing, nn.Conv2d(1, 3, 3), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            way = random.random() < 0.5 if self.drawing else self.calls % 2
            maps = torch.relu(self.conv(images)) if way else torch.tanh(self.conv(images))
            return self.head(maps.flatten(1))

    random.seed(0)
    for drawing in (False, True):
        model = prepared(Alternating(drawing))
        assert Filters.of(model, IMAGES[:1]).model is model
        assert model.calls == 0, "the network is as it was"


def test_leaks_that_no_sign_shows_are_found() -> None:
    class Keep(nn.ReLU):
        def forward(self, maps: Tensor) -> Tensor:
            self.energy = maps.square().mean((2, 3), keepdim=True)
            return super().forward(maps)

    class Leaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(1, 3, 3), Keep(), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head((self.relu(self.conv(images)) + self.relu.energy).flatten(1))

    filters = Filters.of(prepared(Leaking()), IMAGES[:1], only=["conv"])
    assert filters.sites == {"conv": "conv"}
    assert not hasattr(filters.given.relu, "energy")
