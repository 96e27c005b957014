"""How responses are measured and labelled, by the definition of each axis of a protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toys import filters_of

from tipping.data import Split
from tipping.network import Filters
from tipping.selection import Measure, collect, responses
from tipping.selection.responses import NORMS, normalize


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7), (7, 4), (1, 1), (1, 6)])
def test_norms_are_numpys(height: int, width: int, device: torch.device) -> None:
    maps = torch.rand(6, 3, height, width, generator=torch.Generator().manual_seed(0)) - 0.3
    maps[2, 1] = 0
    for layout in (torch.contiguous_format, torch.channels_last):
        given = maps.to(device).contiguous(memory_format=layout)
        expected = {norm: np.linalg.norm(maps.double().numpy(), norm, (2, 3)) for norm in ("fro", 2)}
        # float32 rounds sums of some 50 numbers, and eigenvalues, to a few 1e-7
        assert np.allclose(NORMS["frobenius"](given).cpu(), expected["fro"], rtol=1e-5)
        assert np.allclose(NORMS["squared"](given).cpu(), expected["fro"] ** 2, rtol=1e-5)
        assert np.allclose(NORMS["spectral"](given).cpu(), expected[2], rtol=1e-5, atol=1e-7)


def test_norms_of_dense_units_are_their_size() -> None:
    units = torch.tensor([[-2.0, 0.5], [0.0, 3.0]])
    assert NORMS["frobenius"](units).tolist() == NORMS["spectral"](units).tolist() == [[2, 0.5], [0, 3]]
    assert NORMS["squared"](units).tolist() == [[4, 0.25], [0, 9]]


def test_the_largest_singular_values_are_found_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's library takes no more than some 32,000 matrices at once."""
    maps, few = torch.rand(5, 7, 4, 6, generator=torch.Generator().manual_seed(0)), []
    expected = torch.linalg.svdvals(maps)[..., 0]
    eigvalsh = torch.linalg.eigvalsh
    monkeypatch.setattr(responses, "EIGEN", 8)
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda part: few.append(len(part)) or eigvalsh(part))
    assert torch.allclose(NORMS["spectral"](maps), expected, rtol=1e-5)
    assert few == [8, 8, 8, 8, 3]
    assert torch.allclose(NORMS["spectral"](maps[:, :, :1]), torch.linalg.svdvals(maps[:, :, :1])[..., 0], rtol=1e-6)
    assert len(few) == 5, "a single row needs none"


def test_all_maps_and_dense_units_are_measured_where_they_are(model: nn.Module, split: Split) -> None:
    filters = Filters.of(model, split[:1].images_NCHW, maps="all", dense=True)
    problem = collect(filters, split, Measure("squared"))
    maps, places = split.images_NCHW, []
    with torch.no_grad():
        for name, module in model.named_children():
            maps = module(maps)
            if name.startswith(("conv", "relu", "dense1", "dense2")):
                places.append(normalize(maps.double().square().flatten(2).sum(2) if maps.ndim > 2 else maps.square()))
    responses_NR = torch.cat(places, 1)
    assert responses_NR.shape[1] == len(filters.filter_R) == 2 * (18 + 256)
    assert torch.allclose(problem.gram_FF, responses_NR.T @ responses_NR, rtol=1e-4, atol=1e-9)


def test_labels_are_the_network_s_predictions_or_permuted(model: nn.Module, split: Split) -> None:
    with torch.no_grad():
        predicted_N = model(split.images_NCHW).argmax(1)
    true = collect(filters_of(model), split)
    by_hand = collect(filters_of(model), Split(split.images_NCHW, predicted_N))
    assert not torch.equal(predicted_N, split.labels_N)
    predicted = collect(filters_of(model), split, Measure(labels="predicted"))
    assert torch.equal(predicted.cross_FC, by_hand.cross_FC)
    permuted, other = (collect(filters_of(model), split, Measure(labels="permuted", seed=seed)) for seed in (0, 1))
    assert torch.equal(permuted.label_sq_C, true.label_sq_C), "as many images of each class"
    assert torch.allclose(permuted.cross_FC.sum(1), true.cross_FC.sum(1))
    assert not torch.allclose(permuted.cross_FC, true.cross_FC)
    assert not torch.allclose(permuted.cross_FC, other.cross_FC)
    assert torch.equal(
        permuted.cross_FC, collect(filters_of(model), split, Measure(labels="permuted", seed=0)).cross_FC
    )


@pytest.mark.parametrize("norm", ["frobenius", "squared", "spectral"])
def test_raw_responses_are_the_norms_themselves(model: nn.Module, split: Split, norm: str) -> None:
    places, maps = [], split.images_NCHW
    with torch.no_grad():
        for name, module in model.named_children():
            maps = module(maps)
            if name.startswith("relu"):
                places.append(NORMS[norm](maps).double())
    responses_NR, onehot_NC = torch.cat(places, 1), nn.functional.one_hot(split.labels_N).double()
    problem = collect(filters_of(model), split, Measure(norm, scale="raw"))
    assert torch.allclose(problem.gram_FF, responses_NR.T @ responses_NR, rtol=1e-5)
    assert torch.allclose(problem.cross_FC[:, : onehot_NC.shape[1]], responses_NR.T @ onehot_NC, rtol=1e-5)
    assert not torch.allclose(problem.gram_FF, collect(filters_of(model), split, Measure(norm)).gram_FF, rtol=0.1)


def test_the_store_keeps_raw_responses_apart_and_others_where_they_were(model: nn.Module) -> None:
    filters = filters_of(model)
    assert "scale" not in Measure().recipe(filters)
    assert Measure(scale="raw").recipe(filters) == {**Measure().recipe(filters), "scale": "raw"}
