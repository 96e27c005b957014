"""Portraits and explanations of images in colours: normalised ones, large ones, a few at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import tipping
from tipping.data import Normalisation, Split
from tipping.network import Filters
from tipping.selection import Measure, Selection
from tipping.visualize import Backward, explanations, portraits, strongest_images

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])


def undo(images_NCHW: Tensor) -> Tensor:
    return images_NCHW * STD[:, None, None] + MEAN[:, None, None]


class Squares(TensorDataset):
    """Squares in three colours, one a class, normalised."""

    classes = ("red", "green", "a blue one")

    def __init__(self, side: int, count: int = 30) -> None:
        draw = torch.Generator().manual_seed(0)
        labels_N, images_NCHW = torch.arange(count) % 3, 0.3 * torch.rand(count, 3, side, side, generator=draw)
        for image, label in zip(images_NCHW, labels_N, strict=True):
            row, column = (torch.rand(2, generator=draw) * 0.6 * side).int().tolist()
            image[label, row : row + side // 3, column : column + side // 3] = 1
        super().__init__((images_NCHW - MEAN[:, None, None]) / STD[:, None, None], labels_N)


class Net(nn.Sequential):
    def __init__(self, stride: int = 1) -> None:
        torch.manual_seed(0)
        super().__init__(
            *(nn.Conv2d(3, 6, 3, stride, 1), nn.ReLU6(), nn.Conv2d(6, 8, 3, stride, 1), nn.SiLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        )
        self.eval()


def found(side: int, stride: int = 1) -> tuple[Filters, Selection, Split]:
    data = Squares(side)
    filters, split = Filters.of(Net(stride), data.tensors[0][:1]), Split(*data.tensors)
    relevant = tipping.relevant_filters(filters, [data.tensors], 3)
    return filters, relevant.selection, split


def test_pictures_undo_what_was_done_to_images() -> None:
    filters, selection, split = found(12)
    best, how = strongest_images(filters, split, 3), Backward(("guided",))
    plain, shown = (portraits(filters, selection, split, best, split, how, 2, one) for one in (None, undo))
    assert len(plain) == len(shown) > 3
    original_NCHW = undo(split.images_NCHW).numpy()
    for one, other in zip(plain, shown, strict=True):
        assert all(np.array_equal(one.signals[rule], other.signals[rule]) for rule in one.signals)
        assert one.weight == other.weight
        assert not np.allclose(one.crops_KCHW, other.crops_KCHW)
        for position, crop_CHW in zip(other.images_K, other.crops_KCHW, strict=True):
            side = crop_CHW.shape[1]
            padded = np.pad(original_NCHW[position], ((0, 0), (side, side), (side, side)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, crop_CHW.shape)
            assert (windows == crop_CHW).all((-3, -2, -1)).any(), "a part of the image as it was, black beyond"
    explained = explanations(filters, selection, split[:2], Measure(), how, undo)
    assert all(np.array_equal(one.image_CHW, image) for one, image in zip(explained, original_NCHW, strict=False))


def test_a_few_images_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    filters, selection, split = found(12, stride=2)
    best, evaluated = strongest_images(filters, split, 3), split[:4]
    at_once = portraits(filters, selection, split, best, evaluated, Backward())
    monkeypatch.setattr("tipping.visualize.signals.PIXELS", 4 * 144)
    taken: list[int] = []
    whole = Split.__getitem__

    def counting(self: Split, chosen: slice | Tensor) -> Split:
        part = whole(self, chosen)
        taken.append(len(part))
        return part

    monkeypatch.setattr(Split, "__getitem__", counting)
    few = portraits(filters, selection, split, best, evaluated, Backward())
    assert max(taken) == 4
    assert len(taken) > 3
    for one, other in zip(at_once, few, strict=True):
        assert np.array_equal(one.crops_KCHW, other.crops_KCHW)
        for rule, signals in one.signals.items():
            assert np.allclose(signals, other.signals[rule], atol=1e-6)


def test_large_parts_are_made_smaller_by_means() -> None:
    """The second layer sees the whole image."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.SiLU())
    model, data = nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 3)).eval(), Squares(256, count=6)
    relevant = tipping.relevant_filters(model, [data.tensors], 3)
    shown = tipping.gallery(relevant, [data.tensors], images=2, mean=MEAN.tolist(), std=STD.tolist()).portraits
    original_NCHW, seen = undo(data.tensors[0]), [one for one in shown if one.layer == "3"]
    assert seen
    for one in seen:
        for position, crop_CHW in zip(one.images_K, one.crops_KCHW, strict=True):
            blocks = original_NCHW[position].reshape(3, 128, 2, 128, 2)
            assert np.allclose(crop_CHW, blocks.mean((2, 4)), atol=1e-6)
        assert all(signals.shape[2:] == (128, 128) for signals in one.signals.values())


def test_the_whole_image_is_shown_where_a_field_is_larger() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 7, padding=3), nn.ReLU(), nn.Conv2d(4, 5, 7, padding=3), nn.Softplus())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    model, data = nn.Sequential(*layers, *head).eval(), Squares(11, count=9)
    relevant = tipping.relevant_filters(model, [data.tensors], 1e4)
    deep = [one for one in tipping.gallery(relevant, [data.tensors], per_class=9).portraits if one.layer == "2"]
    assert deep
    for one in deep:  # each value depends on 13 x 13 pixels
        assert np.array_equal(one.crops_KCHW, data.tensors[0][one.images_K])
        assert one.signals["guided"].shape == one.crops_KCHW.shape


def test_a_notebook_shows_names_and_images_as_they_were() -> None:
    data = Squares(12)
    for loader in (DataLoader(data, 10), DataLoader(Subset(data, range(30)), 10)):
        relevant = tipping.relevant_filters(Net(), loader, 3)
        seen = tipping.gallery(relevant, loader, images=2, mean=MEAN.tolist(), std=STD.tolist())
        assert {row["class"] for row in seen.rows()} <= set(data.classes)
        drawn = seen.pictures()
        assert drawn["class_2"].caption.startswith("class a blue one: ")
        assert all(0 <= one.crops_KCHW.min() <= one.crops_KCHW.max() <= 1 + 1e-6 for one in seen.portraits)
        assert max(one.crops_KCHW.max() for one in seen.portraits) == pytest.approx(1)
    other = tipping.gallery(relevant, loader, images=2, classes=["x", "y", "z"])
    assert {row["class"] for row in other.rows()} <= {"x", "y", "z"}
    assert min(one.crops_KCHW.min() for one in other.portraits) < 0, "normalised, as given"
    images = data.tensors[0][:2]
    why = tipping.explain(relevant, images, [0, 1], classes=data.classes, mean=MEAN.tolist(), std=STD.tolist())
    assert np.allclose(why.images[0].image_CHW, undo(images)[0])
    assert {row["label"] for row in why.rows()} <= {"red", "green"}
    assert {row["predicted"] for row in why.rows()} <= set(data.classes)
    assert repr(why).startswith(f"image 0: class {data.classes[why.images[0].predicted]}, by ")
    assert {row["label"] for row in tipping.explain(relevant, images, classes=data.classes).rows()} == {None}


def test_images_of_a_split_say_how_they_were_normalised() -> None:
    data = Squares(12)
    bytes_NCHW = (undo(data.tensors[0]) * 255).round().byte()
    split = Split(bytes_NCHW, data.tensors[1], Normalisation(tuple(MEAN.tolist()), tuple(STD.tolist())))
    relevant = tipping.relevant_filters(Net(), split, 3, classes=data.classes)
    seen, why = tipping.gallery(relevant, split, images=2), tipping.explain(relevant, split[:2])
    assert seen.classes == why.classes == list(data.classes)
    assert max(one.crops_KCHW.max() for one in seen.portraits) == pytest.approx(1)
    assert min(one.crops_KCHW.min() for one in seen.portraits) >= -1e-6
    assert [one.label for one in why.images] == [0, 1]
    assert np.allclose(why.images[1].image_CHW, bytes_NCHW[1] / 255, atol=1e-6)


def test_a_loader_s_names_that_do_not_fit_are_not_taken() -> None:
    data = Squares(12)
    data.classes = ("red", "green")  # type: ignore[assignment]
    loader = DataLoader(data, 10)
    relevant = tipping.relevant_filters(Net(), loader, 3)
    assert tipping.gallery(relevant, loader, images=1).classes is None
    with pytest.raises(tipping.InputError, match="classes=2 names: give one for each of 3 logits"):
        tipping.gallery(relevant, loader, classes=data.classes)
    with pytest.raises(tipping.InputError, match="classes=1 names: give one for each of 3 logits"):
        tipping.explain(relevant, data.tensors[0][:1], classes=["red"])
    with pytest.raises(tipping.InputError, match="mean, std: the images have 3 channels; give 1 or 3 numbers"):
        tipping.explain(relevant, data.tensors[0][:1], mean=[0.1, 0.2])
    data.classes = (("tench", "Tinca tinca"), ("goldfish",), ("shark", "x"))  # type: ignore[assignment]
    assert tipping.gallery(relevant, loader, images=1).classes == ["tench, Tinca tinca", "goldfish", "shark, x"]
