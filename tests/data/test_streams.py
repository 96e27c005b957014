"""Images that are read when they are asked for: as those in memory, bit for bit, and never many of them at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from toys import filters_of

from tipping import data
from tipping.ablation import drop_curve, evaluate_ablations
from tipping.data import Batches, Dataset, Normalisation, Split, evaluation_batches
from tipping.data.streams import Rows, Streamed
from tipping.errors import InputError
from tipping.network import build
from tipping.network.training import evaluate, train
from tipping.selection import Measure, collect, mean_activations
from tipping.visualize import strongest_images

MODEL = {"_target_": "tipping.models.KerasCNN", "filters": 4, "depth": 2, "dropout": 0.5}
TRAINER = {"max_epochs": 2, "batch_size": 100, "learning_rate": 1e-3, "seed": 3}


class Photos(TorchDataset[Tensor]):
    """Image i is made anew from i each time."""

    def __init__(self, count: int = 700, change: Callable[[int, Tensor], object] = lambda _, image: image) -> None:
        self.count, self.change = count, change

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> object:
        pixels = np.random.default_rng(position).integers(256, size=(3, 6, 5), dtype=np.uint8)
        return self.change(position, torch.from_numpy(pixels))


def streamed(dataset: TorchDataset[Tensor], workers: int = 0, **options: object) -> Split:
    images = Streamed.from_dataset(dataset, "photos", workers)
    return Split(images, torch.arange(len(images)) % 4, **options)  # type: ignore[arg-type]


def digits(memory: int, workers: int = 0, **options: object) -> Dataset:
    return data.load("digits", memory=memory, workers=workers, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_split_is_the_one_in_memory(workers: int) -> None:
    split = streamed(Photos(), workers, normalisation=Normalisation((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    bytes_NCHW = torch.stack([Photos()[i] for i in range(700)])  # type: ignore[misc]
    mean, std = (torch.tensor(one)[:, None, None] for one in ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    images = (bytes_NCHW.float() / 255 - mean) / std
    assert len(split) == 700
    assert split.image_shape == (3, 6, 5)
    assert torch.equal(split.images_NCHW, images)
    chosen = torch.tensor([5, 3, 3, 699])
    for part in (slice(3, 400, 7), chosen):
        assert torch.equal(split[part].images_NCHW, images[part])
        assert torch.equal(split[part][1:3].images_NCHW, images[part][1:3])
        assert torch.equal(split[part].labels_N, split.labels_N[part])
    assert torch.equal(split.spread(9).images_NCHW, split.in_memory().spread(9).images_NCHW)
    for seed in (None, 7):
        both = (Batches(one, 64, seed) for one in (split, split.in_memory()))
        for (here, labels), (there, others) in zip(*both, strict=True):
            assert torch.equal(here, there)
            assert torch.equal(labels, others)
    assert torch.allclose(split.unnormalised(images), bytes_NCHW / 255, atol=1e-6)


def test_the_fingerprint_is_the_same_streamed_and_tells_content_order_and_normalisation() -> None:
    other = Photos(change=lambda position, image: image + (position == 600))
    split, brighter = streamed(Photos()), streamed(other)
    rows = Split(Streamed.from_dataset(Rows(split.images_NCHW), "rows"), split.labels_N)
    for again in ([split, split.in_memory()], [rows, rows.in_memory(), Split(split.images_NCHW, split.labels_N)]):
        assert len({one.fingerprint for one in again}) == 1
    normalised = streamed(Photos(), normalisation=Normalisation((0.5,), (1.0,)))
    others = [brighter, split[torch.arange(699, -1, -1)], split[:699], normalised, normalised.in_memory()]
    assert len({one.fingerprint for one in (split, *others)}) == 5
    assert normalised.fingerprint == normalised.in_memory().fingerprint


class Counted(Photos):
    """Counts how often it is read."""

    read = asked = 0

    def __getitem__(self, position: int) -> object:
        self.read += 1
        return super().__getitem__(position)


class Digested(Counted):
    """Says what its content is."""

    def digest(self) -> str:
        self.asked += 1
        return f"photos {self.count}"


@pytest.mark.parametrize(("kind", "read", "asked"), [(Counted, 700, 0), (Digested, 0, 1)])
def test_the_content_is_read_once_and_not_at_all_where_its_digest_is_known(
    kind: type[Counted], read: int, asked: int
) -> None:
    photos = kind()
    split = streamed(photos)
    photos.read = 0
    prints = [split.fingerprint, split[1:].fingerprint, split[torch.tensor([1, 0])].fingerprint]
    normalised = replace(split, normalisation=Normalisation((0.5,), (1.0,)))
    assert len({*prints, normalised.fingerprint}) == 4
    assert (photos.read, photos.asked) == (read, asked)
    assert split.in_memory()[1:].fingerprint == prints[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_network_streamed_and_in_memory(workers: int) -> None:
    """Also the same Gram matrix, predictions and mean activations."""
    weights, results = [], []
    for dataset in (digits(2000), digits(0, workers)):
        assert isinstance(dataset.train.images, Streamed if weights else Tensor)
        model = build(MODEL, dataset.image_shape, 10, seed=0)
        train(model, dataset, **TRAINER)  # type: ignore[arg-type]
        weights.append(model.state_dict())
        filters, few = filters_of(model), dataset.test.spread(200)
        problem, permuted = (collect(filters, dataset.train, Measure(labels=labels)) for labels in ("true", "permuted"))
        gone = [np.array([0, 5]), np.array([], dtype=int)]
        results.append(
            [
                problem.gram_FF,
                problem.cross_FC,
                permuted.cross_FC,
                torch.from_numpy(evaluate_ablations(filters, few, gone).astype(int)),
                mean_activations(filters, dataset.train),
                *strongest_images(filters, dataset.train, 3),
                torch.tensor(evaluate(model, dataset)),
            ]
        )
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_never_more_than_some_batches_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, alive, most = digits(0), 0, 0
    prepared = Split.prepared

    def counted(split: Split, images_NCHW: Tensor) -> Tensor:
        nonlocal alive, most
        images = prepared(split, images_NCHW.clone())
        alive += (count := len(images))
        most = max(most, alive)
        weakref.finalize(images, forget, count)
        return images

    def forget(count: int) -> None:
        nonlocal alive
        alive -= count

    monkeypatch.setattr(Split, "prepared", counted)
    model = build(MODEL, dataset.image_shape, 10, seed=0)
    train(model, dataset, **{**TRAINER, "max_epochs": 1})  # type: ignore[arg-type]
    filters = filters_of(model)
    collect(filters, dataset.train, Measure(labels="permuted"))
    strongest_images(filters, dataset.train, 5)
    drop_curve(filters, dataset.train, np.arange(4), [np.arange(4)], points=2)
    assert 100 <= most <= 17 * evaluation_batches(dataset.train).size < len(dataset.train)


def another(position: int, image: Tensor) -> Tensor:
    return image.flip(-1) if torch.rand(()) < 0.5 else image


@pytest.mark.parametrize("count", [1, 700])
def test_images_that_are_others_each_time_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=r"^photos: image \d+ is another one each time: leave out random transforms$"):
        streamed(Photos(count, another))


def broken(position: int, image: Tensor) -> object:
    if position == 333:
        raise OSError("no\nsuch file")
    return image


def narrow(position: int, image: Tensor) -> object:
    return image[..., :4] if position == 333 else image


def as_floats(position: int, image: Tensor) -> object:
    return image / 255 if position == 333 else image


def no_number(position: int, image: Tensor) -> object:
    return image / 255 * (float("nan") if position == 333 else 1)


def no_tensor(position: int, image: Tensor) -> object:
    return "an image" if position == 333 else image


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (broken, "cannot be read: no"),
        (narrow, r"is a torch.uint8 of shape \(3, 6, 4\), others a torch.uint8 of shape \(3, 6, 5\): give all in one"),
        (as_floats, "is a torch.float32 of shape"),
        (no_number, "has pixels that are not finite"),
        (no_tensor, "is a str, others"),
    ],
)
def test_an_image_that_is_unlike_the_others_is_named_in_one_line(
    workers: int, change: Callable[[int, Tensor], object], reason: str
) -> None:
    split = streamed(Photos(change=change), workers)
    with pytest.raises(InputError, match=rf"^photos: image 333 {reason}") as error:
        list(evaluation_batches(split))
    assert len(error.value.args[0].splitlines()) == 1


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("an image", "image 0 is a str: give a tensor"),
        (torch.zeros(4, 4), r"image 0 is a torch.float32 of shape \(4, 4\): give a tensor"),
        (torch.zeros(1, 4, 4, dtype=torch.float64), "image 0 is a torch.float64"),
    ],
)
def test_items_that_are_no_images_are_refused(item: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        streamed(Photos(change=lambda *_: item))
    with pytest.raises(InputError, match="photos: there are none"):
        streamed(Photos(0))


def test_bytes_are_the_floats_they_were() -> None:
    """As images were divided before they were kept as bytes."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    split = Split(images, torch.zeros(1, dtype=torch.long))
    assert torch.equal(split.images_NCHW, images.float().div_(255))
    assert split.fingerprint == Split(images.float().div_(255), split.labels_N).fingerprint
