"""Networks as their classes make them: lazy, quantised, with weights of five dimensions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tipping.errors import InputError
from tipping.network import build, layers_to_randomize, load_checkpoint, randomize

SHAPE = (1, 8, 8)


def built(name: str, seed: int = 0) -> nn.Module:
    return build({"_target_": f"{__name__}.{name}", "name": "own"}, SHAPE, 10, seed)


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


class LazyAside(nn.Module):
    """A part of it sees images in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.aside = nn.Linear(64, 10), nn.LazyLinear(10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(images.flatten(1))
        return logits + self.aside(images.flatten(1)) if self.training else logits


class Experts(nn.Module):
    """Mixes convolutions, whose weights are one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(6, 10)
        self.experts, self.route = nn.Parameter(torch.randn(3, 6, 6, 3, 3)), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images).relu()
        share_NE = self.route(maps.mean((2, 3))).softmax(1)
        each = torch.stack([functional.conv2d(maps, weight) for weight in self.experts], 1)
        return self.head(torch.einsum("ne,enf->nf", share_NE, each.mean((3, 4)).transpose(0, 1)))


class Quantised(nn.Sequential):
    def __init__(self) -> None:
        head = torch.ao.nn.quantized.dynamic.Linear(216, 10)
        super().__init__(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), head)


class Sparse(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
        self.register_buffer("graph", torch.ones(1, 1, 2, 2).to_sparse())


def test_lazy_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    one = built("Lazy")
    torch.manual_seed(2)
    two, other = built("Lazy"), built("Lazy", seed=1)
    assert _same(one, two)
    assert not _same(one, other)
    assert torch.equal(one[1].running_mean, torch.zeros(6)), "it has learned nothing of the image it was tried on"


def test_networks_that_are_not_lazy_draw_what_they_drew() -> None:
    torch.manual_seed(3)
    expected = Experts()
    assert _same(built("Experts", seed=3), expected)


def test_a_lazy_part_that_sees_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"model=own: no image reaches aside\.weight"):
        built("LazyAside")


def test_weights_of_five_dimensions_are_left_as_they_are(tmp_path: Path) -> None:
    model, images, path = built("Experts"), torch.rand(3, *SHAPE), tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    other = built("Experts", seed=1)
    load_checkpoint(other, str(path))
    assert torch.equal(other(images), model(images))
    assert randomize(other, layers_to_randomize(other, "all", images[:1]), built("Experts", seed=2))


@pytest.mark.filterwarnings("ignore")  # torch moves quantisation to another package
@pytest.mark.parametrize(("name", "tensor"), [("Quantised", r"3\._packed_params\.\w+"), ("Sparse", "graph")])
def test_what_is_no_plain_tensor_is_refused(name: str, tensor: str) -> None:
    with pytest.raises(InputError, match=f"model=own: its {tensor} is quantised, sparse, or no tensor"):
        built(name)


def _same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
