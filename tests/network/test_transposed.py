"""Transposed convolutions, whose weights have their filters in the second dimension, and layers of other kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tipping.ablation import ablated, evaluate_ablations
from tipping.data import Split
from tipping.network import Filters, filters_in
from tipping.selection import Measure
from tipping.selection.responses import response_batches

DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 2, 6, 6, generator=DRAW, dtype=torch.float64)


class Up(nn.Module):
    """Down and up again, in groups, and a skip connection by concatenation."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=groups)
        self.norm, self.act, self.last, self.head = nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.norm(self.up(torch.relu(self.down(images)))))
        maps = torch.relu(self.last(torch.cat([maps, images], 1)))
        return self.head(maps.mean((2, 3)))


def prepared(groups: int) -> Up:
    torch.manual_seed(1)
    model = Up(groups).double().eval()
    nn.init.uniform_(model.norm.bias)
    return model


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_are_found_measured_and_ablated(groups: int) -> None:
    model = prepared(groups)
    filters = Filters.of(model, IMAGES[:1])
    assert filters.sites == {"down": "relu_call1", "up": "act", "last": "relu_call2"}
    assert np.bincount(filters.index.layer_F).tolist() == [6, 4, 5]
    row = filters.rows()[1]
    kind = "transposed convolution 2x2" + (" in 2 groups" if groups > 1 else "")
    assert list(row.values()) == ["up", kind, 4, "6x6", "act", "act", "after BatchNorm2d and ReLU"]
    with torch.no_grad():
        maps = model.act(model.norm(model.up(torch.relu(model.down(IMAGES)))))
        ((responses_NR, _),) = response_batches(filters, [(IMAGES, torch.zeros(6, dtype=torch.long))], Measure())
        norms = maps.square().sum((2, 3)).sqrt()
        torch.testing.assert_close(responses_NR[:, 6:10], norms / norms.sum(1, keepdim=True))
        maps[:, [1, 3]] = 0
        by_hand = model.head(torch.relu(model.last(torch.cat([maps, IMAGES], 1))).mean((2, 3)))
        with ablated(filters, np.array([7, 9])):
            torch.testing.assert_close(filters.model(IMAGES), by_hand)
    split = Split(IMAGES, torch.zeros(6, dtype=torch.long))
    (classes_N,) = evaluate_ablations(filters, split, [np.array([7, 9])])
    assert classes_N.tolist() == by_hand.argmax(1).tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_their_first_input_channel_is_that_of_their_group(groups: int) -> None:
    """The weights that stay are those by which the filter reads other channels: found by pushing one at a time."""
    model = prepared(groups)
    filters = Filters.of(model, IMAGES[:1])
    with torch.no_grad():
        model.up.bias.fill_(1)
        for f in range(4):
            first = (f // (4 // groups)) * (6 // groups)
            for channel in range(6):
                maps = torch.zeros(1, 6, 3, 3, dtype=torch.float64)
                maps[:, channel] = 1
                before = model.up(maps)[0]
                with ablated(filters, np.array([6 + f]), scope="first_input_channel"):
                    after = model.up(maps)[0]
                others = [other for other in range(4) if other != f]
                assert torch.equal(after[others], before[others])
                reads = bool((before[f] != 1).any())
                assert bool((after[f] != 0).any()) == (reads and channel != first), "its bias is gone too"


def test_filters_are_counted_by_their_outputs() -> None:
    layers = {nn.Conv2d(2, 5, 3): 5, nn.ConvTranspose2d(2, 6, 3, groups=2): 6, nn.Linear(3, 7): 7}
    assert [filters_in(layer) for layer in layers] == list(layers.values())


class Other(nn.Module):
    """A layer of another kind behind a convolution."""

    def __init__(self, layer: nn.Module, made: int) -> None:
        super().__init__()
        self.conv, self.layer, self.head = nn.Conv2d(2, 6, 3), layer, nn.Linear(made, 4)

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.relu(self.conv(images)).flatten(2)
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.head(self.layer(rows, rows, rows, need_weights=False)[0][:, -1])
        made = self.layer(rows)
        return self.head(made[0][:, -1] if isinstance(made, tuple) else made.mean(2))


@pytest.mark.parametrize(
    ("layer", "made"),
    [
        (nn.LSTM(16, 5, batch_first=True), 5),
        (nn.GRU(16, 5, batch_first=True), 5),
        (nn.RNN(16, 5, batch_first=True), 5),
        (nn.MultiheadAttention(16, 4, batch_first=True), 16),
        (nn.Conv1d(6, 5, 3), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_else_mixes_is_said(layer: nn.Module, made: int) -> None:
    filters = Filters.of(Other(layer, made).double().eval(), IMAGES[:1], dense=True)
    assert list(filters.sites) == ["conv"]
    assert filters.left_out["layer"] == "filters are looked for in nn.Conv2d, nn.ConvTranspose2d and nn.Linear only"
    assert filters.proof is not None
    assert filters.proof.remarks[0].startswith("layer")
