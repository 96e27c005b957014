"""What each class loses without its own filters, of any network and loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tipping
from tipping.selection import KINDS


def test_what_each_class_loses_by_masks(own: nn.Module, loader: DataLoader) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=3, classes=["cat", "dog", "hen"])
    result = tipping.ablate_classes(relevant, loader, draws=tipping.Draws(2))
    images, labels = (one.to(next(own.parameters()).device) for one in loader.dataset.tensors)
    weights_RC = relevant.selection.weights_RC

    def right(gone: np.ndarray) -> np.ndarray:
        with tipping.ablated(relevant.filters, gone), torch.no_grad():
            return (relevant.filters.model(images).argmax(1) == labels).cpu().numpy()

    before_N, rows = right(np.array([], dtype=int)), {(row["kind"], row["class"]): row for row in result.rows()}
    assert {kind for kind, _ in rows} == set(KINDS)
    for label, name in enumerate(["cat", "dog", "hen"]):
        its_R = weights_RC[:, label] != 0
        drop_N = before_N.astype(int) - right(np.unique(relevant.filters.filter_R[its_R]))
        by_class = [drop_N[labels.cpu().numpy() == other].mean() for other in range(3)]
        row = rows["own", name]
        assert row["own_class"] == pytest.approx(by_class[label])
        assert row["collateral"] == pytest.approx((sum(by_class) - by_class[label]) / 2)
        assert row["filters"] == len(np.unique(relevant.filters.filter_R[its_R]))
        at = result.matrix.removed.index(label)
        assert result.matrix.drop_CC[at] == pytest.approx(by_class)
    assert "classes: without its own filters a class loses" in repr(result)
    assert result._repr_html_().count("<tr>") == 1 + len(set(result.matrix.removed))
    assert len(result.plot().to_dict()["datasets"].popitem()[1]) == 3 * len(result.matrix.removed)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (
            lambda relevant, loader: tipping.ablate_classes(relevant.filters, loader),
            "give what tipping.relevant_filters",
        ),
        (
            lambda relevant, loader: tipping.ablate_classes(
                tipping.relevant_filters(relevant.filters, loader, mu=3, selector="l1"), loader
            ),
            "selector=l1: the filters of a class are those with a weight for it",
        ),
        (
            lambda relevant, loader: tipping.ablate_classes(
                relevant, DataLoader(TensorDataset(loader.dataset.tensors[0], torch.ones(len(loader.dataset)).long()))
            ),
            "all images are of one class",
        ),
    ],
    ids=["filters", "another selector", "one class"],
)
def test_mistakes_are_one_line(own: nn.Module, loader: DataLoader, mistake, said: str) -> None:
    relevant = tipping.relevant_filters(own, loader, mu=3)
    with pytest.raises(tipping.InputError, match=said):
        mistake(relevant, loader)
