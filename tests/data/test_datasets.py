from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from image_files import pixels
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from tipping.data.datasets import read_datasets
from tipping.data.labelled import Labelled
from tipping.errors import InputError

IMAGES = np.stack([pixels((6, 5, 3), seed) for seed in range(9)])
LABELS = [0, 1, 2, 2, 1, 0, 0, 1, 2]


class Own:
    """What a user writes: items by position, and the positions of those that were read."""

    def __init__(self, item: Callable[[int], Any], count: int = 9, **kept: Any) -> None:
        self.item, self.count, self.read = item, count, []
        self.__dict__ |= kept

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.item(index)


def stacked(split: Labelled) -> np.ndarray:
    return torch.stack([split.images[index] for index in range(len(split))]).numpy()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "Pillow": lambda image: Image.fromarray(image),
    "with alpha": lambda image: Image.fromarray(np.dstack([image, image[..., 0]])),
    "array": lambda image: image,
    "channels first": lambda image: image.transpose(2, 0, 1),
    "tensor": lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy()),
    "tensor of floats": lambda image: torch.from_numpy(image.transpose(2, 0, 1) / 255),
    "floats": lambda image: (image / 255).astype(np.float32),
}
ITEMS: dict[str, Callable[[Any, Any], Any]] = {
    "pair": lambda image, label: (image, label),
    "list": lambda image, label: [image, label],
    "with more": lambda image, label: (image, label, "name.png"),
    "image and label": lambda image, label: {"image": image, "label": label},
    "img and fine_label": lambda image, label: {"img": image, "coarse_label": 0, "fine_label": label},
}
KINDS: dict[str, Callable[[int], Any]] = {"int": int, "numpy": np.int16, "tensor": torch.tensor, "float": float}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_all_forms_are_the_same_pixels(form: str) -> None:
    own = Own(lambda index: (FORMS[form](IMAGES[index]), LABELS[index]))
    train, test, classes = read_datasets((own, own), "my.make")
    expected = IMAGES.transpose(0, 3, 1, 2)
    for split in (train, test):
        if "floats" in form:
            assert stacked(split).dtype == np.float32
            assert np.allclose(stacked(split), expected / 255, rtol=0, atol=1e-7)
        else:
            assert np.array_equal(stacked(split), expected)
        assert split.labels_N.tolist() == LABELS
    assert classes == ("0", "1", "2")


@pytest.mark.parametrize("form", ["L", "1", "LA", "array", "tensor"])
def test_grey_images_have_one_channel(form: str) -> None:
    grey = IMAGES[..., 0]

    def image(index: int) -> Any:
        if form in ("array", "tensor"):
            return grey[index] if form == "array" else torch.from_numpy(grey[index])
        return Image.fromarray(grey[index]).convert(form, dither=Image.Dither.NONE)

    own = Own(lambda index: (image(index), LABELS[index]))
    expected = np.where(grey > 127, 255, 0) if form == "1" else grey
    assert np.array_equal(stacked(read_datasets((own, own), "my.make")[0]), expected[:, None])


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("label", KINDS)
def test_items_and_labels_of_all_forms_are_taken(item: str, label: str) -> None:
    own = Own(lambda index: ITEMS[item](IMAGES[index], KINDS[label](LABELS[index])))
    train, *_ = read_datasets({"train": own, "validation": own}, "my.make")
    assert train.labels_N.tolist() == LABELS
    assert train.labels_N.dtype == torch.int64
    assert np.array_equal(stacked(train), IMAGES.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "made",
    [
        lambda one, other: (one, other),
        lambda one, other: [one, other],
        lambda one, other: {"train": one, "test": other, "validation": one},
        lambda one, other: {"train": one, "val": other},
        lambda one, other: {"valid": other, "unlabelled": None, "train": one},
    ],
)
def test_training_and_test_images_come_as_a_pair_or_by_name(made: Callable[[Any, Any], Any]) -> None:
    one, other = (Own(lambda index: (IMAGES[index], index % 2), count) for count in (9, 4))
    train, test, _ = read_datasets(made(one, other), "my.make")
    assert (len(train), len(test)) == (9, 4)


@pytest.mark.parametrize("kept", ["targets", "labels"])
@pytest.mark.parametrize("array", [list, np.array, torch.tensor, lambda labels: np.array(labels, float)])
def test_labels_that_are_kept_apart_are_read_with_one_image_of_each_class(kept: str, array: Any) -> None:
    own = Own(lambda index: (IMAGES[index], LABELS[index]), **{kept: array(LABELS)})
    train, *_ = read_datasets((own, own), "my.make")
    assert train.labels_N.tolist() == LABELS
    assert len(own.read) == 2 * 3
    assert {LABELS[index] for index in own.read} == {0, 1, 2}


@pytest.mark.parametrize(
    "kept",
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 1],  # another numbering
        [0, 1, 2],  # of other images
        ["a"] * 9,
        [[0, 1]] * 9,
        [[0]] * 8 + [[0, 1]],
        [-1] * 9,
        [0, 1, 2, 2, 1, 0, 0, 1, 10**9],
        [0.5] * 9,
        [float("nan")] * 9,
        None,
        "labels",
    ],
)
def test_labels_that_are_kept_apart_but_are_other_ones_do_not_count(kept: Any) -> None:
    own = Own(lambda index: (IMAGES[index], LABELS[index]), targets=kept)
    assert read_datasets((own, own), "my.make")[0].labels_N.tolist() == LABELS


def test_subsets_and_concatenations_keep_labels_and_names() -> None:
    class Named(TensorDataset):
        classes = ("cat", "dog", "emu")

    whole = Named(torch.from_numpy(IMAGES), torch.tensor(LABELS))
    order = [8, 3, 4, 0, 1]
    subset = Subset(whole, order)
    both = ConcatDataset([subset, whole])
    train, test, classes = read_datasets((both, subset), "my.make")
    assert classes == ("cat", "dog", "emu")
    assert test.labels_N.tolist() == [LABELS[index] for index in order]
    assert train.labels_N.tolist() == [*test.labels_N.tolist(), *LABELS]
    assert np.array_equal(stacked(test), IMAGES[order].transpose(0, 3, 1, 2))


def test_labels_of_a_subset_are_read_with_one_image_of_each_class() -> None:
    whole = own(targets=LABELS)
    subset = Subset(whole, [8, 3, 4, 0, 1])  # type: ignore[arg-type]
    assert read_datasets((subset, subset), "my.make")[1].labels_N.tolist() == [2, 2, 1, 0, 1]
    assert len(whole.read) == 2 * 3


def test_names_of_several_words_are_one_text() -> None:
    own = Own(lambda index: (IMAGES[index], LABELS[index]), classes=[("maillot", "tank suit"), ("crane",), "bird"])
    assert read_datasets((own, own), "my.make")[2] == ("maillot, tank suit", "crane", "bird")


def test_a_digest_of_the_dataset_is_taken_and_none_made_up() -> None:
    own = Own(lambda index: (IMAGES[index], LABELS[index]))
    digested = Own(lambda index: (IMAGES[index], LABELS[index]), digest=lambda: "abc")
    train, test, _ = read_datasets((own, digested), "my.make")
    assert not hasattr(train.images, "digest")
    assert test.images.digest() == "abc"


def test_worker_processes_read_images_of_a_dataset() -> None:
    own = TensorDataset(torch.from_numpy(IMAGES), torch.tensor(LABELS))
    train, *_ = read_datasets((own, own), "my.make")
    read = torch.cat(list(DataLoader(train.images, batch_size=4, num_workers=2)))
    assert np.array_equal(read.numpy(), IMAGES.transpose(0, 3, 1, 2))


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter([(IMAGES[0], 0)])


GOOD = Own(lambda index: (IMAGES[index], LABELS[index]))
PAIRS = {
    "one": (GOOD, "my.make gives a Own: give .training, test. Datasets, or a dictionary with train and test"),
    "three": ((GOOD, GOOD, GOOD), "my.make gives a tuple: give .training, test. Datasets"),
    "none": (None, "my.make gives a NoneType: give"),
    "no test": ({"train": GOOD}, "my.make gives a dictionary with train: give train and one of test, val, validation"),
    "no train": ({"test": GOOD}, "my.make gives a dictionary with test: give train"),
    "empty": ({}, "my.make gives a dictionary with nothing: give train"),
    "stream": (
        (Stream(), GOOD),
        "my.make .training. is a Stream, whose images cannot be read by their positions: give a",
    ),
    "iterator": ((GOOD, iter([])), "my.make .test. is a list_iterator, whose images cannot be read by their positions"),
    "loader": ((DataLoader(GOOD), GOOD), "my.make .training. is a DataLoader: give its Dataset"),  # type: ignore[arg-type]
    "no images": ((GOOD, []), "my.make .test. has no images: give some"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_what_is_no_pair_of_datasets_is_refused_in_one_line(case: str) -> None:
    made, culprit = PAIRS[case]
    with pytest.raises(InputError, match=culprit) as error:
        read_datasets(made, "my.make")
    assert "\n" not in str(error.value)


def fails(index: int) -> Any:
    raise OSError("image file is truncated\nat the end")


def at_five(item: Any) -> Callable[[int], Any]:
    return lambda index: item if index == 5 else (IMAGES[index], LABELS[index])


class Unreadable(Image.Image):
    def convert(self, *_: Any, **__: Any) -> Any:
        raise OSError("image file is truncated (3 bytes not processed)")


SCALED = (IMAGES[5] / 255).astype(np.float32)
ITEM_5 = {
    "fails": (fails, r"\(test\): image 0 cannot be read \(image file is truncated\): mend the Dataset"),
    "no label": (at_five(IMAGES[5]), r"\(test\): item 5 is of type uint8: give \(image, label\), or a dictionary"),
    "only an image": (at_five((IMAGES[5],)), r"\(test\): item 5 is a tuple: give \(image, label\)"),
    "another key": (at_five({"image": IMAGES[5], "class": 0}), r"item 5 is a dictionary with image, class: give"),
    "word": (at_five((IMAGES[5], "cat")), r"\(test\): label 5 is cat: give whole numbers from 0"),
    "one-hot": (at_five((IMAGES[5], torch.eye(3)[0])), r"\(test\): label 5 is of type torch.float32: give whole"),
    "fraction": (at_five((IMAGES[5], 0.5)), r"\(test\): label 5 is 0.5: give whole numbers"),
    "nan": (at_five((IMAGES[5], float("nan"))), r"\(test\): label 5 is nan: give whole numbers"),
    "negative": (at_five((IMAGES[5], -1)), r"\(test\): label 5 is -1: give whole numbers"),
    "missing label": (at_five((IMAGES[5], None)), r"\(test\): label 5 is a NoneType: give whole numbers"),
    "outside": (at_five((IMAGES[5], 3)), r"\(test\): label 5 is 3: labels of 3 classes go from 0 to 2"),
    "path": (at_five(("a.png", 0)), r"\(test\): image 5 is a str: give an image of Pillow, an array or a tensor"),
    "missing image": (at_five((None, 0)), r"\(test\): image 5 is a NoneType: give an image of Pillow"),
    "integers": (at_five((IMAGES[5].astype(int), 0)), r"\(test\): image 5 is of type int64: give uint8, or floats"),
    "channels": (at_five((IMAGES[5][..., :2], 0)), r"\(test\): image 5 has pixels of shape \(6, 5, 2\): give \(H, W\)"),
    "normalised": (
        at_five((SCALED * 4 - 2, 0)),
        r"\(test\): image 5 has the pixel -?[\d.]+, and not floats from 0 to 1: leave out Normalize, or give uint8",
    ),
    "not a number": (at_five((SCALED * np.float32("nan"), 0)), r"image 5 has the pixel nan, .*: mend or remove it"),
    "deep": (at_five((Image.fromarray(SCALED[..., 0]), 0)), r"image 5 has pixels neither of 8 nor of 16 bits: replace"),
    "truncated": (at_five((Unreadable(), 0)), r"image 5 .*: replace or remove it"),
}


@pytest.mark.parametrize("case", ITEM_5)
def test_bad_items_are_refused_by_their_position_in_one_line(case: str) -> None:
    item, culprit = ITEM_5[case]
    with pytest.raises(InputError, match=culprit) as error:
        stacked(read_datasets((GOOD, Own(item)), "my.make")[1])
    assert str(error.value).startswith("my.make (test): ")
    assert "\n" not in str(error.value)


def own(**options: Any) -> Own:
    return Own(lambda index: (IMAGES[index], LABELS[index]), **options)


CLASSES = {
    "one": (own(classes=["cat"]), own(), "my.make has only the class cat: give images of two or more"),
    "few": (
        own(classes=["cat", "dog"]),
        own(),
        r"my.make \(training\): label 2 is 2: labels of 2 classes go from",
    ),
    "same": (own(classes=["cat", "dog", "cat"]), own(), "my.make has 2 classes with the name cat"),
    "order": (
        own(classes=["cat", "dog", "emu"]),
        own(classes=["cat", "emu", "dog"]),
        "my.make: class 1 is dog in training and emu in test: give both in one order",
    ),
    "more": (
        own(classes=["cat", "dog", "emu"]),
        own(classes=["cat", "dog", "emu", "yak"]),
        "my.make has 3 classes in training and 4 in test: give the same in both",
    ),
    "untrained": (
        own(count=2, classes=["cat", "dog", "emu"]),
        own(),
        r"my.make \(test\): label 2 is 2, which no",
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes_that_do_not_agree_are_refused_in_one_line(case: str) -> None:
    train, test, culprit = CLASSES[case]
    with pytest.raises(InputError, match=culprit) as error:
        read_datasets((train, test), "my.make")
    assert "\n" not in str(error.value)
