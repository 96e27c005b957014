"""The front door: what `import tipping` gives, on networks and loaders that know nothing of it."""

from __future__ import annotations

import subprocess
import sys

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
    """300 images of two channels, labelled by the network itself, so that ablations show."""
    images = torch.randn(300, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = own(images.to(next(own.parameters()).device)).cpu()
    return DataLoader(TensorDataset(images, (logits - logits.mean(0)).argmax(1)), batch_size=70)


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
    assert point.low <= point.at <= point.high
    pytest.importorskip("altair")
    assert "layer" in curve.plot().to_dict()


def test_the_model_is_as_before(own: nn.Module, loader: DataLoader) -> None:
    def state() -> list[object]:
        modules = [(name, id(module), module.training, sorted(vars(module))) for name, module in own.named_modules()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in own.modules()]
        return [*modules, *hooks, *(parameter.grad for parameter in own.parameters()), digest(own.state_dict())]

    before = state()
    tipping.drop_curve(tipping.relevant_filters(own, loader, mu=5), loader, points=2)
    assert state() == before


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
