"""Many ablations at once against the same, one after another, with masks."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from running import options_of
from torch import nn
from toy_chains import Deciding, Parametrized
from toy_graphs import all_logits
from toys import filters_of, keras, keras_with_dense, matconvnet, pooled

from tipping.ablation import ablated, evaluate_ablations, evaluation
from tipping.ablation.engine import Engine
from tipping.ablation.narrowing import Prefix
from tipping.ablation.plan import Plan
from tipping.data import Split, evaluation_batches
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.files import digest
from tipping.network import build
from tipping.selection import collect, mean_activations

Build = Callable[[], nn.Module]
ABLATIONS = pytest.mark.parametrize(
    ("mean", "scope"),
    [(False, "filter"), (True, "filter"), (False, "first_input_channel")],
    ids=["zero", "mean", "first input channel"],
)
BUILDS = {"keras": keras, "dense": keras_with_dense, "matconvnet": matconvnet, "pooled": pooled}


def prepared(build: Build, device: torch.device) -> tuple[nn.Module, Split]:
    """A network with biases that are not zero, so that forgetting them shows, and 150 images."""
    torch.manual_seed(0)
    model = build().to(device).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2)
    side = 28 if build is matconvnet else 8
    return model, Split(torch.rand(150, 1, side, side).to(device), torch.randint(7, (150,)).to(device))


def samples(model: nn.Module, rng: np.random.Generator) -> list[np.ndarray]:
    """Nothing; one filter of each layer, all others of it, the whole layer; and mixtures of all layers."""
    layer_F = filters_of(model).index.layer_F
    chosen = [np.array([], dtype=int)]
    for layer in np.unique(layer_F):
        members = np.flatnonzero(layer_F == layer)
        chosen += [members[:1], members[1:], members]
    counts = [1, 2, len(layer_F) // 3, len(layer_F) // 2, 3 * len(layer_F) // 4]
    chosen += [rng.choice(len(layer_F), count, replace=False) for count in counts]
    return [*chosen, np.arange(len(layer_F))]


@ABLATIONS
@pytest.mark.parametrize("name", BUILDS)
def test_a_narrowed_pass_gives_the_logits_of_a_masked_one(
    name: str, mean: bool, scope: str, device: torch.device, rng: np.random.Generator
) -> None:
    model, split = prepared(BUILDS[name], device)
    value = mean_activations(filters_of(model), split) if mean else None
    chosen = samples(model, rng)
    with torch.no_grad():
        engine = Engine.tried(filters_of(model), split.images_NCHW[:1], value, scope)
        exact = copy.deepcopy(model).double()
        spread = exact(split.images_NCHW.double()).std()
        for filters, logits in zip(chosen, all_logits(engine, chosen, split.images_NCHW), strict=True):
            with ablated(filters_of(exact), filters, value=value, scope=scope):
                expected = exact(split.images_NCHW.double())
            # float32 sums of up to some thousand terms, beside the same in float64
            assert torch.allclose(logits.double(), expected, rtol=1e-5, atol=1e-5 * float(spread))


@ABLATIONS
@pytest.mark.parametrize("name", BUILDS)
def test_predictions_are_those_of_the_masked_network(
    name: str,
    mean: bool,
    scope: str,
    device: torch.device,
    rng: np.random.Generator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In several parts of the images, between which some of the narrowed networks are held and others made anew."""
    model, split = prepared(BUILDS[name], device)
    monkeypatch.setattr(evaluation, "SHARED", {})
    monkeypatch.setattr(evaluation, "HELD", {"cpu": 4 * sum(tensor.nbytes for tensor in model.parameters())})
    value = mean_activations(filters_of(model), split) if mean else None
    chosen = samples(model, rng)
    chosen += [chosen[1], chosen[5][::-1]]  # again, and in another order
    evaluation._say_once.cache_clear()
    predictions_AN = evaluate_ablations(filters_of(model), split, chosen, value=value, scope=scope)
    assert predictions_AN.dtype == np.uint8
    assert predictions_AN.shape == (len(chosen), 150)
    for filters, predictions_N in zip(chosen, predictions_AN, strict=True):
        with torch.no_grad(), ablated(filters_of(model), filters, value=value, scope=scope):
            assert np.array_equal(predictions_N, model(split.images_NCHW).argmax(1).cpu())
    assert not caplog.records, "none of these networks is masked"


def test_as_many_narrowed_networks_are_held_as_there_is_room_for(
    model: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    narrow = evaluation.Pass

    def counted(plan: Plan) -> evaluation.Pass:
        ((gone_C, _),) = next(iter(plan.ablation.replaced.values()))
        made.append(int(gone_C.nonzero()))
        return narrow(plan)

    monkeypatch.setattr(evaluation, "Pass", counted)
    monkeypatch.setattr(evaluation, "SHARED", {})
    monkeypatch.setattr(evaluation, "HELD", {"cpu": 2 * sum(tensor.nbytes for tensor in model.parameters()) + 1})
    evaluate_ablations(filters_of(model), split, [np.array([f]) for f in range(3)])
    parts = math.ceil(len(split) / evaluation_batches(split).size)
    assert [made.count(f) for f in range(3)] == ([1, 1, parts] if parts > 1 else [1, 1, 1])


def test_the_network_is_as_before_also_after_an_exception(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = prepared(pooled, device)
    model.train()
    model.norm1.eval()
    modes, state = [module.training for module in model.modules()], copy.deepcopy(model.state_dict())
    images = split.images_NCHW.clone()

    def unchanged() -> None:
        assert modes == [module.training for module in model.modules()]
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
        assert not any(module._forward_hooks for module in model.modules())
        assert torch.equal(images, split.images_NCHW)

    chosen = [np.array([0, 3, 7]), np.array([], dtype=int)]
    found = evaluate_ablations(filters_of(model), split, chosen)
    unchanged()
    assert np.array_equal(evaluate_ablations(filters_of(model.eval()), split, chosen), found), "always in eval mode"
    model.train()
    model.norm1.eval()
    monkeypatch.setattr(Prefix, "logits", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_ablations(filters_of(model), split, chosen)
    unchanged()


def test_a_first_module_may_work_in_place(split: Split) -> None:
    torch.manual_seed(0)
    layers = OrderedDict(clip=nn.Hardtanh(0, 0.5, inplace=True), conv=nn.Conv2d(1, 4, 3), relu=nn.ReLU(inplace=True))
    model = nn.Sequential(layers | OrderedDict(flatten=nn.Flatten(), dense=nn.Linear(144, 10)))
    model.sites, images = {"conv": "relu"}, split.images_NCHW.clone()
    model.to(images.device)
    evaluate_ablations(filters_of(model), split, [np.array([1]), np.arange(4)])
    assert collect(filters_of(model), split).gram_FF.shape == (4, 4)
    assert mean_activations(filters_of(model), split).shape == (4,)
    assert torch.equal(split.images_NCHW, images)


def test_a_network_must_give_logits(split: Split) -> None:
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 4, 3), relu=nn.ReLU())).to(split.images_NCHW.device)
    model.sites = {"conv": "relu"}
    with pytest.raises(ValueError, match=r"must give logits \(N, C\), got \(1, 4, 6, 6\)"):
        evaluate_ablations(filters_of(model), split, [np.array([0])])


def test_masks_are_not_taken_for_positions(model: nn.Module, split: Split) -> None:
    for filters in (np.arange(18) == 5, np.array([0.5])):
        with pytest.raises(ValueError, match="filters must be positions"):
            evaluate_ablations(filters_of(model), split, [filters])
        with pytest.raises(ValueError, match="filters must be positions"), ablated(filters_of(model), filters):
            pass


def test_the_first_input_channel_of_computed_weights_is_refused(split: Split) -> None:
    model = Parametrized().to(split.images_NCHW.device)
    with pytest.raises(ValueError, match="needs plain weights, not those of a ParametrizedConv2d"):
        evaluate_ablations(filters_of(model), split, [np.array([5])], scope="first_input_channel")


def test_more_than_256_classes_take_two_bytes(split: Split) -> None:
    options = {"_target_": "tipping.models.KerasCNN", "filters": 3, "depth": 1, "dropout": 0}
    model = build(options, (1, 8, 8), 300, seed=0).to(split.images_NCHW.device).eval()
    with torch.no_grad():
        model.dense3.bias[299] = 100
    assert evaluate_ablations(filters_of(model), split, [np.array([0])]).dtype == np.uint16
    assert (evaluate_ablations(filters_of(model), split, [np.array([0])]) == 299).all()


def test_intact_predictions_are_made_once(model: nn.Module, split: Split, tmp_path) -> None:
    store, options = Store(tmp_path), options_of()
    subject = Subject(filters_of(model), digest(model.state_dict()), options, split)
    expected = model(split.images_NCHW).argmax(1).cpu().numpy()
    assert np.array_equal(subject.intact(split, store), expected)
    with torch.no_grad():
        model.get_parameter("dense3.bias")[0] = 1e6
    assert np.array_equal(subject.intact(split, store), expected), "found in the store"
    assert not Subject(filters_of(model), digest(model.state_dict()), options, split).intact(split, store).any()
    assert subject.intact(split[:9], store).shape == (9,)


@pytest.mark.parametrize("scope", ["filter", "first_input_channel"])
def test_an_exception_beside_the_masked_network_leaves_it_as_before(
    scope: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while its traceback is still held, as in a notebook."""
    model = Deciding().eval().to(split.images_NCHW.device)
    before = copy.deepcopy(model.state_dict())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation.tqdm, "update", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:
        evaluate_ablations(filters_of(model), split, [np.array([1])], scope=scope)
    assert held.value.__traceback__
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
