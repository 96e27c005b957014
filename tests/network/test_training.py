from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import accuracy
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
    model = build(MODEL, digits.image_shape, data.CLASSES, seed)
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
    model = build(MODEL, digits.image_shape, data.CLASSES, seed=0)
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


def test_a_missing_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert pick_device("cuda").type == pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(InputError, match="device=cuda"):
            pick_device("cuda")
    assert pick_device("cpu").type == "cpu"
