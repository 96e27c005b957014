"""What is taken of a data set and done to it, and what of a whole data set is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import tipping
from tipping import data
from tipping.data import Dataset, Split
from tipping.data.choosing import check_images
from tipping.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MNIST = Path(os.environ.get("TIPPING_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """60 training and 12 test images of 6x5 pixels in colour, of three classes in turn."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_{kind}": rng.integers(256, size=(count, 3, 6, 5), dtype=np.uint8)
        if kind == "images"
        else of_three(count)
        for part, count in (("train", 60), ("test", 12))
        for kind in ("images", "labels")
    }
    np.savez(tmp_path / "colours.npz", **arrays, classes=np.array(["red", "green", "2"]))
    return tmp_path / "colours.npz"


def of_three(count: int) -> np.ndarray:
    return np.arange(count) % 3


def test_classes_are_chosen_by_name_or_number_in_the_order_given(colours: Path) -> None:
    whole = tipping.images("arrays", path=colours)
    assert whole.classes == ("red", "green", "2")
    for wanted, labels in ((["2", "red"], [2, 0]), ([2, 0], [2, 0]), (["green", 0, "2"], [1, 0, 2])):
        some = tipping.images("arrays", path=colours, classes=wanted)
        assert some.classes == tuple(whole.classes[label] for label in labels)
        for part, all_of_it in ((some.train, whole.train), (some.test, whole.test)):
            kept = [i for i, label in enumerate(all_of_it.labels_N.tolist()) if label in labels]
            assert part.labels_N.tolist() == [labels.index(label) for label in all_of_it.labels_N[kept].tolist()]
            assert torch.equal(part.images_NCHW, all_of_it[torch.tensor(kept)].images_NCHW)


def test_training_images_are_evenly_spaced_and_the_test_images_are_all(colours: Path) -> None:
    whole, few, more = (tipping.images("arrays", path=colours, images=count) for count in (0, 7, 999))
    assert torch.equal(few.train.images_NCHW, whole.train.spread(7).images_NCHW)
    assert (len(few.train), len(few.test), len(more.train)) == (7, 12, 60)


def test_the_labels_may_be_logits_of_a_network_that_has_more(colours: Path) -> None:
    dataset = tipping.images("arrays", path=colours, labels=[4, 0, 7], classes=["2", "red", "green"])
    assert dataset.classes == ("red", "logit 1", "logit 2", "logit 3", "2", "logit 5", "logit 6", "green")
    assert dataset.logits == (4, 0, 7)
    assert dataset.test.labels_N.tolist() == [0, 7, 4] * 4


@pytest.mark.parametrize("memory", [0, 2000])
@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [(0.5, 0.25, ((0.5,), (0.25,))), ([0.1, 0.2, 0.3], 2, ((0.1, 0.2, 0.3), (2,))), ("imagenet", "imagenet", IMAGENET)],
)
def test_images_are_normalised_once_and_can_be_shown_as_they_were(
    colours: Path, mean: object, std: object, expected: tuple[tuple[float, ...], ...], memory: int
) -> None:
    plain = tipping.images("arrays", path=colours)
    dataset = tipping.images("arrays", path=colours, mean=mean, std=std, memory=memory, workers=0)  # type: ignore[arg-type]
    mean_C, std_C = (np.array(one, np.float32)[:, None, None] for one in expected)
    images = (plain.test.images_NCHW.numpy() - mean_C) / std_C
    assert np.array_equal(dataset.test.images_NCHW.numpy(), images)
    assert np.allclose(dataset.test.unnormalised(torch.from_numpy(images)), plain.test.images_NCHW, atol=1e-6)
    assert dataset.train.fingerprint != plain.train.fingerprint


def test_the_fingerprint_tells_classes_images_and_normalisation_and_not_where_images_are(colours: Path) -> None:
    others = ({}, {"classes": ["red", "2"]}, {"classes": ["2", "red"]}, {"images": 30}, {"mean": 0.1}, {"std": 2})
    prints = [
        {
            tipping.images("arrays", path=colours, memory=memory, workers=0, **other).train.fingerprint
            for memory in (0, 9)
        }
        for other in others
    ]
    assert [len(one) for one in prints] == [1] * len(others)
    assert len(set.union(*prints)) == len(others)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["red", "blue"]}, "data.classes: no class is blue; give some of red, green, 2"),
        ({"classes": ["red", 3]}, "data.classes: no class is 3; give some"),
        ({"classes": ["red"]}, r"data.classes=\[red\]: give two classes or more"),
        ({"classes": ["red", 0]}, r"data.classes=\[red,0\]: give each class once"),
        ({"labels": [1, 2]}, r"data.labels=\[1,2\]: give 3, one for each class"),
        ({"labels": [1, 2, 2]}, "data.labels"),
        ({"labels": [1, 2, -1]}, "data.labels.*give numbers of logits"),
        ({"mean": [0.1, 0.2]}, r"data.mean=\[0.1, 0.2\]: the images have 3 channels; give 1 or 3 numbers"),
        ({"std": [1, 1, 0]}, r"data.std=\[1, 1, 0\]: give numbers over 0"),
        ({"std": 0}, "data.std=0: give numbers over 0"),
        ({"mean": "digits"}, "data.mean=digits: give a number, a list of them, or imagenet"),
        ({"mean": []}, r"data.mean=\[\]: give a number"),
        ({"mean": float("nan")}, "data.mean=nan: give a number"),
        ({"mean": "imagenet"}, "data.std is not imagenet, but the other is"),
        ({"images": -1}, "data.images=-1: give a whole number"),
        ({"memory": 1.5}, "data.memory=1.5: give a whole number"),
        ({"images": 2}, "the class 1 has test images but none to train on|the class green has test images but none"),
    ],
)
def test_what_does_not_suit_the_images_is_refused_in_one_line(
    colours: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        tipping.images("arrays", path=colours, **options)  # type: ignore[arg-type]
    assert len(error.value.args[0].splitlines()) == 1


def test_imagenet_is_for_three_channels() -> None:
    with pytest.raises(InputError, match=r"data.mean=imagenet: the images have 1 channels; give 1 or 1 numbers"):
        data.load("digits", mean="imagenet", std="imagenet")


def dataset(classes: str = "ab", **changes: object) -> Dataset:
    """Twelve images of two classes to train on, and six to test."""
    parts: dict[str, torch.Tensor] = {"train": torch.rand(12, 1, 4, 4), "test": torch.rand(6, 1, 4, 4)}
    labels = {"train_labels": torch.arange(12) % 2, "test_labels": torch.arange(6) % 2}
    held = {**parts, **labels, **changes}
    train, test = (Split(held[part], held[f"{part}_labels"]) for part in parts)  # type: ignore[arg-type]
    return Dataset("mine", train, test, tuple(classes))


UNKNOWN = torch.tensor([0, 1, 0, 1, 0, 2])


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (dataset("a"), "mine has only the class a: give images of two or more classes"),
        (dataset("aa"), "two classes|2 classes with the name a"),
        (dataset(test_labels=UNKNOWN), "data=mine, test images: label 5 is 2: labels of 2 classes go from 0 to 1"),
        (dataset(test_labels=UNKNOWN - 1), "data=mine, test images: label 0 is -1"),
        (dataset("abc", test_labels=UNKNOWN), "data=mine: the class c has test images but none to train on"),
        (dataset(test=torch.rand(6, 1, 4, 5)), "training and test images are of different sizes"),
        (dataset(test=torch.rand(6, 3, 4, 4)), "training and test images are of different sizes"),
        (dataset(train=torch.zeros(0, 1, 4, 4), train_labels=torch.zeros(0).long()), "training images: there are none"),
        (dataset(train=torch.full((12, 1, 4, 4), torch.nan)), "image 0 has pixels that are not finite"),
        (dataset(test=torch.eye(6)[:, None, :, None] / 0.0), "test images: image 0 has pixels that are not finite"),
    ],
)
def test_data_sets_that_do_not_hold_together_are_refused_in_one_line(whole: Dataset, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_images(whole)
    assert len(error.value.args[0].splitlines()) == 1
    check_images(dataset())
    check_images(dataset("abc"))  # a class without images


FINGERPRINTS = {  # from when images were kept as floats: stores know networks by them
    "digits": ("5bb1975aa170dc1f", "b2c1cbaa0cd3bcb2"),
    "planted": ("977d511849c211db", "bdffce867cf21b5a"),
    "mnist": ("cd951887fcb31f2b", "ff159e8c82027595"),
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_images_are_known_as_before(name: str) -> None:
    if name == "mnist" and not (MNIST / "MNIST").exists():
        pytest.skip("MNIST is not at hand: TIPPING_DATA names its folder")
    loaded = data.load(name, MNIST)
    assert (loaded.train.fingerprint[:16], loaded.test.fingerprint[:16]) == FINGERPRINTS[name]
    assert data.content_digests(name, MNIST) == {}


def test_the_content_of_ones_own_images_is_told_once_a_process(colours: Path) -> None:
    from tipping.data import sources

    before = data.content_digests("arrays", path=colours, images=5, mean=0.3)
    assert before == data.content_digests("arrays", path=colours)
    assert before.keys() == {"train", "test"}
    with np.load(colours) as held:
        arrays = dict(held)
    arrays["test_images"][3] ^= 1
    np.savez(colours, **arrays)
    assert data.content_digests("arrays", path=colours) == before
    sources.forget()
    after = data.content_digests("arrays", path=colours)
    assert (after["train"] == before["train"], after["test"] == before["test"]) == (True, False)
