"""Networks that give more than logits: a dictionary, several, an object; the user's network is not changed."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from strangers import CLASSES, Own, state_of
from torch import Tensor, nn

import tipping
from tipping.network import logits_of

Heads = namedtuple("Heads", "logits aux")  # as of torchvision's GoogLeNet in training


@dataclass
class Output:
    """As of transformers' networks."""

    logits: Tensor
    maps: Tensor | None = None


GIVEN: dict[str, Callable[[Tensor], Any]] = {
    "a dictionary": lambda logits: {"features": logits * 2, "logits": logits},
    "an ordered one": lambda logits: OrderedDict(loss=None, logits=logits),
    "a tuple": lambda logits: (logits, logits * 2),
    "a list": lambda logits: [logits],
    "a named tuple": lambda logits: Heads(aux=logits * 2, logits=logits),
    "an object": lambda logits: Output(logits),
}


class Giving(Own):
    """Gives its logits and more."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, images: Tensor) -> Any:
        return self.give(super().forward(images))


class Deciding(Giving):
    """The same, which torch.fx cannot trace."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images if images.sum() > -1e9 else -images)


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(8, 2, 8, 8, generator=draw), torch.arange(8) % CLASSES) for _ in range(3)]


@pytest.mark.parametrize("kind", [Giving, Deciding])
@pytest.mark.parametrize("given", GIVEN)
def test_filters_are_those_of_the_network_that_gives_logits_alone(
    batches: list[tuple[Tensor, Tensor]], kind: type[Giving], given: str
) -> None:
    torch.manual_seed(0)
    model, plain = kind(GIVEN[given]).eval(), Own().eval()
    plain.load_state_dict(model.state_dict())
    before = state_of(model)
    relevant = [tipping.relevant_filters(network, batches, mu=5) for network in (model, plain)]
    theirs, ours = relevant
    assert theirs.filters.sites == ours.filters.sites == {"first": "relu_call1", "second": "relu_call2"}
    np.testing.assert_array_equal(theirs.selection.weights_RC, ours.selection.weights_RC)
    images = batches[0][0]
    gone = np.array([0, 7])
    with torch.no_grad(), tipping.ablated(theirs.filters, gone), tipping.ablated(ours.filters, gone):
        assert torch.equal(theirs.filters.model(images), ours.filters.model(images))
        with pytest.raises(tipping.InputError, match=r"calls activations as functions, or gives more than logits"):
            model(images)
    curves = [tipping.drop_curve(one, batches, points=2) for one in relevant]
    np.testing.assert_array_equal(curves[0].measured.predictions_OPN, curves[1].measured.predictions_OPN)
    assert state_of(model) == before


def test_modules_of_its_own_need_no_function() -> None:
    """Nothing is called as a function: the network runs as it is written, but for its output."""

    class Net(nn.Sequential):
        def forward(self, images: Tensor) -> Any:
            return {"logits": super().forward(images)}

    model = Net(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
    images = torch.rand(2, 1, 6, 6)
    filters = tipping.Filters.of(model, images[:1])
    assert (filters.given is model, filters.sites) == (True, {"0": "1"})
    assert torch.equal(filters.model(images), model(images)["logits"])
    model.forward = lambda images: (nn.Sequential.forward(model, images) * 2, None)  # type: ignore[method-assign]
    filters = tipping.Filters.of(model, images[:1])
    assert torch.equal(filters.model(images), model(images)[0])


def test_what_holds_no_logits_is_given_back() -> None:
    for given in ({"scores": 1}, [], (), None, "text"):
        assert logits_of(given) is given
