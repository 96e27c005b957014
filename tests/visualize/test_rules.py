"""Backward rules against loops that follow their definition, captum, and stride-1 networks of the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from oracles import by_loops, nearest
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from toys import Small

from tipping.data import Split
from tipping.experiment import config
from tipping.network import Filters
from tipping.selection import collect
from tipping.visualize import rules, signals
from tipping.visualize.rules import RULES, backward_rule, grid_energy, has_stride
from tipping.visualize.signals import look

CALLS = ("module", "functional", "functional in place", "function", "method", "method in place")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_its_definition(rule: str, call: str) -> None:
    torch.manual_seed(0)
    model = Small(call).double()
    image = torch.randn(1, 1, 9, 9, dtype=torch.float64, requires_grad=True)
    with backward_rule(rule):
        maps = model(image)
    signal = torch.randn(maps.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad(maps, image, signal)
    expected = by_loops(model, image[0].detach().numpy(), signal[0].numpy(), rule)
    assert np.allclose(found[0].numpy(), expected, rtol=1e-10, atol=1e-12)
    assert np.abs(expected).max() > 0
    assert torch.equal(maps, Small.forward(model, image)), "what is computed is the same"


@pytest.mark.parametrize(("rule", "method"), [("deconvnet", Deconvolution), ("guided", GuidedBackprop)])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_rules_are_those_of_captum(rule: str, method: type) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 16, 16), nn.ReLU(), nn.Linear(16, 10)),
    )
    images = torch.randn(4, 3, 18, 18, requires_grad=True)
    expected = method(model).attribute(images, target=3)
    with backward_rule(rule):
        (found,) = torch.autograd.grad(model(images)[:, 3].sum(), images)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_an_activation_in_place_changes_its_input() -> None:
    maps = torch.tensor([-1.0, 2.0]).clone()
    with backward_rule("guided"):
        maps.relu_()
    assert maps.tolist() == [0, 2]


@pytest.mark.parametrize("size", [(12, 12), (13, 15), (11, 16)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "stride": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2},
        {"kernel_size": 4, "stride": 4, "groups": 2},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": "valid"},
    ],
    ids=str,
)
def test_a_strided_convolution_sends_its_enlarged_signal_back_at_stride_1(options: dict, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, **options).double()
    images = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    with backward_rule(resample="nearest"):
        maps = layer(images)
    assert torch.equal(maps, layer(images)), "what is computed is the same"
    signal = torch.randn(maps.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad(maps, images, signal)
    padding = 0 if layer.padding == "valid" else layer.padding
    at_1 = {"padding": padding, "dilation": layer.dilation, "groups": layer.groups}
    height, width = functional.conv2d(images, layer.weight, **at_1).shape[2:]
    expected = functional.conv_transpose2d(nearest(signal, height, width), layer.weight, **at_1)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_convolution_of_stride_1_keeps_its_gradient() -> None:
    layer, images = nn.Conv2d(1, 2, 3), torch.randn(1, 1, 8, 8, requires_grad=True)
    (plain,) = torch.autograd.grad(layer(images).square().sum(), images)
    with backward_rule(resample="nearest", pooling=True):
        (found,) = torch.autograd.grad(layer(images).square().sum(), images)
    assert torch.equal(found, plain)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_is_resampled_where_asked(size: int, ceil_mode: bool) -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    for pool, at_1 in (
        (nn.MaxPool2d(2, ceil_mode=ceil_mode), nn.MaxPool2d(2, stride=1)),
        (nn.AvgPool2d(2, ceil_mode=ceil_mode), nn.AvgPool2d(2, stride=1)),
        (lambda maps: torch.max_pool2d(maps, 2, ceil_mode=ceil_mode), nn.MaxPool2d(2, stride=1)),
    ):
        with backward_rule(resample="nearest", pooling=True):
            maps = pool(images)
        signal = torch.randn(maps.shape, dtype=torch.float64)
        (found,) = torch.autograd.grad(maps, images, signal)
        (expected,) = torch.autograd.grad(at_1(images), images, nearest(signal, size - 1, size - 1))
        assert torch.allclose(found, expected)
        with backward_rule(resample="nearest"):
            (plain,) = torch.autograd.grad(pool(images), images, signal)
        assert torch.equal(plain, torch.autograd.grad(pool(images), images, signal)[0])
        assert not torch.allclose(plain, found)


@pytest.mark.parametrize(
    ("pool", "at_1"),
    [
        (nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1)),
        (nn.MaxPool2d(2, 2, dilation=2), nn.MaxPool2d(2, 1, dilation=2)),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        (nn.AvgPool2d(3, 2, 1, divisor_override=5), nn.AvgPool2d(3, 1, 1, divisor_override=5)),
    ],
)
def test_pooling_keeps_its_options(pool: nn.Module, at_1: nn.Module) -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    with backward_rule(resample="nearest", pooling=True):
        maps = pool(images)
    signal, wide = torch.randn(maps.shape, dtype=torch.float64), at_1(images)
    (found,) = torch.autograd.grad(maps, images, signal)
    (expected,) = torch.autograd.grad(wide, images, nearest(signal, *wide.shape[2:]))
    assert torch.allclose(found, expected)


def test_the_grid_of_strided_layers_goes() -> None:
    """Three convolutions with stride 2, of random weights: the energy at the grid's frequencies falls tenfold."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1)]
    model, images = nn.Sequential(*layers), torch.rand(8, 1, 64, 64, requires_grad=True)

    def score(resample: str) -> float:
        with backward_rule("guided", resample):
            maps = model(images).relu()
        signals = torch.autograd.grad(maps, images, maps.detach())[0]
        return float(sum(grid_energy(signals, stride).mean() for stride in (2, 4, 8)))

    assert score("nearest") < score("none") / 10


def test_grid_energy_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((12, 15))
    power = np.abs(np.fft.fft2(image)) ** 2
    at_grid = sum(power[u, v] for u in (0, 4, 8) for v in (0, 5, 10) if (u, v) != (0, 0))
    expected = at_grid / (power.sum() - power[0, 0])
    assert np.isclose(grid_energy(torch.from_numpy(image)[None, None], 3).item(), expected)
    comb = torch.zeros(1, 1, 12, 12)
    comb[..., ::3, ::3] = 1
    assert grid_energy(comb, 3).item() == pytest.approx(1)
    for side, stride in ((27, 2), (31, 2), (28, 8)):
        comb_ = torch.zeros(1, 1, side, side)
        comb_[..., ::stride, ::stride] = 1
        assert grid_energy(comb_, stride).item() == pytest.approx(1), "also where the stride does not divide the side"
    assert grid_energy(comb, 2).item() < 0.3
    assert grid_energy(torch.ones(1, 1, 12, 12), 3).item() == 0


@pytest.mark.parametrize(
    ("module", "convolution", "pooling"),
    [
        (nn.Conv2d(1, 2, 3), False, False),
        (nn.Conv2d(1, 2, 3, stride=(1, 2)), True, False),
        (nn.Conv2d(1, 2, 3, stride=[1, 1]), False, False),
        (nn.MaxPool2d(2), False, True),
        (nn.MaxPool2d(2, stride=1), False, False),
        (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 2), nn.AvgPool2d(2)), True, True),
    ],
)
def test_what_has_a_stride(module: nn.Module, convolution: bool, pooling: bool) -> None:
    image_1CHW = torch.rand(1, 1, 12, 12)
    assert (has_stride(module, image_1CHW), has_stride(module, image_1CHW, pooling=True)) == (convolution, pooling)


def test_rules_hold_within_their_block_only() -> None:
    images = torch.randn(1, 1, 9, 9, requires_grad=True)
    with pytest.raises(ZeroDivisionError), backward_rule("guided", "nearest"):
        raise ZeroDivisionError
    assert "ReluBackward" in type(functional.relu(images).grad_fn).__name__


def test_bad_input_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="rule must be one of gradient, deconvnet, guided, got 'lrp'"),
        backward_rule("lrp"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="resample must be one of nearest, none, got 'linear'"),
        backward_rule(resample="linear"),
    ):
        pass
    for stride in (1, 8):
        with pytest.raises(ValueError, match="stride must be from 2 to below the sides of the images, 8x9, got"):
            grid_energy(torch.zeros(1, 1, 8, 9), stride)


def test_the_options_name_what_the_method_knows() -> None:
    """The options are read without torch, and have the names in a list of their own."""
    assert (config.RULES, config.RESAMPLES, config.SEEDS) == (rules.RULES, rules.RESAMPLES, signals.SEEDS)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_parts_that_are_checkpointed_send_the_same_signals(reentrant: bool, activation: type[nn.Module]) -> None:
    class Checkpointed(nn.Module):
        def __init__(self, reentrant: bool | None) -> None:
            super().__init__()
            self.reentrant, self.head = reentrant, nn.Linear(128, 4)
            self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), activation(), nn.Conv2d(2, 2, 1), activation())

        def forward(self, images: Tensor) -> Tensor:
            plain = self.reentrant is None
            maps = self.body(images) if plain else checkpoint(self.body, images, use_reentrant=self.reentrant)
            return self.head(maps.flatten(1))

    plain, saving = Checkpointed(None).eval(), Checkpointed(reentrant).eval()
    saving.load_state_dict(plain.state_dict())
    images = torch.rand(3, 1, 8, 8)
    sites = [(("body.2", "body.3"), channel) for channel in (0, 1, 0)]
    for rule in RULES:
        expected, sight = (look(model, images, sites, rule=rule) for model in (plain, saving))
        torch.testing.assert_close(sight.signals_BCHW, expected.signals_BCHW, rtol=0, atol=0)
    saving(images.requires_grad_()).sum().backward()  # and it is checkpointed afterwards as before
    assert images.grad is not None


def test_tensors_that_a_network_keeps_from_other_passes_are_no_hindrance() -> None:
    class Keeping(nn.Module):
        kept: Tensor | None = None

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(72, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            if self.kept is None:
                self.kept = torch.ones_like(maps[:1]) * 2
            return self.head(torch.relu(maps * self.kept).flatten(1))

    model, images = Keeping().eval(), torch.rand(4, 1, 8, 8)
    filters = Filters.of(model, images[:1])
    model.kept = None  # what watching has kept is forgotten: the responses come first
    collect(filters, Split(images, torch.arange(4)))
    assert look(filters.model, images, [(("conv", filters.sites["conv"]), 0)] * 4, rule="guided").signals_BCHW.any()
