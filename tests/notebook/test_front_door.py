"""The front door: what `import tipping` gives, on networks and loaders that know nothing of it."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from strangers import CLASSES, responses
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import tipping
from tipping.mu_lasso import MuLassoProblem, spg


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
    for given in ([2, 20], (2.0, 20.0), np.array([2, 20]), torch.tensor([2, 20])):
        rising = tipping.relevant_filters(own, loader, mu=given)
        assert [found.order.tolist() for found in rising] == [found.order.tolist() for found in reversed(several)]
    (single,) = tipping.relevant_filters(own, loader, mu=[2])  # a list gives a list
    assert single.order.tolist() == several[1].order.tolist()
    assert tipping.relevant_filters(own, loader, mu=torch.tensor(2)).order.tolist() == single.order.tolist()


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


def test_a_gallery_leaves_out_filters_that_are_silent(own: nn.Module, loader: DataLoader) -> None:
    """On a few images, a relevant filter may give nothing but zeros: the next ones are shown in its place."""
    relevant = tipping.relevant_filters(own, loader, mu=20)
    levels = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)  # the same all over: so are the maps, half of them 0
    few = [(levels.expand(2, 2, 9, 9), torch.tensor([0, 1]))]
    whole = responses(own, few[0][0].to(next(own.parameters()).device)).numpy()
    silent_R = (whole == 0).all(0)
    weights_RC = np.where(silent_R[:, None], 0, relevant.selection.weights_RC)
    assert silent_R.any()
    assert ((whole == 0).any(0) & ~silent_R & (weights_RC != 0).any(1)).any(), "also silent on one of them"
    assert (weights_RC != relevant.selection.weights_RC).any()
    found = tipping.gallery(relevant, few, per_class=2)
    shown = [(one.label, one.channel + 6 * (one.layer == "second")) for one in found.portraits]
    assert shown == [
        (c, r) for c in range(CLASSES) for r in np.argsort(-np.abs(weights_RC[:, c]))[:2] if weights_RC[r, c]
    ]
    assert all(len(one.images_K) == (whole[:, r] > 0).sum() for one, (_, r) in zip(found.portraits, shown, strict=True))
    assert found.plot()


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
    assert (alone.label, alone.predicted, alone.names) == (None, predicted[0], found.images[0].names)
    assert f"<figcaption>taken for class {predicted[0]}: " in tipping.explain(relevant, images[0])._repr_html_()
    for label in (1, torch.tensor(1), [1], torch.tensor([1])):
        (alone,) = tipping.explain(relevant, images[0], label).images
        assert (alone.label, alone.predicted) == (1, predicted[0])
    assert [row["label"] for row in found.rows()] == [labels[row["image"]] for row in found.rows()]
    assert repr(found).splitlines()[0].startswith(f"image 0: class {predicted[0]}, by ")
    assert [row["image"] for row in found.rows()] == sorted(row["image"] for row in found.rows())
    assert found._repr_html_().count("<img") == len(found.plot()) == 3
    for one in found.images:
        together = one.heats_THW.max(0) if len(one.names) else 0 * one.image_CHW[0]
        assert np.array_equal(one.combined_HW, together)


def test_names_of_layers_are_escaped(device: torch.device, loader: DataLoader) -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("<b>&", nn.Conv2d(2, 4, 9))
    for number, module in enumerate((nn.ReLU(), nn.Flatten(), nn.Linear(4, CLASSES))):
        model.add_module(str(number), module)
    relevant = tipping.relevant_filters(model.to(device), loader, mu=5)
    seen, why = tipping.gallery(relevant, loader, images=1), tipping.explain(relevant, loader.dataset.tensors[0][:5])
    assert relevant.rows()[0]["layer"] == "<b>&"
    for found in (relevant, seen, why):
        page = found._repr_html_()
        assert "&lt;b&gt;&amp;" in page
        assert "<b>" not in page


def test_pictures_are_whole_files_in_the_page(own: nn.Module, loader: DataLoader) -> None:
    """What a browser finds in a data URI is a picture of the pixels that the figure draws."""
    relevant = tipping.relevant_filters(own, loader, mu=5)
    for found in (tipping.gallery(relevant, loader, images=1), tipping.explain(relevant, torch.ones(2, 9, 9))):
        pictures = re.findall('src="data:image/png;base64,([^"]*)"', found._repr_html_())
        figures = list(found.plot().values())
        assert len(pictures) == len(figures) > 0
        for content, figure in zip(pictures, figures, strict=True):
            pixels = image.imread(io.BytesIO(base64.b64decode(content, validate=True)))
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            assert np.array_equal(np.uint8(pixels * 255 + 0.5), np.asarray(canvas.buffer_rgba()))


def test_tables_are_frames_where_there_are_any(own: nn.Module, loader: DataLoader, monkeypatch) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=3)
    curve = tipping.drop_curve(relevant, loader, points=2)
    results = [relevant, curve, tipping.tipping_point(curve), tipping.explain(relevant, torch.ones(2, 9, 9))]
    results.append(tipping.gallery(relevant, loader, per_class=1, images=1))
    assert all(one.rows() for one in results)
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
    random_P = np.mean(curve.measured.random, axis=0)
    level = (random_P[0] + curve.chance) / 2
    after = int(np.argmax(random_P <= level))  # it falls all along: what it is between two counts is on a line
    assert (np.diff(random_P[: after + 2]) <= 0).all()
    assert np.interp(found.random.at, curve.measured.removed, random_P) == pytest.approx(level)
    (at, low, high), last = found.selected[2:5], curve.measured.removed[-1]
    words = f"relevant filters: tips at {at:.1f} of {last} removed (95 % interval {low:.1f} to {high:.1f}); random fil"
    assert repr(found).startswith(words)
    assert [row["tips_at"] for row in found.rows()] == [found.selected.at, found.random.at]
    nowhere = dataclasses.replace(found, random=found.random._replace(at=np.inf))
    assert repr(nowhere).endswith(f"random filters: does not tip, even without {curve.measured.removed[-1]}")
    assert "<table>" in found._repr_html_()


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


def test_weights_of_at_least_zero(own: nn.Module, loader: DataLoader) -> None:
    found = tipping.relevant_filters(own, loader, mu=3, positive=True)
    images, labels = loader.dataset.tensors
    device = next(own.parameters()).device
    problem = MuLassoProblem.stream([(responses(own, images.to(device)), functional.one_hot(labels, CLASSES))])
    expected = spg(problem.non_negative(), [3.0]).weights_MFC[0].numpy()
    assert found.certified
    assert (found.selection.weights_RC >= 0).all()
    assert np.allclose(found.selection.weights_RC, expected, atol=1e-3 * np.abs(expected).max())
    assert (tipping.relevant_filters(own, loader, mu=3).selection.weights_RC < 0).any()


def test_auto_is_a_grid_of_the_path(own: nn.Module, loader: DataLoader) -> None:
    grid = tipping.relevant_filters(own, loader, mu="auto")
    counts = [len(found.order) for found in grid]
    assert len(grid) == 9
    assert np.allclose(np.diff(np.log([found.mu for found in grid])), np.log(grid[-1].mu / grid[0].mu) / 8, atol=2e-3)
    assert counts[0] <= CLASSES
    assert counts[0] < counts[-1]
    assert grid[-2].selection.solution.binds_MC.any()
    (same,) = tipping.relevant_filters(own, loader, mu=[grid[4].mu])
    assert same.order.tolist() == grid[4].order.tolist()
    with pytest.raises(tipping.InputError, match="give a number, several, or auto"):
        tipping.relevant_filters(own, loader, mu="50%")
