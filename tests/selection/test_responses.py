from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import slow_responses
from running import options_of
from torch import nn
from toys import filters_of

from tipping.data import Split
from tipping.errors import InputError
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.files import digest
from tipping.mu_lasso import MuLassoProblem
from tipping.network import Filters
from tipping.selection import Measure, collect, response_batches
from tipping.selection.responses import normalize, recorded


def test_gram_is_that_of_the_slow_responses(model: nn.Module, split: Split) -> None:
    problem = collect(filters_of(model), split)
    model.double().cpu()
    with torch.no_grad():
        responses_NF = slow_responses(model, split.images_NCHW.cpu())
    onehot_NC = np.eye(10)[split.labels_N.cpu()]
    # the network runs in float32: relative errors of some 1e-6
    assert np.allclose(problem.gram_FF.cpu(), responses_NF.T @ responses_NF, rtol=1e-5)
    assert np.allclose(problem.cross_FC.cpu(), responses_NF.T @ onehot_NC, rtol=1e-5)
    assert np.array_equal(problem.label_sq_C.cpu(), onehot_NC.sum(0))
    assert problem.gram_FF.dtype == torch.float64


def test_responses_are_never_held_whole(model: nn.Module, split: Split) -> None:
    threefold = Split(split.images_NCHW.repeat(3, 1, 1, 1), split.labels_N.repeat(3))
    with torch.no_grad():
        rows = [len(responses_NF) for responses_NF, _ in response_batches(filters_of(model), threefold)]
    assert sum(rows) == 2100
    assert max(rows) <= 1000


def test_what_follows_the_last_map_is_not_computed(
    model: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    dense = nn.Linear.forward

    def counting(module: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        passes.append(len(inputs))
        return dense(module, inputs)

    monkeypatch.setattr(nn.Linear, "forward", counting)  # all filters lie before the dense layers
    short = collect(filters_of(model), split)
    assert passes in ([], [1] * 3), "but for an image on which the part is tried"
    collect(filters_of(model), split, Measure(labels="predicted"))
    assert max(passes) > 1
    with recorded(model, filters_of(model).maps):  # with hooks, it is not cut
        whole = collect(filters_of(model), split)
    assert torch.equal(short.gram_FF, whole.gram_FF)
    assert torch.equal(short.cross_FC, whole.cross_FC)


def test_places_of_any_network_can_be_measured(split: Split) -> None:
    """With a container among the places, and with dense units, beside a pass that is not cut."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 4, 3, groups=1), nn.PReLU(4))
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 10)).eval()
    model.to(split.images_NCHW.device)
    for maps in ((("0.0", "0.1"),), (("0.0", "0"),), (("0.0", "0.1"), ("2", "3")), (("2", "2"),)):
        filters = Filters.at(model, dict(maps), classes=10)
        assert filters.maps == maps
        short = collect(filters, split)
        with recorded(model, maps):  # with hooks, all of it runs
            assert torch.equal(collect(filters, split).gram_FF, short.gram_FF)


def test_each_layer_of_each_image_sums_to_one() -> None:
    norms_NF = torch.rand(5, 7)
    assert torch.allclose(normalize(norms_NF).sum(1), torch.ones(5, dtype=torch.float64))


def test_an_all_zero_layer_stays_zero_and_a_dead_filter_is_found(model: nn.Module, split: Split) -> None:
    with torch.no_grad():
        model.get_parameter("conv2.weight").zero_()
        model.get_parameter("conv2.bias").fill_(-1)  # a dead layer
        model.get_parameter("conv1.bias")[3] = -100  # a dead filter
    problem = collect(filters_of(model), split)
    assert problem.gram_FF.isfinite().all()
    assert np.flatnonzero(problem.dead_F()).tolist() == [3, *range(6, 12)]


def test_hooks_are_gone_after_an_exception(model: nn.Module) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), recorded(model, filters_of(model).maps):
        raise RuntimeError("on purpose")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_diverged_network_is_refused(model: nn.Module, split: Split) -> None:
    with torch.no_grad():
        model.get_parameter("conv1.weight").fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        collect(filters_of(model), split)


def test_other_weights_or_images_are_other_responses(model: nn.Module, split: Split, tmp_path) -> None:
    store = Store(tmp_path)

    def collected(split: Split) -> tuple[MuLassoProblem, bool]:
        problem, item = Subject(filters_of(model), digest(model.state_dict()), options_of(), split).responses(store)
        return problem, item.existed

    (first, made), (again, found) = collected(split), collected(split)
    assert (made, found) == (False, True)
    assert torch.equal(first.gram_FF, again.gram_FF)
    with torch.no_grad():
        model.get_parameter("conv1.weight")[0, 0, 0, 0] += 0.1
    assert not collected(split)[1]
    assert not collected(split[:-1])[1]
