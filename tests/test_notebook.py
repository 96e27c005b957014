"""The front door: what `import tipping` gives, on networks and loaders that know nothing of it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import tipping
from tipping.files import digest
from tipping.mu_lasso import MuLassoProblem, spg

CLASSES = 3


class Own(nn.Module):
    """Two convolutions, activated by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.second(functional.relu(self.first(images))))
        return self.head(maps.mean((2, 3)))


@pytest.fixture
def own(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return Own().to(device).train()


@pytest.fixture
def loader(own: nn.Module) -> DataLoader:
    """300 images of two channels, labelled by the network itself, of whose classes each has some."""
    images = torch.randn(300, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = own(images.to(next(own.parameters()).device))
        own.head.bias -= logits.mean(0)
        logits = own(images.to(next(own.parameters()).device)).cpu()
    return DataLoader(TensorDataset(images, logits.argmax(1)), batch_size=70)


def responses(model: nn.Module, images: Tensor) -> Tensor:
    """By hand, in float64: the norm of each map after the ReLU, divided by its layer's sum."""
    with torch.no_grad():
        first = functional.relu(model.first(images))
        second = functional.relu(model.second(first))
    norms = [maps.double().flatten(2).norm(dim=2) for maps in (first, second)]
    return torch.cat([part / part.sum(1, keepdim=True) for part in norms], 1).cpu()


def test_relevant_filters_of_any_network_and_loader(own: nn.Module, loader: DataLoader) -> None:
    found = tipping.relevant_filters(own, loader, mu=3)
    images, labels = loader.dataset.tensors
    problem = MuLassoProblem.stream(
        [(responses(own, images.to(next(own.parameters()).device)), functional.one_hot(labels, CLASSES))]
    )
    expected = spg(problem, [3.0]).weights_MFC[0].numpy()
    assert found.certified
    assert found.selection.weights_RC.shape == (14, CLASSES)
    # float32 responses, on an ill-conditioned problem
    assert np.allclose(found.selection.weights_RC, expected, atol=1e-3 * np.abs(expected).max())
    strength = np.abs(expected).sum(1)
    assert set(found.order.tolist()) == set(np.flatnonzero(strength).tolist())
    (ranked, *_) = rows = found.rows()
    assert len(rows) == len(found.order)
    assert [row["strength"] for row in rows] == sorted((row["strength"] for row in rows), reverse=True)
    assert ranked["layer"] == ("first" if found.order[0] < 6 else "second")
    assert ranked["strength"] == pytest.approx(sum(abs(ranked[f"class {c}"]) for c in range(CLASSES)))
    assert str(found) == f"{len(rows)} of 14 filters relevant at mu=3 (certified)"
    assert found._repr_html_().count("<tr>") == len(rows) + 1


def test_several_mu_are_a_list(own: nn.Module, loader: DataLoader) -> None:
    several = tipping.relevant_filters(own, loader, mu=[20, 2])
    assert [found.mu for found in several] == [20, 2]
    for found in several:
        alone = tipping.relevant_filters(own, loader, mu=np.float64(found.mu))
        assert alone.order.tolist() == found.order.tolist()
    assert len(several[1].order) < len(several[0].order)


def test_the_curve_is_what_plain_loops_give(own: nn.Module, loader: DataLoader) -> None:
    found = tipping.relevant_filters(own, loader, mu=20, draws=tipping.Draws(count=3))
    curve = tipping.drop_curve(found, loader, points=4)
    images, labels = (part.to(next(own.parameters()).device) for part in loader.dataset.tensors)
    for count, accuracy in zip(curve.measured.removed, curve.measured.selected, strict=True):
        with tipping.ablated(found.filters, found.order[:count]), torch.no_grad():
            right = (found.filters.model.eval()(images).argmax(1) == labels).double().mean()
        assert accuracy == pytest.approx(float(right))
    assert len(curve.measured.random) == 3
    assert curve.chance == pytest.approx(int(labels.bincount().max()) / 300)
    assert curve.rows()[-1]["removed"] == len(found.order)
    assert "without as many random ones" not in curve._repr_html_().split("<table>")[1]
    point = curve.tipping_point()
    level = (curve.measured.selected[0] + curve.chance) / 2  # the curve may rise in between, and is then made level
    assert np.interp(point.at, curve.measured.removed, curve.measured.selected) == pytest.approx(level, abs=0.02)
    assert curve.measured.selected[0] == 1
    assert 0 < point.at < len(found.order)
    assert point.low <= point.at <= point.high
    pytest.importorskip("altair")
    assert "layer" in curve.plot().to_dict()
    drawn = found.plot().to_dict()
    assert [row["strength"] for row in next(iter(drawn["datasets"].values()))] == [
        r["strength"] for r in found.rows()[:20]
    ]


def state_of(model: nn.Module) -> list[object]:
    """All that a call must not change: modules, modes, attributes, hooks, gradients, devices, weights."""
    modules = [(name, id(module), module.training, sorted(vars(module))) for name, module in model.named_modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    grads = [None if one.grad is None else one.grad.clone().tolist() for one in model.parameters()]
    flags = [(one.requires_grad, one.device, one.is_inference()) for one in model.parameters()]
    return [*modules, *hooks, *grads, *flags, digest(model.state_dict())]


@pytest.fixture
def used(own: nn.Module) -> nn.Module:
    """The network in the midst of a training: some of it in eval mode, with gradients."""
    own.second.eval()
    own(torch.ones(2, 2, 9, 9, device=next(own.parameters()).device)).sum().backward()
    return own


def test_the_model_is_as_before(used: nn.Module, loader: DataLoader) -> None:
    before = state_of(used)
    relevant = tipping.relevant_filters(used, loader, mu=5)
    assert state_of(used) == before
    tipping.tipping_point(tipping.drop_curve(relevant, loader, points=2))
    assert state_of(used) == before
    tipping.gallery(relevant, loader, images=2)
    assert state_of(used) == before
    tipping.explain(relevant, loader.dataset.tensors[0][:2])
    assert state_of(used) == before


def breaking(loader: DataLoader, after: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    for number, batch in enumerate(loader):
        if number == after:
            raise RuntimeError("the disk is gone")
        yield batch


@pytest.mark.parametrize("call", ["relevant_filters", "drop_curve", "gallery"])
def test_the_model_is_as_before_after_a_failure_in_the_loader(used: nn.Module, loader: DataLoader, call: str) -> None:
    relevant, before = tipping.relevant_filters(used, loader, mu=5), state_of(used)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        getattr(tipping, call)(used if call == "relevant_filters" else relevant, breaking(loader))
    assert state_of(used) == before


@pytest.mark.parametrize("call", ["relevant_filters", "drop_curve", "gallery", "explain"])
def test_the_model_is_as_before_after_a_failure_of_its_own(
    used: nn.Module, loader: DataLoader, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relevant, before = tipping.relevant_filters(used, loader, mu=5), state_of(used)
    given = loader.dataset.tensors[0][:2] if call == "explain" else loader
    with monkeypatch.context() as broken:
        broken.setattr(nn.Linear, "forward", lambda *_: 1 / 0)
        broken.setattr(nn.Conv2d, "forward", lambda *_: 1 / 0)
        with pytest.raises((ZeroDivisionError, tipping.InputError)):
            getattr(tipping, call)(used if call == "relevant_filters" else relevant, given)
    assert state_of(used) == before


def test_images_are_held_a_few_batches_at_a_time(own: nn.Module) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def streamed() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal most
        generator = torch.Generator().manual_seed(0)
        for _ in range(30):
            images = torch.randn(20, 2, 9, 9, generator=generator)
            alive.add(images)
            most = max(most, len(alive))
            yield images, torch.arange(20) % CLASSES

    found = tipping.relevant_filters(own, streamed(), mu=3)  # a generator: it can be gone through once
    assert found.certified
    assert most <= 4
    whole = [tuple(torch.cat(part) for part in zip(*streamed(), strict=True))]
    assert np.allclose(tipping.relevant_filters(own, whole, mu=3).selection.weights_RC, found.selection.weights_RC)


def test_what_a_loader_keeps_can_be_trained_on(own: nn.Module) -> None:
    kept: list[Tensor] = []

    def loading() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(3):
            kept.append(torch.randn(20, 2, 9, 9))
            yield kept[-1], torch.arange(20) % CLASSES

    tipping.relevant_filters(own, loading(), mu=3)
    assert not any(images.is_inference() for images in kept)


def test_a_gallery_portrays_the_strongest_filters_of_each_class(own: nn.Module, loader: DataLoader) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=20)
    found = tipping.gallery(relevant, loader, per_class=2, images=4)
    weights_RC, (images, labels) = relevant.selection.weights_RC, loader.dataset.tensors
    device = next(own.parameters()).device
    responses_NR = responses(own, images.to(device)).numpy()
    expected = {
        (c, int(r)) for c in range(CLASSES) for r in np.argsort(-np.abs(weights_RC[:, c]))[:2] if weights_RC[r, c]
    }
    filters = {(one.label, one.channel + 6 * (one.layer == "second")): one for one in found.portraits}
    assert set(filters) == expected
    for (_, response), one in filters.items():
        assert responses_NR[one.images_K, response].tolist() == sorted(responses_NR[:, response], reverse=True)[:4]
    first = found.portraits[0]
    with tipping.ablated(relevant.filters, np.array([first.channel + 6 * (first.layer == "second")])), torch.no_grad():
        without = relevant.filters.model.eval()(images.to(device)).argmax(1).cpu() == labels
    with torch.no_grad():
        intact = own.eval()(images.to(device)).argmax(1).cpu() == labels
    assert first.drop == pytest.approx(float(intact.double().mean() - without.double().mean()))
    assert [row["weight"] for row in found.rows()] == [one.weight for one in found.portraits]
    assert set(found.plot()) == {f"class_{label}" for label, _ in expected}
    assert found._repr_html_().count("data:image/png;base64,") == len(found.plot())
    assert repr(found) == f"{len(expected)} portraits of relevant filters of {len(found.plot())} classes"


def test_an_explanation_names_what_speaks_for_the_class(own: nn.Module, loader: DataLoader) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=20)
    images, labels = (part[:3] for part in loader.dataset.tensors)
    found = tipping.explain(relevant, images, labels)
    device = next(own.parameters()).device
    with torch.no_grad():
        predicted = own.eval()(images.to(device)).argmax(1).tolist()
    for image_R, one, label, true in zip(
        responses(own, images.to(device)), found.images, predicted, labels, strict=True
    ):
        assert (one.predicted, one.label) == (label, true)
        weights_R = relevant.selection.weights_RC[:, label]
        shares_R = image_R.numpy() / np.linalg.norm(image_R) * weights_R / np.abs(weights_R).sum()
        best = [r for r in np.argsort(-shares_R)[:3] if shares_R[r] > 0]
        assert one.names == [f"{'first' if r < 6 else 'second'}, filter {r % 6 if r < 6 else r - 6}" for r in best]
        assert one.contributions == pytest.approx(shares_R[best], rel=1e-4)
    (alone,) = tipping.explain(relevant, images[0]).images
    assert (alone.label, alone.names) == (predicted[0], found.images[0].names)
    assert repr(found).splitlines()[0].startswith(f"image 0: class {predicted[0]}, by ")
    assert [row["image"] for row in found.rows()] == sorted(row["image"] for row in found.rows())
    assert found._repr_html_().count("<img") == len(found.plot()) == 3


def test_pictures_of_nothing_are_one_line(own: nn.Module, loader: DataLoader) -> None:
    relevant, images = tipping.relevant_filters(own, loader, mu=3), torch.zeros(2, 2, 9, 9)
    for given in (images[:0], images[0, 0]):
        with pytest.raises(tipping.InputError, match=r"images of shape .*: give one"):
            tipping.explain(relevant, given)
    with pytest.raises(tipping.InputError, match="labels of shape"):
        tipping.explain(relevant, images, torch.zeros(3, dtype=torch.long))
    with pytest.raises(tipping.InputError, match="per_class=0"):
        tipping.gallery(relevant, loader, per_class=0)


def test_tables_are_frames_where_there_are_any(own: nn.Module, loader: DataLoader, monkeypatch) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=3)
    curve = tipping.drop_curve(relevant, loader, points=2)
    results = [relevant, curve, tipping.tipping_point(curve), tipping.explain(relevant, torch.ones(2, 9, 9))]
    for absent in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, absent, None)
    assert [one.table() for one in results] == [one.rows() for one in results]
    for library in ("polars", "pandas"):  # pandas before polars
        made = SimpleNamespace(DataFrame=lambda rows, library=library: (library, rows))
        monkeypatch.setitem(sys.modules, library, made)
        assert [one.table() for one in results] == [(library, one.rows()) for one in results]


def test_the_tipping_point_is_said_in_words(own: nn.Module, loader: DataLoader) -> None:
    curve = tipping.drop_curve(tipping.relevant_filters(own, loader, mu=20), loader, points=4)
    found = tipping.tipping_point(curve)
    assert found.selected[:5] == curve.tipping_point()[:5]
    assert found.random[:5] == curve.tipping_point(of="random")[:5]
    assert found.selected.at != found.random.at
    words = f"relevant filters: tips at {found.selected.at:.1f} removed (95 % interval {found.selected.low:.1f} to "
    assert repr(found).startswith(words)
    assert [row["tips_at"] for row in found.rows()] == [found.selected.at, found.random.at]
    nowhere = dataclasses.replace(found, random=found.random._replace(at=np.inf))
    assert repr(nowhere).endswith(f"random filters: does not tip, even without {curve.measured.removed[-1]}")
    assert "<table>" in found._repr_html_()


def test_a_network_that_calls_functions_is_not_said_to_be_ablated(own: nn.Module, loader: DataLoader) -> None:
    """Hooks cannot reach a call of relu in its own forward: silence there would be a wrong number."""
    images, _ = next(iter(loader))
    images = images.to(next(own.parameters()).device)
    filters = tipping.Filters.of(own, images[:1])
    assert filters.model is not own
    with tipping.ablated(filters, np.array([0])):
        filters.model(images)
        with pytest.raises(tipping.InputError, match=r"Own calls .* as functions.*: call filters\.model"):
            own(images)
    own(images)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "there are none"),
        ([torch.zeros(2, 2, 9, 9)], "batch 0: give pairs"),
        ([(torch.zeros(2, 2, 9, 9), torch.zeros(2))], "batch 0: give pairs"),
        ([(torch.zeros(2, 2, 9, 9), torch.zeros(3, dtype=torch.long))], "batch 0: give pairs"),
        ([(torch.zeros(2, 162), torch.zeros(2, dtype=torch.long))], "batch 0: give pairs"),
        ([(torch.zeros(2, 2, 9, 9), torch.tensor([0, 3]))], "labels"),
        ([(torch.zeros(2, 2, 9, 9), torch.tensor([0, -1]))], "labels"),
        ([(torch.zeros(2, 2, 9, 9), torch.tensor([0, 1])), (torch.zeros(2, 2, 8, 8), torch.tensor([0, 1]))], "batch 1"),
    ],
)
def test_batches_that_are_none_are_one_line(own: nn.Module, batches: list, said: str) -> None:
    with pytest.raises(tipping.InputError, match=said) as caught:
        tipping.relevant_filters(own, batches)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("mu", [0, -1, float("nan"), []])
def test_a_mu_out_of_range_is_one_line(own: nn.Module, loader: DataLoader, mu: object) -> None:
    with pytest.raises(tipping.InputError, match="mu"):
        tipping.relevant_filters(own, loader, mu=mu)


def test_importing_it_loads_nothing_and_all_of_it_is_there() -> None:
    code = (
        "import sys, tipping; print(*sorted({'torch', 'numpy', 'hydra'} & set(sys.modules))); "
        "[getattr(tipping, name) for name in tipping.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert set(tipping.__all__) <= set(dir(tipping))
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        tipping.nosuch  # noqa: B018
