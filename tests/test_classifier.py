from __future__ import annotations

import pytest
import torch

from tipping import config, data, models
from tipping.classifier import accuracy, evaluate, pick_device, train
from tipping.config import InputError
from tipping.data import Dataset

MODEL = {"_target_": "tipping.models.KerasCNN", "filters": 4, "depth": 2, "dropout": 0.5}


@pytest.fixture
def digits(device: torch.device) -> Dataset:
    return data.load(config.Data("digits", None)).to(device)


def trained(digits: Dataset, seed: int, epochs: int = 1, **options: float) -> torch.nn.Module:
    model = models.build(MODEL, digits.image_shape, data.CLASSES, seed)
    settings = {"max_epochs": epochs, "batch_size": 64, "learning_rate": 1e-3, **options}
    train(model, digits, config.Trainer(**settings), seed)  # type: ignore[arg-type]
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


def test_a_training_that_diverges_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"trainer\.learning_rate=1e\+30"):
        trained(digits, seed=0, learning_rate=1e30)


def test_a_missing_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert pick_device("cuda").type == pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(InputError, match="device=cuda"):
            pick_device("cuda")
    assert pick_device("cpu").type == "cpu"
