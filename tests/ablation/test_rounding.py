"""What rounding may do to many ablations at once: where it shows, the masked network decides."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from toy_graphs import narrowed_logits
from toys import filters_of

from tipping.ablation import ablated, evaluate_ablations
from tipping.ablation.channels import largest
from tipping.ablation.narrowing import Prefix
from tipping.data import Split
from tipping.network import build

pytestmark = pytest.mark.usefixtures("differences")


def test_ties_and_lost_digits_are_predicted_by_the_masked_network(split: Split) -> None:
    """All logits exactly 0; a filter beside which the others vanish; one whose maps are not finite."""
    options = {"_target_": "tipping.models.KerasCNN", "filters": 8, "depth": 2, "dropout": 0}
    for case in ("ties", "huge", "infinite"):
        model = build(options, (1, 8, 8), 10, seed=0).to(split.images_NCHW.device).eval()
        with torch.no_grad():
            if case == "ties":
                model.conv1.weight[3:] = -model.conv1.weight[3:].abs()  # dead filters
            else:
                model.conv1.weight[1] = {"huge": 1e5, "infinite": 3e38}[case]
        chosen = [np.array([0, 1, 2])] if case == "ties" else [np.array([1]), np.array([1, 9])]
        with torch.no_grad():
            for filters, predictions_N in zip(
                chosen, evaluate_ablations(filters_of(model), split, chosen), strict=True
            ):
                with ablated(filters_of(model), filters):
                    assert np.array_equal(predictions_N, model(split.images_NCHW).argmax(1).cpu())


def test_rounding_does_not_decide_between_tied_classes(
    model: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():  # classes 4 and 7 are one and the same, and always the largest
        model.dense3.weight[7] = model.dense3.weight[4]
        model.dense3.bias[[4, 7]] = 10
    logits = Prefix.logits
    noise = torch.zeros(10, device=split.images_NCHW.device)
    noise[7] = 1e-6  # what sums in another order may come to
    monkeypatch.setattr(Prefix, "logits", lambda *how: logits(*how) + noise)
    assert (evaluate_ablations(filters_of(model), split, [np.array([0]), np.array([3, 7])]) == 4).all()


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_channels_of_different_scale_keep_their_digits(scale: float, split: Split) -> None:
    """A filter that dwarfs the others in some channels, beside channels of its scale that normalisation evens out."""
    torch.manual_seed(0)
    layers = OrderedDict(conv1=nn.Conv2d(1, 6, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(6, 6, 3), norm=nn.BatchNorm2d(6))
    layers |= OrderedDict(relu2=nn.ReLU(), flatten=nn.Flatten(), dense=nn.Linear(96, 10))
    model = nn.Sequential(layers).eval().to(split.images_NCHW.device)
    model.sites = {"conv1": "relu1", "conv2": "relu2"}
    with torch.no_grad():
        model.conv1.weight.abs_()
        model.conv2.weight[:3, 0], model.conv2.weight[3:, 0] = scale, 0
        model.conv2.weight[3:] *= scale
        model.norm.running_var[3:] = scale**2
        logits = narrowed_logits(filters_of(model), np.array([0]), split.images_NCHW)
        exact = copy.deepcopy(model).double()
        with ablated(filters_of(exact), np.array([0])):
            expected = exact(split.images_NCHW.double())
    # float32 sums of some 50 numbers
    assert (logits.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_neither_autocast_nor_low_precision_products_reach_an_evaluation(model: nn.Module, split: Split) -> None:
    if split.images_NCHW.device.type == "card":
        pytest.skip("has no autocast")
    ablations = [np.array([0]), np.array([0, 7, 8, 13])]
    expected = evaluate_ablations(filters_of(model), split, ablations)
    seen = []
    model.conv1.register_forward_hook(
        lambda _, __, maps: seen.append((maps.dtype, torch.get_float32_matmul_precision()))
    )
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(split.images_NCHW.device.type, torch.bfloat16):
            assert np.array_equal(evaluate_ablations(filters_of(model), split, ablations), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {(torch.float32, "highest")}


@pytest.mark.parametrize(
    "layout",
    [
        lambda maps: maps,
        lambda maps: maps.contiguous(memory_format=torch.channels_last),
        lambda maps: maps[:, :, 1:, :-2],
        lambda maps: maps[:1],
        lambda maps: maps[:0],
        lambda maps: maps[:, :, 0, 0],
        lambda maps: maps[:, 0, 0].T,
        lambda maps: maps.transpose(0, 1),
    ],
)
def test_the_largest_magnitudes_are_found_in_any_layout(layout: Callable[[torch.Tensor], torch.Tensor]) -> None:
    maps = layout(torch.randn(6, 5, 7, 9, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(largest(maps), maps.abs().flatten(2).amax(2) if maps.ndim == 4 else maps.abs())


def test_a_dim_image_beside_a_bright_one_keeps_its_digits(split: Split) -> None:
    """The filter removed dwarfs the others in the dim images only: each image's own values decide what is lost."""
    torch.manual_seed(0)
    modules = (nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10))
    model = nn.Sequential(*modules).to(split.images_NCHW.device).eval()
    model.sites = {"0": "1", "2": "3"}
    images_NCHW = split.images_NCHW.clone()
    images_NCHW[::2] *= 1e5
    with torch.no_grad():
        model[0].weight[:, 0, 0, 0], model[0].bias[:] = torch.tensor([-1, 1, 0.7]), torch.tensor([1e5, 0.1, 0.9])
        logits = narrowed_logits(filters_of(model), np.array([0]), images_NCHW)
        exact = copy.deepcopy(model).double()
        with ablated(filters_of(exact), np.array([0])):
            expected = exact(images_NCHW.double())
    # float32 sums of some 400 numbers, in each image
    assert ((logits.double() - expected).abs().amax(1) <= 1e-5 * expected.abs().amax(1)).all()
