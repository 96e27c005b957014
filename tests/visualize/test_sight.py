"""What filters see: signals against each filter's own pass, receptive fields against occlusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import occluded
from torch import nn
from toys import Failing, Pooled, SmallResNet, Strided

from tipping.network import build
from tipping.visualize import look, receptive_fields
from tipping.visualize.receptive_field import spans
from tipping.visualize.rules import backward_rule


def keras() -> nn.Module:
    return build(
        {"_target_": "tipping.models.KerasCNN", "filters": 4, "depth": 3, "dropout": 0.5}, (1, 12, 12), 10, seed=0
    )


SITES = {"conv1": ("conv1", "relu1"), "conv3": ("conv3", "relu3"), "dense1": ("dense1", "dense1_relu")}
FILTERS = [(SITES["conv1"], 2), (SITES["conv3"], 0), (SITES["conv3"], 3), (SITES["dense1"], 5), (SITES["conv1"], 0)]


@pytest.mark.parametrize("seed", ["map", "maximum"])
@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
def test_each_image_gets_its_own_filter_s_signal(rule: str, seed: str) -> None:
    """Against a pass for each image, the network cut off at the filter's layer."""
    model = keras().eval()
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    sight = look(model, images, FILTERS, rule=rule, seed=seed)
    for row, ((_, module), channel) in enumerate(FILTERS):
        names = [name for name, _ in model.named_children()]
        cut = nn.Sequential(*list(model.children())[: names.index(module) + 1])
        image = images[row : row + 1].clone().requires_grad_()
        with backward_rule(rule):
            maps = cut(image)
        signal = torch.zeros_like(maps)
        mine = maps[0, channel].detach()
        if seed == "map" or mine.ndim == 0:
            signal[0, channel] = mine
        else:
            place = divmod(int(mine.argmax()), mine.shape[1])
            signal[0, channel][place] = mine[place]
        (expected,) = torch.autograd.grad(maps, image, signal)
        assert torch.allclose(sight.signals_BCHW[row], expected[0], rtol=1e-4, atol=1e-6)
        assert torch.allclose(sight.maps[row], mine.reshape(sight.maps[row].shape), atol=1e-6)
        assert sight.maps[row][sight.peaks[row]] == sight.maps[row].max()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_images_than_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = keras(), torch.rand(5, 1, 12, 12)
    at_once = look(model, images, FILTERS)
    monkeypatch.setattr("tipping.visualize.signals.TOGETHER", 2)
    few = look(model, images, FILTERS)
    assert torch.allclose(at_once.signals_BCHW, few.signals_BCHW, atol=1e-6)
    assert at_once.peaks == few.peaks


def test_a_dead_filter_leaves_its_image_black() -> None:
    model = keras()
    with torch.no_grad():
        model.conv3.weight[0], model.conv3.bias[0] = 0, -1
    sight = look(model, torch.rand(1, 1, 12, 12), [(SITES["conv3"], 0)], seed="maximum")
    assert torch.equal(sight.signals_BCHW, torch.zeros(1, 1, 12, 12))


@pytest.mark.parametrize(
    ("build", "site", "positions"),
    [
        (keras, ("conv3", "relu3"), [(0, 0), (5, 6), (11, 3)]),
        (Strided, ("0", "2"), [(0, 0), (3, 4)]),
        (Strided, ("6", "6"), [(0, 0)]),
        (Pooled, ("0", "3"), [(0, 0), (2, 1)]),
        (Pooled, ("4", "5"), [(0, 0), (1, 2)]),
        (SmallResNet, ("blocks.1.conv2", "blocks.1.conv2"), [(0, 0), (1, 2)]),
    ],
)
def test_receptive_fields_are_what_occlusion_shows(build, site, positions) -> None:
    torch.manual_seed(0)
    model = build().double().eval()
    image = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        model(image)
    for field, position in zip(receptive_fields(model, image, site, positions), positions, strict=True):
        assert (*field.rows, *field.columns) == occluded(model, site[1], image, position)


@pytest.mark.parametrize("side", [12, 28])
def test_spans_are_receptive_fields_whole_beyond_the_image(side: int) -> None:
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1))
    model, image = nn.Sequential(*layers), torch.zeros(1, 1, side, side)
    shape = tuple(model(image).shape[2:])
    rows, columns = spans(model, image, ("3", "3"), shape)
    assert rows == columns == (-5, 4, 13)  # of strides 2, 2, 1 and sides 3, 2, 3
    positions = [(p, p) for p in range(shape[0])]
    for (p, _), field in zip(positions, receptive_fields(model, image, ("3", "3"), positions), strict=True):
        assert field.rows == (max(0, 4 * p - 5), min(side, 4 * p + 8))
    assert spans(keras(), torch.zeros(1, 1, 12, 12), SITES["dense1"], (1, 1)) == ((0, 0, 12), (0, 0, 12))


def chain_of(rng: np.random.Generator) -> nn.Sequential:
    """Some convolutions and pooling of any shape."""
    layers: list[nn.Module] = []
    for _ in range(int(rng.integers(1, 5))):
        side, stride, dilation = (int(rng.integers(*ends)) for ends in ((1, 8), (1, 4), (1, 4)))
        padding = int(rng.integers(0, side // 2 + 2))
        if rng.random() < 0.3:
            layers.append(nn.MaxPool2d(side, stride, min(padding, side // 2), dilation))
        else:
            layers.append(nn.Conv2d(1, 1, side, stride, padding, dilation))
    return nn.Sequential(*layers)


def test_spans_hold_all_of_each_field(rng: np.random.Generator) -> None:
    """On random geometries, and on two that clipped fields once misled."""
    first = nn.Sequential(nn.Conv2d(1, 1, 3, stride=3, padding=1, dilation=2))
    second = nn.Sequential(
        nn.Conv2d(1, 1, 5, 2), nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1)
    )
    tried = whole = 0
    while tried < 150:
        model = (first, second)[tried] if tried < 2 else chain_of(rng)
        image = (
            torch.zeros(1, 1, *((8, 8), (28, 28))[tried]) if tried < 2 else torch.zeros(1, 1, *rng.integers(8, 33, 2))
        )
        try:
            shape = tuple(model(image).shape[2:])
        except RuntimeError:  # smaller than a kernel
            continue
        tried += 1
        last = str(len(model) - 1)
        rows, columns = spans(model, image, (last, last), shape)
        whole += rows.stride == 0
        positions = [(int(rng.integers(shape[0])), int(rng.integers(shape[1]))) for _ in range(3)]
        for (i, j), field in zip(positions, receptive_fields(model, image, (last, last), positions), strict=True):
            for span, p, start, end in ((rows, i, *field.rows), (columns, j, *field.columns)):
                assert span.start + span.stride * p <= start
                assert end <= span.start + span.stride * p + span.size
    assert tried - whole > 40, "and not always by the whole image, which many kernels here reach across"


def test_a_strided_network_is_resampled_in_eval_mode_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2), nn.ReLU())
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 10)).train()
    nn.init.constant_(model[3].bias, 1)  # so that the filter responds
    images = torch.rand(3, 1, 12, 12)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = look(model, images, [(("3", "4"), 1)] * 3, rule="gradient").signals_BCHW
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    inputs = images.clone().requires_grad_()
    with backward_rule(resample="nearest"):
        maps_NHW = model[:5](inputs)[:, 1]
    (expected,) = torch.autograd.grad(maps_NHW, inputs, maps_NHW.detach())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)
    plain = look(model, images, [(("3", "4"), 1)] * 3, rule="gradient", resample="none").signals_BCHW
    assert not torch.allclose(found, plain)


def test_the_largest_magnitude_counts_where_maps_have_signs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(9, 10))
    with torch.no_grad():
        model[0].weight[:] = -1
    image = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.9, 0.0], [0.0, 0.0, 0.0]])[None, None]
    sight = look(model, image, [(("0", "0"), 0)], rule="gradient", seed="maximum")
    assert sight.peaks == [(1, 1)]
    assert sight.signals_BCHW[0, 0, 1, 1].item() == pytest.approx(0.9)
    assert sight.signals_BCHW.count_nonzero() == 1


def test_also_within_inference_mode() -> None:
    model, images = keras(), torch.rand(1, 1, 12, 12)
    plain = look(model, images, [(SITES["conv3"], 1)]).signals_BCHW
    with torch.inference_mode():
        assert torch.equal(look(model, images.clone(), [(SITES["conv3"], 1)]).signals_BCHW, plain)
        (field,) = receptive_fields(model, images.clone(), SITES["conv3"], [(5, 5)])
        assert field.rows[1] - field.rows[0] == 7


def test_an_exception_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(*keras().children(), Failing()).train()
    with pytest.raises(ZeroDivisionError):
        look(model, torch.rand(1, 1, 12, 12), [(("0", "1"), 0)])
    with pytest.raises(ZeroDivisionError):
        receptive_fields(model, torch.rand(1, 1, 12, 12), ("0", "1"), [(0, 0)])
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    images = torch.rand(1, 1, 12, 12, requires_grad=True)
    assert "ReluBackward" in type(model[1](images).grad_fn).__name__


def test_a_dense_unit_sees_the_whole_image() -> None:
    (field,) = receptive_fields(keras(), torch.zeros(1, 1, 12, 12), SITES["dense1"], [(0, 0)])
    assert (field.rows, field.columns) == ((0, 12), (0, 12))


class WithSpare(nn.Module):
    """With a layer that its images do not pass."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.spare = keras(), nn.Conv2d(1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


def test_bad_input_is_refused() -> None:
    images = torch.rand(1, 1, 12, 12)
    for channel in (4, -1):
        with pytest.raises(ValueError, match=f"conv1 has 4 filters, no channel {channel}"):
            look(keras(), images, [(SITES["conv1"], channel)])
    with pytest.raises(ValueError, match="one filter for each image, got 1 and 2"):
        look(keras(), images, [(SITES["conv1"], 0)] * 2)
    with pytest.raises(ValueError, match="one filter for each image, got 0 and 0"):
        look(keras(), images[:0], [])
    with pytest.raises(ValueError, match="the network has no conv9"):
        look(keras(), images, [(("conv9", "relu9"), 0)])
    with pytest.raises(ValueError, match="spare is not on the way"):
        look(WithSpare(), images, [(("spare", "spare"), 0)])
    with pytest.raises(ValueError, match="seed must be one of map, maximum, got 'all'"):
        look(keras(), images, [(SITES["conv1"], 0)], seed="all")
