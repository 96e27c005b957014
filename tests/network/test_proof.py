"""The network's test of its own ablations, on networks that do what hooks do not see, and with finders that err."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.ablation import ablated
from tipping.errors import InputError
from tipping.network import Filters, hooks
from tipping.network.discovery import FilterLayer
from tipping.network.proof import prove
from tipping.selection.responses import response_batches

IMAGES = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def negative(maps: Tensor) -> Tensor:
    return torch.relu(-maps)


with warnings.catch_warnings():  # TorchScript is going, but networks have parts of it
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted_negative = torch.jit.script(negative)


class NegativePart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, maps: Tensor) -> Tensor:
        return (-maps).clamp(min=0)


class ConcatenatedReLU(nn.Module):
    """A convolution whose maps go to a ReLU, and to something else."""

    def __init__(self, other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.other, self.conv, self.relu, self.head = other, nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Linear(6 * 16, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head(torch.cat([self.relu(maps), self.other(maps)], 1).flatten(1))


class InPlaceBranch(nn.Module):
    """A branch that begins with a ReLU in place: the sum takes the maps that the ReLU has overwritten."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.branch, self.head = nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 3, 1), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.head((self.branch(self.relu(maps)) + maps).flatten(1))


class InPlaceStatement(nn.Module):
    """A module that works in place, and whose output nothing takes."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 3, 3), relu, nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        self.relu(maps)
        return self.head(maps.flatten(1))


class CalledTwice(nn.Module):
    """A convolution that is called as a module, and by its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.conv(images) + self.conv.forward(images.flip(2))).flatten(1))


class Compiled(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 3, 3), nn.ReLU()
        self.body: nn.Module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
        self.head = nn.Linear(48, 4)
        if how == "block":
            self.body.compile(backend="eager")
        if how == "wrap":
            self.body = torch.compile(self.body, backend="eager")  # type: ignore[assignment]
        if how == "forward":
            self.forward = torch.compile(self.forward, backend="eager")  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.relu(self.conv(images))).flatten(1))


def without(model: nn.Module, filters: Filters, gone: list[int]) -> Tensor:
    with torch.no_grad(), ablated(filters, np.array(gone)):
        return filters.model(IMAGES.clone())  # type: ignore[no-any-return]


def prepared(model: nn.Module) -> nn.Module:
    return model.double().eval()


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


def test_layers_out_of_reach_are_said(caplog: pytest.LogCaptureFixture) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.up = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 1)
            self.kernel, self.head = nn.Parameter(torch.rand(3, 3, 1, 1)), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.up(self.conv2.forward(torch.relu(self.conv1(images))))
            return self.head(functional.conv2d(maps, self.kernel).flatten(1))

    filters = Filters.of(prepared(Hidden()), IMAGES[:1])
    assert list(filters.sites) == ["conv1"]
    assert "conv2, up, Hidden: neither measured nor ablated" in caplog.text.replace("GraphModule", "Hidden")
    assert filters.proof is not None
    assert len(filters.proof.remarks) == 1


def test_an_image_that_reaches_the_logits_past_all_filters_is_said() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(images)).flatten(1)) + images.mean((1, 2, 3)).view(-1, 1)

    (remark,) = Filters.of(prepared(Shortcut()), IMAGES[:1]).proof.remarks  # type: ignore[union-attr]
    assert remark.startswith("with all filters ablated the logits still depend on the image")


def test_networks_that_change_from_pass_to_pass_are_said() -> None:
    class Noisy(InPlaceStatement):
        def forward(self, images: Tensor) -> Tensor:
            return functional.dropout(super().forward(images), 0.5, training=True)

    class Counting(InPlaceStatement):
        passes = 0

        def forward(self, images: Tensor) -> Tensor:
            self.passes += 1
            return super().forward(images) * self.passes

    for kind, reason in ((Noisy, "it draws random numbers"), (Counting, "it keeps state; whether its filters are")):
        filters = Filters.of(prepared(kind(nn.ReLU())), IMAGES[:1])
        assert filters.proof is not None
        assert "on each pass: " + reason in filters.proof.remarks[0]


def test_complex_maps_are_refused() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 3, 3, dtype=torch.complex64), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.conv(images.to(torch.complex64)).abs().flatten(1))

    with pytest.raises(InputError, match="conv gives complex maps"):
        Filters.of(Complex().eval(), IMAGES[:1].float())


def test_dense_layers_at_each_position_are_no_rows_of_units() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.point, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 5), nn.Linear(5, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images).permute(0, 2, 3, 1)
            return self.head(torch.relu(self.point(maps)).mean((1, 2)))

    filters = Filters.of(prepared(ChannelsLast()), IMAGES[:1], dense=True)
    assert list(filters.sites) == ["conv"]
    assert filters.proof is not None
    assert filters.proof.remarks[0].startswith("point: neither measured nor ablated")


def test_normalisation_behind_a_shared_map_is_said() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(48, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            return self.head((torch.relu(self.norm(maps)) + maps).flatten(1))

    (remark,) = Filters.of(prepared(Shared()), IMAGES[:1]).proof.remarks  # type: ignore[union-attr]
    assert remark.startswith("norm turns ablated filters of conv into another constant than 0")


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


def test_a_convolution_that_gives_no_map_for_each_filter_is_said() -> None:
    class ChannelsLast(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).permute(0, 2, 3, 1)

    class Doubled(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([super().forward(images)] * 2, 1)

    for kind, width in ((ChannelsLast, 48), (Doubled, 96)):
        layers = nn.Conv2d(1, 3, 3), nn.ReLU(), kind(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(width, 4)
        filters = Filters.of(prepared(nn.Sequential(*layers)), IMAGES[:1])
        assert filters.sites == {"0": "1"}
        assert filters.proof is not None
        assert filters.proof.remarks[0].startswith("2: neither measured nor ablated")


def test_maps_of_the_classes_are_no_filters() -> None:
    """As in SqueezeNet: the last convolution has a map for each class."""
    head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    assert list(Filters.of(prepared(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), *head)), IMAGES[:1]).sites) == ["0"]


def test_images_that_pass_a_layer_more_than_once_are_refused() -> None:
    class Mirrored(InPlaceStatement):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(torch.cat([images, images.flip(3)]))[: len(images)]

    filters = Filters.of(prepared(Mirrored(nn.ReLU())), IMAGES[:1])
    with pytest.raises(InputError, match=r"^conv gives 40 maps of each filter for 20 images"):
        list(response_batches(filters, [(IMAGES, torch.zeros(20, dtype=torch.long))]))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_what_a_network_writes_is_as_before() -> None:
    class Writing(InPlaceStatement):
        def __init__(self) -> None:
            super().__init__(nn.ReLU())
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("mean", torch.zeros(3))

        def train(self, mode: bool = True) -> Writing:
            super().train(mode)
            self.norm.train()  # whatever the mode
            return self

        def forward(self, images: Tensor) -> Tensor:
            self.mean.copy_(self.conv(images).mean((0, 2, 3)))
            return super().forward(images) + self.norm(self.conv(images)).mean()

    model = prepared(Writing())
    nn.utils.weight_norm(model.conv)  # the older one keeps the weight that it computes as an attribute
    model(IMAGES)
    before, weight = {name: tensor.clone() for name, tensor in model.state_dict().items()}, model.conv.weight.clone()
    filters = Filters.of(model, IMAGES[:1])
    list(response_batches(filters, [(IMAGES, torch.zeros(20, dtype=torch.long))]))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(model.conv.weight, weight)


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (lambda logits: {"logits": logits}, "gives a dict"),
        (lambda logits: (logits, logits), "gives a tuple"),
        (lambda logits: logits[0], r"gives \(4,\)"),
        (lambda logits: logits.argmax(1, keepdim=True), "of torch.int64"),
        (lambda logits: None, "gives a NoneType"),
    ],
)
def test_what_is_no_logits_is_refused(give: Callable[[Tensor], object], says: str) -> None:
    class Giving(InPlaceStatement):
        def forward(self, images: Tensor) -> object:
            return give(super().forward(images))

    with pytest.raises(InputError, match=rf"^Giving must give logits \(N, classes\) of images.*{says}"):
        Filters.of(prepared(Giving(nn.ReLU())), IMAGES[:1])
    with pytest.raises(InputError, match=r"^DataParallel holds a network: give its \.module"):
        Filters.of(nn.DataParallel(prepared(InPlaceStatement(nn.ReLU()))), IMAGES[:1])
