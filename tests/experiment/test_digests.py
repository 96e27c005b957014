"""A record is what it says: what was changed after it was written is not believed."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import SMALL, printed, rewrite

from tipping.experiment.records import UNREADABLE, read_record

LATER = ("files", "overrides", "presets", "digest")  # what records of schema 6 do without


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job of interpret, with pictures."""
    folder = tmp_path_factory.mktemp("job")
    places = [f"store.dir={folder / 'store'}", f"hydra.run.dir={folder / 'out'}", "tracking=off"]
    printed("interpret.py", *SMALL, "mu=5", *places)
    return folder / "out"


@pytest.fixture
def copy(job: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(job, tmp_path / "copy")
    return tmp_path / "copy"


def believed(folder: Path) -> bool:
    try:
        read_record(folder)
    except UNREADABLE:
        return False
    return True


def as_before_digests(folder: Path) -> None:
    """Make the record one of schema 6."""
    path = folder / "result.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**{key: record[key] for key in record if key not in LATER}, "schema": 6}, indent=1))


def test_no_changed_digit_is_believed(copy: Path) -> None:
    path, draw = copy / "result.json", random.Random(0)
    text = path.read_text()
    places = [place.start() for place in re.finditer(r"\d", text)]
    for _ in range(300):
        at = draw.choice(places)
        digit = draw.choice([one for one in "0123456789" if one != text[at]])
        path.write_text(text[:at] + digit + text[at + 1 :])
        same = json.dumps(json.loads(text)) == json.dumps(_or_none(path))  # a last digit that no float holds
        assert same or not believed(copy), text[at - 40 : at + 10]
    path.write_text(text)
    assert believed(copy)


def _or_none(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


ACCURACIES = r'"(?:intact|selected|chance|mu|seed|ablated)": [\d.]+|"(?:random|shared|weakest)": \[[^]]*\]'


def test_a_record_from_before_digests_is_read_and_its_accuracies_are_recomputed(copy: Path) -> None:
    as_before_digests(copy)
    assert read_record(copy).digest == ""
    path = copy / "result.json"
    text, changed = path.read_text(), 0
    seconds = re.search(r'"seconds": {[^}]*}', text)
    assert seconds is not None
    for found in re.finditer(ACCURACIES, text):
        if seconds.start() < found.start() < seconds.end():
            continue
        for digit in re.finditer(r"\d", found[0]):
            at = found.start() + digit.start()
            path.write_text(text[:at] + str((int(text[at]) + 5) % 10) + text[at + 1 :])
            if found[0].partition(":")[0] in ('"seed"', '"mu"') or abs(_number(found[0], at, path, found)) > 1e-6:
                assert not believed(copy), found[0]
                changed += 1
    assert changed > 50


def _number(before: str, at: int, path: Path, found: re.Match[str]) -> float:
    """How far the numbers of a text are from those that now are in their place."""
    after = path.read_text()[found.start() : found.end()]
    old, new = ([float(one) for one in re.findall(r"[\d.]+", text)] for text in (before, after))
    return max(abs(a - b) for a, b in zip(old, new, strict=True))


def without(name: str) -> Callable[[Path, Path], None]:
    return lambda copy, _: (copy / name).unlink()


def swapped(copy: Path, other: Path) -> None:
    """The predictions of another job, whole."""
    with np.load(copy / "predictions.npz") as held:
        arrays = dict(held)
    right_N = arrays["selected"] == arrays["labels"]
    arrays["selected"][right_N.argmax()] ^= 1  # one that was right, if any
    np.savez_compressed(other / "predictions.npz", **arrays)
    shutil.copy(other / "predictions.npz", copy / "predictions.npz")


def rewritten(copy: Path, _: Path) -> None:
    """The record of a program that reckons wrongly, with its digest."""
    accuracy = json.loads((copy / "result.json").read_text())["accuracy"]
    rewrite(copy, accuracy={**accuracy, "selected": accuracy["selected"] / 2})


def drawn_over(copy: Path, _: Path) -> None:
    picture = next((copy / "pictures").glob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")


def outside(copy: Path, _: Path) -> None:
    rewrite(copy, files={**json.loads((copy / "result.json").read_text())["files"], "../../x": "0"})


def unnamed(copy: Path, _: Path) -> None:
    rewrite(copy, files={})


SPOILT = [without("predictions.npz"), without("selection.npz"), swapped, rewritten, drawn_over, outside, unnamed]


@pytest.mark.parametrize("spoil", SPOILT)
def test_other_arrays_or_pictures_are_not_those_of_the_record(copy: Path, tmp_path: Path, spoil: Callable) -> None:
    assert believed(copy)
    spoil(copy, tmp_path)
    assert not believed(copy)


@pytest.mark.parametrize("spoil", [without("predictions.npz"), swapped])
def test_so_for_records_from_before_digests(copy: Path, tmp_path: Path, spoil: Callable) -> None:
    as_before_digests(copy)
    spoil(copy, tmp_path)
    assert not believed(copy)


def test_pictures_may_be_deleted_to_save_room(copy: Path) -> None:
    shutil.rmtree(copy / "pictures")
    assert believed(copy)
