"""Pictures of relevant filters against brute force, and as a user gets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from oracles import accuracy, without
from running import ROOT
from scipy.stats import spearmanr
from torch import nn

from tipping import data
from tipping.data import Split
from tipping.experiment.config import Config, parse
from tipping.experiment.pictures import check_pictures, compare_signals, draw_subject
from tipping.experiment.store import Store
from tipping.experiment.subject import Subject
from tipping.network import build
from tipping.network.training import train
from tipping.selection import Selection, response_batches
from tipping.visualize import Explanation, Portrait, backward_rule
from tipping.visualize import explanations as explain_images
from tipping.visualize import portraits as portraits_of
from tipping.visualize.gallery import Strongest, drawn_classes, strongest_of_each_class
from tipping.visualize.reasons import contributions
from tipping.visualize.side_by_side import similarity

OPTIONS = ("data=digits", "mu=3", "model.filters=4", "model.depth=3", "trainer.max_epochs=3", "visualize.images=3")


def options(*more: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(compose("config", [*OPTIONS, *more]))


@pytest.fixture(scope="module")
def trained() -> Callable[..., tuple[Subject, Selection]]:
    """The digits' network under some options."""
    plain = options()
    dataset = data.load(plain.data.name, plain.data.root)
    model = build(plain.model, dataset.image_shape, len(dataset.classes), seed=0)
    train(model, dataset, **asdict(plain.trainer), seed=0)

    def under(*more: str) -> tuple[Subject, Selection]:
        subject = Subject.from_options(model, dataset, options(*more))
        return subject, subject.select(subject.fresh_responses())

    return under


@torch.no_grad()
def responses_to(subject: Subject, split: Split) -> np.ndarray:
    return torch.cat([part for part, _ in response_batches(subject.filters, split, subject.measure)]).numpy()


def portraits(subject: Subject, selection: Selection, evaluated: Split) -> list[Portrait]:
    best, few = subject.strongest(3), subject.options.visualize.filters_per_class
    return portraits_of(
        subject.filters, selection, subject.train, best, evaluated, subject.backward, few, **subject.manner()
    )


def explain(subject: Subject, selection: Selection, images: Split) -> list[Explanation]:
    return explain_images(subject.filters, selection, images, subject.measure, subject.backward)


def test_strongest_images_are_those_of_all_sorted(rng: np.random.Generator) -> None:
    responses_NR = rng.integers(0, 9, (50, 7)).astype(float)  # with ties: the first images
    few, all_ = Strongest(5), Strongest(100)
    for part in np.split(responses_NR, [3, 20, 21]):
        few.add(torch.from_numpy(part))
        all_.add(torch.from_numpy(part))
    images_KR, values_KR = few.on_cpu()
    expected_KR = np.argsort(-responses_NR, axis=0, kind="stable")[:5]
    assert np.array_equal(images_KR.numpy(), expected_KR)
    assert np.array_equal(values_KR.numpy(), np.take_along_axis(responses_NR, expected_KR, 0))
    assert len(all_.on_cpu()[0]) == 50


@pytest.mark.parametrize("labels", ["true", "predicted", "permuted"])
def test_strongest_images_are_found_while_responses_are_measured(trained, tmp_path: Path, labels: str) -> None:
    subject, _ = trained(f"protocol.labels={labels}")
    problem, item = subject.responses(Store(tmp_path))
    assert not item.existed
    plain = subject.fresh_responses()
    assert torch.equal(problem.gram_FF, plain.gram_FF)
    assert torch.equal(problem.cross_FC, plain.cross_FC)
    images_KR, values_KR = subject.strongest(7)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tipping.experiment.subject.strongest_images", None)  # not called
        found = subject.strongest(7, Store(tmp_path))
    assert torch.equal(found[0], images_KR)
    assert torch.equal(found[1], values_KR)
    without, _ = trained(f"protocol.labels={labels}", "visualize=off")
    without.responses(Store(tmp_path / "off"))
    assert not (tmp_path / "off" / "strongest").exists()


def test_the_strongest_of_each_class_are_its_largest_weights() -> None:
    weights_RC = np.array([[0, 1.0, 0], [-3, 0, 0], [2, 0.5, 0], [1, 0, 0]])
    assert strongest_of_each_class(weights_RC, 2) == [(0, 1), (0, 2), (1, 0), (1, 2)]


def test_of_many_classes_those_with_most_relevant_filters_are_drawn(rng: np.random.Generator) -> None:
    weights_RC = rng.normal(size=(12, 100)) * (rng.random((12, 100)) < 0.4)
    weights_RC[:, ::7] = 0
    counts = {label: np.count_nonzero(weights_RC[:, label]) for label in range(100)}
    by_count = sorted(range(100), key=lambda label: (-counts[label], label))
    assert drawn_classes(weights_RC) == sorted(by_count[:20])
    pairs = strongest_of_each_class(weights_RC, 3)
    assert list(dict.fromkeys(label for label, _ in pairs)) == sorted(by_count[:20])
    few = weights_RC[:, :20]
    assert drawn_classes(few) == [label for label in range(20) if few[:, label].any()]


def test_classes_that_are_left_out_are_named(trained, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    subject, selection = trained("visualize.filters_per_class=1")
    monkeypatch.setattr("tipping.visualize.gallery.drawn_classes.__defaults__", (3,))
    few, names = subject.train[:50], [f"digit {label}" for label in range(10)]
    with caplog.at_level("INFO", "tipping"):
        drawn = draw_subject(subject, selection, few, few[:1], names)
    shown = [name for name in drawn if name.startswith("class_")]
    assert len(shown) == 3
    (line,) = (record.getMessage() for record in caplog.records if "left out" in record.getMessage())
    relevant = np.flatnonzero(selection.weights_RC.any(0)).tolist()
    others = [names[label] for label in relevant if f"class_{label}" not in shown]
    assert line.endswith(f"left out: {', '.join(others)}")
    assert all(drawn[name].caption.startswith(f"class digit {name[-1]}: ") for name in shown)


def test_a_portrait_is_what_it_says(trained) -> None:
    subject, selection = trained("visualize.rules=[deconvnet,guided]", "visualize.seed=maximum")
    few = subject.train.spread(200)
    found = portraits(subject, selection, few)
    model, index = subject.filters.model, subject.filters.index
    responses_NR = responses_to(subject, subject.train)
    assert {portrait.label for portrait in found} == set(np.flatnonzero(selection.weights_RC.any(0)).tolist())
    for portrait in found:
        position = index.layers.index(portrait.layer)
        response = int(np.flatnonzero((index.layer_F == position) & (index.channel_F == portrait.channel))[0])
        assert portrait.weight == selection.weights_RC[response, portrait.label] != 0
        expected_K = np.argsort(-responses_NR[:, response], kind="stable")[:3]
        assert np.array_equal(portrait.images_K, expected_K)
        assert portrait.drop == pytest.approx(accuracy(model, few) - accuracy(without(model, [response]), few))
        assert np.allclose(portrait.average_CHW, sum(portrait.crops_KCHW) / 3)
        depth = int(portrait.layer.removeprefix("conv"))  # of a 3x3 convolution after another
        assert portrait.crops_KCHW.shape[2:] == (2 * depth + 1,) * 2
        assert list(portrait.signals) == ["deconvnet", "guided"]
        for rule, (number, image) in product(portrait.signals, enumerate(portrait.images_K)):
            image_CHW = subject.train.images_NCHW[image]
            signal, (row, column) = sent_back(model, image_CHW, 2 * depth, portrait.channel, rule)
            around = np.s_[:, row : row + 2 * depth + 1, column : column + 2 * depth + 1]
            pad = ((0, 0), (depth, depth), (depth, depth))
            assert np.array_equal(portrait.crops_KCHW[number], np.pad(image_CHW.numpy(), pad)[around])
            seen_CHW = portrait.signals[rule][number]
            assert np.allclose(seen_CHW, np.pad(signal, pad)[around], rtol=1e-4, atol=1e-6)
            assert signal.any()


def sent_back(
    model: nn.Module, image_CHW: torch.Tensor, modules: int, channel: int, rule: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """The signal of a filter's maximum by the network's first modules alone, and where that maximum is."""
    image = image_CHW[None].clone().requires_grad_()
    with backward_rule(rule):
        map_HW = nn.Sequential(*list(model.children())[:modules])(image)[0, channel]
    peak = divmod(int(map_HW.argmax()), map_HW.shape[1])
    (signal,) = torch.autograd.grad(map_HW[peak], image, map_HW[peak].detach())
    return signal[0].numpy(), peak


@pytest.mark.parametrize("more", [(), ("protocol=authors", "mu=3")], ids=["described", "authors"])
def test_an_explanation_is_of_the_class_predicted(trained, more: tuple[str, ...]) -> None:
    subject, selection = trained(*more, "visualize.rules=[gradient]", "visualize.seed=maximum")
    images = subject.train.spread(6)
    model = subject.filters.model
    responses_NR = responses_to(subject, images)
    with torch.no_grad():
        predicted_N = model(images.images_NCHW).argmax(1).tolist()
    found = explain(subject, selection, images)
    assert [one.predicted for one in found] == predicted_N
    assert [one.label for one in found] == images.labels_N.tolist()
    assert any(one.names for one in found)
    for one, x_R in zip(found, responses_NR, strict=True):
        w_R = selection.weights_RC[:, one.predicted]
        shares_R = x_R / np.sqrt((x_R**2).sum()) * (w_R / sum(abs(w) for w in w_R)) if w_R.any() else 0 * x_R
        best = [r for r in np.argsort(-shares_R, kind="stable")[:3] if shares_R[r] > 0]
        places = [subject.filters.places[r] for r in best]
        at = {layer: f" at {maps}" if more else "" for layer, _, maps in places}
        assert one.names == [f"{layer}{at[layer]}, filter {channel}" for layer, channel, _ in places]
        assert np.allclose(one.contributions, shares_R[best])
        assert all(w_R[r] > 0 for r in best), "what speaks against the class does not explain it"
        for r, heat_HW in zip(best, one.heats_THW, strict=True):
            layer, channel, module = subject.filters.places[r]
            if module == layer.replace("conv", "relu"):
                modules = 2 * int(layer.removeprefix("conv"))
                signal, _ = sent_back(model, torch.from_numpy(one.image_CHW), modules, channel, "gradient")
                size = np.abs(signal).sum(0)
                above = np.sort((size - size.min())[size > size.min()])
                at = 0.995 * (len(above) - 1)
                full = above[int(at)] + (at % 1) * (above[min(int(at) + 1, len(above) - 1)] - above[int(at)])
                assert np.allclose(heat_HW, np.minimum((size - size.min()) / full, 1), atol=1e-5)
        for i, j in np.ndindex(one.combined_HW.shape):
            assert one.combined_HW[i, j] == max((heat_HW[i, j] for heat_HW in one.heats_THW), default=0)


def test_contributions_of_nothing_are_nothing() -> None:
    assert contributions(np.zeros(3), np.ones(3)).tolist() == [0, 0, 0]
    assert contributions(np.ones(3), np.zeros(3)).tolist() == [0, 0, 0]
    assert contributions(np.ones(4), np.array([1.0, -3, 0, 0])).tolist() == pytest.approx([1 / 8, -3 / 8, 0, 0])


def test_similarity_is_spearmans(rng: np.random.Generator) -> None:
    first, second = rng.standard_normal((2, 3, 2, 5, 5))
    expected = [
        spearmanr(np.abs(a).sum(0).ravel(), np.abs(b).sum(0).ravel()).statistic
        for a, b in zip(first, second, strict=True)
    ]
    assert similarity(first, second) == pytest.approx(np.mean(expected))
    first[1] = 0
    assert similarity(first, second) == pytest.approx(np.mean([expected[0], expected[2]]))
    assert similarity(np.zeros((1, 1, 5, 5)), second[:1]) is None


def test_signals_beside_the_same_network_s_are_the_same(trained, tmp_path: Path) -> None:
    subject, selection = trained()
    both = compare_signals(subject, selection, subject, Store(tmp_path))
    assert all(alike == pytest.approx(1) for alike in both.similarity.values())


def test_where_nothing_is_relevant_nothing_is_drawn(trained, tmp_path: Path) -> None:
    subject, selection = trained()
    nothing = replace(selection, weights_RC=np.zeros_like(selection.weights_RC))
    assert portraits(subject, nothing, subject.train[:10]) == []
    assert [one.names for one in explain(subject, nothing, subject.train[:2])] == [[], []]
    assert set(compare_signals(subject, nothing, subject, Store(tmp_path)).similarity.values()) == {None}


def test_a_job_draws_its_pictures_the_same_each_time(run_script, tmp_path: Path) -> None:
    def drawn(*more: str) -> dict[str, bytes]:
        code, _, err = run_script("interpret", "mu=3", "visualize.images=2", "replace=true", *more)
        assert code == 0, err
        return {path.name: path.read_bytes() for path in (tmp_path / "out" / "pictures").glob("*")}

    first = drawn()
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {"image_0.png", "image_1.png"} < set(first)
    assert len([name for name in first if name.startswith("class_")]) >= 5
    assert all(content.startswith(b"\x89PNG") for content in first.values())
    assert record["signals_alike"] == {}
    assert drawn() == first
    assert drawn("visualize=off") == {}, "and those of an earlier job are gone"
    randomized = drawn("randomize=all")
    assert set(randomized) - {"randomized.png"} <= {*first, *(f"class_{c}.png" for c in range(10))}
    assert "randomized.png" in randomized
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(record["signals_alike"]) == {"gradient", "deconvnet", "guided"}
    assert all(-1 <= alike < 1 for alike in record["signals_alike"].values())


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        (
            "visualize.rules=[lrp]",
            "visualize.rules=[lrp]: give some of gradient, deconvnet, guided, each once, such as [guided]",
        ),
        (
            "visualize.rules=[]",
            "visualize.rules=[]: give some of gradient, deconvnet, guided, each once, such as [guided]",
        ),
        ("visualize.seed=all", "visualize.seed=all: give map, maximum"),
        ("visualize.resample=linear", "visualize.resample=linear: give auto, nearest, none"),
        ("visualize.pooling=true visualize.resample=none", "give visualize.resample=auto"),
        ("visualize.resample=nearest", "resample=nearest: no convolution of the network has a stride; leave it out"),
        ("visualize.pooling=true", "visualize.pooling=true: no pooling of the network has a stride; leave it out"),
        ("visualize.images=1000", "visualize.images=1000: no picture holds so many; give at most 50"),
        ("visualize.images=0", "visualize.images=0: give a whole number of at least 1"),
        ("visualize.filters_per_class=0", "visualize.filters_per_class=0: give a whole number of at least 1"),
    ],
)
def test_bad_options_are_one_line(run_script, option: str, remedy: str) -> None:
    code, _, err = run_script("interpret", *option.split())
    assert code != 0
    assert err.strip().splitlines()[-1].endswith(remedy)


def test_a_network_with_strides_is_resampled_where_asked() -> None:
    layers = (nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 10))
    given = options("visualize.resample=nearest", "visualize.pooling=true")
    check_pictures(Subject.from_options(nn.Sequential(*layers), data.load(given.data.name, given.data.root), given))


def test_a_training_draws_its_filters_on_the_way(run_script, tmp_path: Path, monkeypatch) -> None:
    epochs: list[tuple[int | None, set[str]]] = []
    assert run_script("train", "visualize=off", "visualize.every_n_epochs=1", "trainer.max_epochs=4")[0] == 0
    assert not (tmp_path / "out" / "pictures").exists()
    monkeypatch.setattr(
        "tipping.tracking.Run.log_pictures", lambda _, drawn, epoch=None: epochs.append((epoch, {*drawn}))
    )
    options = ["trainer.max_epochs=4", "visualize.every_n_epochs=2", "visualize.images=2", "replace=true"]
    code, _, err = run_script("train", *options)
    assert code == 0, err
    assert [epoch for epoch, _ in epochs] == [2, 4]
    for epoch, names in epochs:
        assert {path.stem for path in (tmp_path / "out" / "pictures" / f"epoch_{epoch}").glob("*.png")} == names
    assert all({"image_0", "image_1"} < names for _, names in epochs)
    plain = torch.load(*(tmp_path / "store" / "networks").glob("*.pt"), weights_only=True)["tensors"]
    code, _, err = run_script("train", "trainer.max_epochs=4", f"store.dir={tmp_path / 'other'}", "replace=true")
    assert code == 0, err
    other = torch.load(*(tmp_path / "other" / "networks").glob("*.pt"), weights_only=True)["tensors"]
    assert all(torch.equal(plain[name], other[name]) for name in plain), "drawing does not change the training"


@pytest.mark.parametrize("page", ["ablation.md", "visualize.md"])
def test_snippets_of_the_docs_run(page: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    torch.manual_seed(0)
    given = {"network": nn.Conv2d(1, 8, 3, stride=2), "images": torch.rand(2, 1, 12, 12)}
    exec(snippet, given)
    if page == "ablation.md":
        assert given["predictions"][0].tolist() == given["logits"].argmax(1).tolist()
