"""Images that the package has loaded, in notebooks: their splits are loaders, and their classes have names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strangers import CLASSES, Own
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tipping
from tipping.data import Dataset, Normalisation, Split
from tipping.data.streams import Rows, Streamed
from tipping.errors import InputError
from tipping.network import evaluating


@pytest.fixture
def photos() -> Dataset:
    """Normalised images of two channels and three classes, which are read when they are asked for."""
    rng, how = np.random.default_rng(0), Normalisation((0.5,), (0.2, 0.3))
    labels = torch.arange(120) % CLASSES

    def split(title: str) -> Split:
        pixels = torch.from_numpy(rng.integers(256, size=(120, 2, 9, 9), dtype=np.uint8))
        return Split(Streamed.from_dataset(Rows(pixels), title), labels, how)

    return Dataset("photos", split("training"), split("test"), ("cat", "dog", "hen"))


def test_a_split_is_a_loader(photos: Dataset) -> None:
    torch.manual_seed(0)
    model = Own()
    loader = DataLoader(TensorDataset(photos.train.images_NCHW, photos.train.labels_N), batch_size=50)
    tests = [(photos.test.images_NCHW, photos.test.labels_N)]
    found = [tipping.relevant_filters(model, given, mu=3, classes=photos.classes) for given in (photos.train, loader)]
    assert np.allclose(found[0].selection.weights_RC, found[1].selection.weights_RC, atol=1e-6)
    assert [name for name in found[0].rows()[0] if name.startswith("class ")] == ["class cat", "class dog", "class hen"]
    curves = [tipping.drop_curve(found[0], given, points=2) for given in (photos.test, tests)]
    assert curves[0].measured == curves[1].measured
    assert np.array_equal(curves[0].labels_N, photos.test.labels_N)
    seen = [tipping.gallery(found[0], given, per_class=1, images=2) for given in (photos.test, tests)]
    crops = [np.concatenate([one.crops_KCHW.ravel() for one in each.portraits]) for each in seen]
    assert {row["class"] for row in seen[0].rows()} <= {"cat", "dog", "hen"}
    assert crops[0].min() >= 0, "normalisation is undone for pictures"
    assert crops[1].min() < 0, "what a loader has done is not known"


def test_names_default_to_those_of_the_loaders_data_set_or_to_numbers(photos: Dataset) -> None:
    named = TensorDataset(photos.train.images_NCHW, photos.train.labels_N)
    for classes, names in ((None, ["0", "1", "2"]), (["a", "b", "c"], ["a", "b", "c"]), (["a", "b"], ["0", "1", "2"])):
        named.classes = classes  # type: ignore[attr-defined]
        relevant = tipping.relevant_filters(Own(), DataLoader(named, batch_size=60), mu=3)
        assert [name for name in relevant.rows()[0] if name.startswith("class")] == [f"class {name}" for name in names]
    with pytest.raises(InputError, match="classes=2 names: give one for each of 3 logits"):
        tipping.relevant_filters(Own(), photos.train, classes=["a", "b"])


def test_two_classes_of_one_name_are_refused(photos: Dataset) -> None:
    """Rows have a column for each name: the weights of one of the two would be lost."""
    named = TensorDataset(photos.train.images_NCHW, photos.train.labels_N)
    named.classes = ["a", "b", "a"]  # type: ignore[attr-defined]
    for loader, classes in ((photos.train, ["a", "b", "a"]), (DataLoader(named, batch_size=60), None)):
        with pytest.raises(InputError, match=r"^classes=2 times a: give each class a name of its own"):
            tipping.relevant_filters(Own(), loader, mu=3, classes=classes)


class OfBytes(nn.Module):
    """Takes bytes, and divides them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Own()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        return self.net(images.float() / 255)


def test_the_images_of_a_loader_are_given_to_the_network_as_they_come(photos: Dataset) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 2, 9, 9), dtype=torch.uint8, generator=generator)
    batches, model = [(images, torch.arange(60) % CLASSES)], OfBytes()
    curve = tipping.drop_curve(tipping.relevant_filters(model, batches, mu=3), batches, points=1)
    with evaluating(model), torch.no_grad():
        right = (model(images).argmax(1) == batches[0][1]).float().mean()
    assert curve.measured.selected[0] == pytest.approx(float(right))


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_of_no_logit_are_refused(photos: Dataset, part: str) -> None:
    small = Own()
    small.head = nn.Linear(8, 2)
    relevant = tipping.relevant_filters(Own(), photos.train, mu=3)
    with pytest.raises(InputError, match="labels must go from 0 to 1"):
        if part == "train":
            tipping.relevant_filters(small, photos.train)
        else:
            object.__setattr__(relevant.filters, "classes", 2)
            tipping.drop_curve(relevant, photos.test)
