"""Many ablations at once against the same, one after another, with masks."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import accuracy, filters_of, options_of
from test_ablation import without
from test_chain import Parametrized, Skipping
from torch import nn

from tipping.ablation import DropCurve, ablated, accuracies, drop_curve, evaluate_ablations, evaluation
from tipping.ablation.masks import gone_channels, layer_values
from tipping.ablation.narrowing import Pass, Prefix, _largest, without_first_input
from tipping.ablation.narrowing import without as narrowed
from tipping.data import Dataset, Split, evaluation_batches
from tipping.experiment.callbacks import AccuracyDropCurve
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.files import digest
from tipping.network import Chain, build
from tipping.network.training import evaluate
from tipping.selection import Candidates, Draws, collect, controls, mean_activations

Build = Callable[[], nn.Module]


def keras() -> nn.Module:
    return build(
        {"_target_": "tipping.models.KerasCNN", "filters": 6, "depth": 3, "dropout": 0.5}, (1, 8, 8), 10, seed=0
    )


def keras_with_dense() -> nn.Module:
    """Units of its dense layers count as filters too."""
    model = keras()
    model.sites = {**filters_of(model).sites, "dense1": "dense1_relu", "dense2": "dense2_relu"}
    return model


def matconvnet() -> nn.Module:
    return build({"_target_": "tipping.models.MatConvNet"}, (1, 28, 28), 10, seed=0)


def pooled() -> nn.Module:
    """Everything between two convolutions that is allowed there: normalisation before and after the activation, an
    activation that makes zero something else, padded average pooling, a stride, dilation, other padding modes."""
    layers = OrderedDict(
        conv1=nn.Conv2d(1, 5, 3, padding=1, padding_mode="reflect"),
        norm1=nn.BatchNorm2d(5),
        act1=nn.Sigmoid(),
        after1=nn.BatchNorm2d(5),
        pool1=nn.AvgPool2d(3, stride=1, padding=1),
        conv2=nn.Conv2d(5, 4, 3, padding=2, dilation=2, stride=2, bias=False),
        act2=nn.LeakyReLU(inplace=True),
        drop=nn.Dropout2d(),
        conv3=nn.Conv2d(4, 6, 3, padding=1),
        act3=nn.ReLU(inplace=True),
        pool3=nn.MaxPool2d(2),
        squash=nn.Tanh(),
        flatten=nn.Flatten(),
        dense=nn.Linear(24, 7),
        softer=nn.ELU(inplace=True),
    )
    model = nn.Sequential(layers)
    model.sites = {"conv1": "act1", "conv2": "conv2", "conv3": "act3"}
    for name, tensor in model.state_dict().items():
        if name.startswith(("norm", "after")) and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model


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
        chain, values = Chain.of(filters_of(model), split.images_NCHW[:1]), layer_values(filters_of(model), value)
        exact = copy.deepcopy(model).double()
        spread = exact(split.images_NCHW.double()).std()
        for filters in chosen:
            gone = gone_channels(filters_of(model), filters)
            left = narrowed(chain, gone, values) if scope == "filter" else without_first_input(chain, gone)
            logits = Prefix(chain, split.images_NCHW).finish(left)
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

    def counted(chain: Chain, gone: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> Pass:
        made.append(int(gone["conv1"].nonzero()))
        return narrowed(chain, gone, values)

    monkeypatch.setattr(evaluation, "without", counted)
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
    monkeypatch.setattr(Prefix, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_ablations(filters_of(model), split, chosen)
    unchanged()


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
    finish = Prefix.finish
    noise = torch.zeros(10, device=split.images_NCHW.device)
    noise[7] = 1e-6  # what sums in another order may come to
    monkeypatch.setattr(Prefix, "finish", lambda prefix, narrow: finish(prefix, narrow) + noise)
    assert (evaluate_ablations(filters_of(model), split, [np.array([0]), np.array([3, 7])]) == 4).all()


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


def teacher(model: nn.Module, split: Split) -> Split:
    """The images labelled by the network itself, so that accuracy starts at 1 and ablation shows."""
    return Split(split.images_NCHW, model(split.images_NCHW).argmax(1))


def test_drop_curve_is_the_accuracy_of_each_prefix(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    order_K, rest = np.array([6, 0, 13, 7, 1, 8, 14]), np.zeros(18)
    candidates = Candidates(filters_of(model).index.layer_F, rest > 0, rest, rest, rest == 0)
    drawn = controls(order_K, candidates, 1.0, Draws(2))
    curve = drop_curve(filters_of(model), split, order_K, drawn, points=4)
    assert curve.removed == [0, 2, 4, 5, 7]
    assert curve.selected[0] == 1
    assert curve.selected[-1] < 0.9
    orders, lines = [order_K, order_K[::-1], *drawn], [curve.selected, curve.weakest, *curve.random]
    for order, line, predictions_PN in zip(orders, lines, curve.predictions_OPN, strict=True):
        assert line == accuracies(predictions_PN, split.labels_N)
        for count, value in zip(curve.removed, line, strict=True):
            assert value == accuracy(without(model, order[:count].tolist()), split)


def test_the_ends_of_a_curve_are_had_from_predictions_at_hand(model: nn.Module, split: Split) -> None:
    order_K, drawn = np.array([4, 0, 9]), [np.array([1, 2, 12]), np.array([5, 0, 8])]
    intact_N, *without = evaluate_ablations(filters_of(model), split, [np.array([], dtype=int), order_K, *drawn])
    found = DropCurve.of_ends(intact_N, np.array(without), split.labels_N, len(order_K))
    measured = drop_curve(filters_of(model), split, order_K, drawn, points=1)
    assert found == measured
    assert np.array_equal(found.predictions_OPN, measured.predictions_OPN)


def test_a_curve_without_relevant_filters_is_one_point(model: nn.Module, split: Split) -> None:
    nothing = np.array([], dtype=int)
    curve = drop_curve(filters_of(model), split, nothing, [nothing], points=4)
    assert (curve.removed, len(curve.selected), len(curve.random[0])) == ([0], 1, 1)
    assert curve.selected == [accuracy(model, split)]


def test_the_callback_draws_the_curve_at_the_end_of_a_test(model: nn.Module, split: Split) -> None:
    split = teacher(model, split)
    order_K = np.array([6, 0, 13])
    measured: dict[int, DropCurve] = {}
    callback = AccuracyDropCurve(
        lambda model: drop_curve(filters_of(model), split, order_K, [order_K[::-1].copy()], points=3),
        lambda curve, epoch: measured.update({epoch: curve}),
    )
    assert evaluate(model, Dataset("teacher", split, split), callbacks=[callback]) == 1
    assert measured == {0: drop_curve(filters_of(model), split, order_K, [order_K[::-1]], 3)}


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
        narrow = narrowed(
            chain := Chain.of(filters_of(model), split.images_NCHW[:1]),
            gone_channels(filters_of(model), np.array([0])),
            layer_values(filters_of(model), None),
        )
        logits = Prefix(chain, split.images_NCHW).finish(narrow)
        exact = copy.deepcopy(model).double()
        with ablated(filters_of(exact), np.array([0])):
            expected = exact(split.images_NCHW.double())
    # float32 sums of some 50 numbers
    assert (logits.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("scope", ["filter", "first_input_channel"])
def test_an_exception_beside_the_masked_network_leaves_it_as_before(
    scope: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while its traceback is still held, as in a notebook."""
    model = Skipping().eval().to(split.images_NCHW.device)
    before = copy.deepcopy(model.state_dict())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation.tqdm, "update", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:
        evaluate_ablations(filters_of(model), split, [np.array([1])], scope=scope)
    assert held.value.__traceback__
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


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
    assert torch.equal(_largest(maps), maps.abs().flatten(2).amax(2) if maps.ndim == 4 else maps.abs())


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
        narrow = narrowed(
            chain := Chain.of(filters_of(model), images_NCHW[:1]),
            gone_channels(filters_of(model), np.array([0])),
            layer_values(filters_of(model), None),
        )
        logits = Prefix(chain, images_NCHW).finish(narrow)
        exact = copy.deepcopy(model).double()
        with ablated(filters_of(exact), np.array([0])):
            expected = exact(images_NCHW.double())
    # float32 sums of some 400 numbers, in each image
    assert ((logits.double() - expected).abs().amax(1) <= 1e-5 * expected.abs().amax(1)).all()
