"""A mistake in a notebook is one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strangers import CALLS, Own, state_of
from torch import Tensor, nn
from torch.utils.data import DataLoader

import tipping
from tipping.selectors import Budget

MISTAKES = {  # what is given, and what the line says; the images are of two channels, the classes three
    "images[:0]": (lambda r, b: tipping.explain(r, torch.zeros(0, 2, 9, 9)), r"images of shape .*: give one"),
    "one channel": (lambda r, b: tipping.explain(r, torch.zeros(9, 9)), r"images of shape .*: give one"),
    "array": (lambda r, b: tipping.explain(r, np.zeros((2, 9, 9))), "type ndarray: give images as a tensor"),
    "bytes": (lambda r, b: tipping.explain(r, torch.ones(2, 9, 9).byte()), r"torch.uint8: Own cannot .*; convert"),
    "grey": (lambda r, b: tipping.explain(r, torch.ones(1, 9, 9)), r"\(1, 9, 9\) and torch.float32: Own cannot take"),
    "3 labels": (lambda r, b: tipping.explain(r, torch.ones(2, 2, 9, 9), [0, 1, 2]), r"labels of shape \(3,\): give"),
    "class 3": (lambda r, b: tipping.explain(r, torch.ones(2, 9, 9), 3), "labels must go from 0 to 2"),
    "half a class": (lambda r, b: tipping.explain(r, torch.ones(2, 9, 9), 0.5), "whole labels"),
    "explain model": (lambda r, b: tipping.explain(r.filters.given, torch.ones(2, 9, 9)), "Own: give what relevant_"),
    "per_class": (lambda r, b: tipping.gallery(r, b, per_class=0), "per_class=0: give a whole number"),
    "images": (lambda r, b: tipping.gallery(r, b, images=2.5), "images=2.5: give a whole number"),
    "gallery of several": (lambda r, b: tipping.gallery([r], b), "list: give what relevant_filters returns for one mu"),
    "double": (lambda r, b: tipping.gallery(r, [(x.double(), y) for x, y in b]), "torch.float64: Own cannot take them"),
    "curve of model": (lambda r, b: tipping.drop_curve(r.filters.given, b), "Own: give what relevant_filters returns"),
    "points": (lambda r, b: tipping.drop_curve(r, b, points=0), "points=0: give a whole number"),
    "curve": (lambda r, b: tipping.tipping_point(r), "RelevantFilters: give what drop_curve returns"),
    "kind": (lambda r, b: tipping.drop_curve(r, b, points=1).tipping_point(of="weakest"), "of=weakest: give selected"),
    "no model": (lambda r, b: tipping.relevant_filters(b, b), "DataLoader: give a torch network"),
    "no loader": (lambda r, b: tipping.relevant_filters(r.filters, None), "batches: .*NoneType.*; give a DataLoader"),
    "no draws": (lambda r, b: tipping.relevant_filters(r.filters, b, draws=tipping.Draws(0)), "draws.count=0: give"),
    "no match": (lambda r, b: tipping.relevant_filters(r.filters, b, draws=tipping.Draws(2, "best")), "match=best: "),
    "maps": (lambda r, b: tipping.relevant_filters(nn.Conv2d(2, 3, 3), b), r"Conv2d gives \(1, 3, .* logits"),
    "pair": (lambda r, b: tipping.relevant_filters(Pair(), b), "Pair gives a tuple for an image: wrap it"),
    "no labels": (lambda r, b: tipping.relevant_filters(r.filters, [x for x, _ in b]), "batch 0: give pairs of images"),
    "selector": (lambda r, b: tipping.compare_selectors(r.filters, b, b, "l7"), "selectors=l7: give one of"),
    "list of lists": (lambda r, b: tipping.compare_selectors(r.filters, b, b, [["l1"]]), r"selectors=\['l1'\]: give"),
    "seed": (lambda r, b: tipping.compare_selectors(r.filters, b, b, "l1", seed=-1), "seed=-1: give a whole number"),
    "budget": (lambda r, b: tipping.compare_selectors(r.filters, b, b, budget={}), "dict: give a tipping.selectors.Bu"),
    "no few": (lambda r, b: tipping.compare_selectors(r.filters, b, b, budget=Budget(-3)), "budget.images=-3: give a"),
    "selectors": (lambda r, b: tipping.relevant_filters(r.filters, b, selector=["l1"]), r"selector=\['l1'\]: give one"),
    "label": (lambda r, b: tipping.relevant_filters(r.filters, [*b, *spoiled(b, 3)]), "from 0 .*; image 302 has 3"),
    "NaN": (lambda r, b: tipping.drop_curve(r, [*b, *spoiled(b, 0)]), "batch 5: image 1 has pixels that are no"),
}  # fmt: skip


def spoiled(batches: DataLoader, label: int) -> list[tuple[Tensor, Tensor]]:
    """The first three images; where their labels are classes, the second has a pixel that is no number."""
    images, labels = next(iter(batches))
    images, labels = images[:3].clone(), labels[:3].clone()
    labels[2] = label
    if label == 0:
        images[1, 0, 4, 4] = torch.nan
    return [(images, labels)]


class Pair(nn.Module):
    """A network that gives more than logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, own: nn.Module, loader: DataLoader) -> None:
    call, words = MISTAKES[mistake]
    relevant, before = tipping.relevant_filters(own, loader, mu=3), state_of(own)
    with pytest.raises(tipping.InputError, match=words) as caught:
        call(relevant, loader)
    assert len(str(caught.value).splitlines()) == 1
    assert state_of(own) == before


@pytest.mark.parametrize("call", ["relevant_filters", "drop_curve", "ablate_classes", "gallery"])
def test_a_generator_is_gone_through_once(own: nn.Module, loader: DataLoader, call: str) -> None:
    relevant, batches = tipping.relevant_filters(own, loader, mu=5), iter(list(loader))
    found, expected = CALLS[call](relevant, batches), CALLS[call](relevant, loader)
    assert found.rows() == expected.rows()
    with pytest.raises(tipping.InputError, match="a generator can be gone through only once"):
        CALLS[call](relevant, batches)


def test_a_network_without_relevant_filters_has_no_tipping_point(loader: DataLoader) -> None:
    """All of its responses are zero: its results show themselves, and the question where it tips has no answer."""
    silent = Own()
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    relevant = tipping.relevant_filters(silent, loader, mu=5)
    curve, seen = tipping.drop_curve(relevant, loader), tipping.gallery(relevant, loader)
    why = tipping.explain(relevant, torch.ones(2, 9, 9))
    assert (len(relevant.order), len(curve.rows()), seen.rows(), why.rows()) == (0, 1, [], [])
    assert repr(why) == "image 0: class 0, by no relevant filter"
    assert "taken for class 0: no relevant filter" in why._repr_html_()
    for found in (relevant, curve, seen):
        assert found._repr_html_().startswith("<p>")
    with pytest.raises(tipping.InputError, match="no filter is relevant, so none is removed"):
        tipping.tipping_point(curve)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "they hold no images"),
        ([(torch.zeros(0, 2, 9, 9), torch.zeros(0, dtype=torch.long))], "they hold no images"),
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


@pytest.mark.parametrize("mu", [0, -1, float("nan"), [], [[1, 2]], "many", None, [5, 0], float("inf")])
def test_a_mu_out_of_range_is_one_line(own: nn.Module, loader: DataLoader, mu: object) -> None:
    with pytest.raises(tipping.InputError, match="mu"):
        tipping.relevant_filters(own, loader, mu=mu)
