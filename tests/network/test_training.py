from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from oracles import accuracy
from torch import Tensor
from toys import filters_of

from tipping import data
from tipping.ablation import DropCurve, drop_curve
from tipping.data import Dataset
from tipping.errors import InputError
from tipping.experiment.callbacks import AccuracyDropCurve
from tipping.experiment.network import pick_device
from tipping.network import build
from tipping.network.training import evaluate, train

MODEL = {"_target_": "tipping.models.KerasCNN", "filters": 4, "depth": 2, "dropout": 0.5}


@pytest.fixture
def digits(device: torch.device) -> Dataset:
    return data.load("digits", device=device)


def trained(digits: Dataset, seed: int, epochs: int = 1, **options: float | str) -> torch.nn.Module:
    model = build(MODEL, digits.image_shape, 10, seed)
    settings = {"max_epochs": epochs, "batch_size": 64, "learning_rate": 1e-3, "precision": "float32", **options}
    train(model, digits, **settings, seed=seed)  # type: ignore[arg-type]
    return model


def test_training_learns_and_testing_counts_every_image(digits: Dataset) -> None:
    model = trained(digits, seed=0, epochs=5)
    assert evaluate(model, digits) == accuracy(model, digits.test)
    assert accuracy(model, digits.test) > 0.7  # chance is 0.1


def test_same_seed_same_weights_and_the_global_state_is_left_alone(digits: Dataset) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = trained(digits, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    two, other = trained(digits, seed=0), trained(digits, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.get_parameter("dense3.bias"), other.get_parameter("dense3.bias"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_curves_of_a_training_are_those_of_its_network_and_leave_it_alone(digits: Dataset) -> None:
    order_K = np.array([4, 0, 5])
    split = digits.test.spread(100)

    def measure(model: torch.nn.Module) -> DropCurve:
        return drop_curve(filters_of(model), split, order_K, [order_K[::-1].copy()], points=2)

    measured: dict[int, DropCurve] = {}
    callback = AccuracyDropCurve(measure, lambda curve, epoch: measured.update({epoch: curve}), every_n_epochs=2)
    model = build(MODEL, digits.image_shape, 10, seed=0)
    settings = {"max_epochs": 4, "batch_size": 64, "learning_rate": 1e-3}
    train(model, digits, **settings, seed=0, callbacks=[callback])
    assert list(measured) == [2, 4]
    assert measured[4] == drop_curve(filters_of(model), split, order_K, [order_K[::-1]], points=2)
    assert measured[2] != measured[4]
    plain = trained(digits, seed=0, epochs=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_training_that_diverges_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"trainer\.learning_rate=1e\+30"):
        trained(digits, seed=0, learning_rate=1e30)


def test_bf16_trains_other_weights_in_float32(digits: Dataset, device: torch.device) -> None:
    if device.type == "card":
        pytest.skip("has no autocast")
    model = trained(digits, seed=0, epochs=5, precision="bf16")
    assert accuracy(model, digits.test) > 0.7
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert not torch.equal(model.dense3.weight, trained(digits, seed=0, epochs=5).dense3.weight)


def test_tf32_is_refused_without_a_gpu(digits: Dataset) -> None:
    if digits.train.labels_N.is_cuda:
        assert accuracy(trained(digits, seed=0, epochs=5, precision="tf32"), digits.test) > 0.7
    else:
        with pytest.raises(InputError, match=r"trainer\.precision=tf32"):
            trained(digits, seed=0, precision="tf32")
    assert torch.get_float32_matmul_precision() == "highest"


class Heads(torch.nn.Module):
    """Gives the logits among others in training."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.head, self.aside, self.form = torch.nn.Linear(64, 10), torch.nn.Linear(64, 10), form

    def forward(self, images_NCHW: Tensor) -> object:
        pixels = images_NCHW.flatten(1)
        logits, others = self.head(pixels), self.aside(pixels)
        forms = {
            "alone": logits,
            "tuple": (logits, others),
            "list": [logits, others],
            "named": Named(others, logits),
            "dictionary": {"others": others, "logits": logits},
            "nothing": (),
            "a loss": {"loss": logits.sum()},
            "maps": images_NCHW,
        }
        return forms[self.form] if self.training else logits


class Named(NamedTuple):
    others: Tensor
    logits: Tensor


@pytest.mark.parametrize("form", ["tuple", "list", "named", "dictionary"])
def test_of_several_outputs_in_training_the_logits_are_trained(digits: Dataset, form: str) -> None:
    weights = []
    for one in (form, "alone"):
        model = build({"_target_": f"{__name__}.Heads", "form": one}, digits.image_shape, 10, seed=0)
        train(model, digits, max_epochs=1, batch_size=64, learning_rate=1e-3, seed=0)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("form", ["nothing", "a loss", "maps"])
def test_outputs_without_logits_in_training_are_refused(digits: Dataset, form: str) -> None:
    model = build({"_target_": f"{__name__}.Heads", "form": form}, digits.image_shape, 10, seed=0)
    with pytest.raises(InputError, match=r"Heads in training gives .+ without logits"):
        train(model, digits, max_epochs=1, batch_size=64, learning_rate=1e-3, seed=0)


class Normalised(torch.nn.Module):
    """Normalises maps of one pixel, or of more, over the batch."""

    def __init__(self, pixels: int, function: bool) -> None:
        super().__init__()
        self.pool, self.norm = torch.nn.AdaptiveAvgPool2d(pixels), torch.nn.BatchNorm2d(1)
        self.head, self.function = torch.nn.Linear(pixels**2, 10), function

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = self.pool(images_NCHW)
        if self.function:
            mean, var = self.norm.running_mean, self.norm.running_var
            maps = torch.nn.functional.batch_norm(maps, mean, var, training=self.training)
        else:
            maps = self.norm(maps)
        return self.head(maps.flatten(1))


def trained_on(digits: Dataset, count: int, *, pixels: int, function: bool = False, size: int = 8) -> torch.nn.Module:
    options = {"_target_": f"{__name__}.Normalised", "pixels": pixels, "function": function}
    model = build(options, digits.image_shape, 10, seed=0)
    dataset = replace(digits, train=digits.train[:count])
    train(model, dataset, max_epochs=3, batch_size=size, learning_rate=1e-3, seed=0)
    return model


@pytest.mark.parametrize("function", [False, True])
def test_a_last_image_that_cannot_be_normalised_by_itself_is_left_out(
    digits: Dataset, function: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        model = trained_on(digits, 17, pixels=1, function=function)
    assert "the last image of each epoch is left out" in caplog.text
    assert function or model.norm.num_batches_tracked == 3 * 2, "neither the one left out nor the trial is counted"
    caplog.clear()
    for count in (16, 18):
        trained_on(digits, count, pixels=1, function=function)
    assert "left out" not in caplog.text


def test_a_last_image_that_can_be_normalised_is_trained_on(digits: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        model = trained_on(digits, 17, pixels=2)
    assert "left out" not in caplog.text
    assert model.norm.num_batches_tracked == 3 * 3


def test_batches_of_one_image_that_cannot_be_normalised_are_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"trainer\.batch_size=1: "):
        trained_on(digits, 17, pixels=1, size=1)
    assert trained_on(digits, 17, pixels=2, size=1).norm.num_batches_tracked == 3 * 17


def test_a_missing_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert pick_device("cuda").type == pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(InputError, match="device=cuda"):
            pick_device("cuda")
    assert pick_device("cpu").type == "cpu"
