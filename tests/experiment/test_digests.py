"""A record is what it says: what was changed after it was written is not believed."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import SMALL, printed, rewrite

from tipping.experiment.records import UNREADABLE, read_record
from tipping.experiment.standing import read_standing

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


@pytest.mark.parametrize("text", ['"digest"', '["digest"]', "7", "null", "true", "[]", '""', "{}"])
def test_json_that_is_no_object_is_no_record(copy: Path, text: str) -> None:
    (copy / "result.json").write_text(text)
    assert not believed(copy)
    assert not read_standing(copy).finished


@pytest.mark.parametrize("sign", ["-", "(", "[", "not ", "{1:"])
def test_a_header_that_python_cannot_parse_is_no_array(copy: Path, sign: str) -> None:
    text = (sign * 9000)[:9000].encode()
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(copy / "predictions.npz", "w") as parts:
        parts.writestr("labels.npy", content)
    files = json.loads((copy / "result.json").read_text())["files"]
    digest = hashlib.sha256((copy / "predictions.npz").read_bytes()).hexdigest()
    rewrite(copy, files={**files, "predictions.npz": digest})
    assert not believed(copy)
    assert "damaged" in read_standing(copy).why


@pytest.mark.parametrize("name", ["result.json", "selection.npz", "predictions.npz"])
def test_a_folder_in_the_place_of_a_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / name).mkdir()
    assert not believed(copy)
    assert f"{copy / name} is no regular file" in read_standing(copy).why


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


def other_filters(copy: Path, _: Path) -> None:
    filters = json.loads((copy / "result.json").read_text())["filters"]
    rewrite(copy, filters={**filters, "relevant": filters["relevant"] + 1, "total": 999})


def other_layers(copy: Path, _: Path) -> None:
    filters = json.loads((copy / "result.json").read_text())["filters"]
    rewrite(copy, filters={**filters, "per_layer": {"x": filters["ablated"]}})


def outside(copy: Path, _: Path) -> None:
    rewrite(copy, files={**json.loads((copy / "result.json").read_text())["files"], "../../x": "0"})


def unnamed(copy: Path, _: Path) -> None:
    rewrite(copy, files={})


SPOILT = [
    without("predictions.npz"),
    without("selection.npz"),
    swapped,
    rewritten,
    other_filters,
    other_layers,
    outside,
    unnamed,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_other_arrays_are_not_those_of_the_record(copy: Path, tmp_path: Path, spoil: Callable) -> None:
    assert believed(copy)
    spoil(copy, tmp_path)
    assert not believed(copy)


@pytest.mark.parametrize("spoil", [without("predictions.npz"), swapped])
def test_so_for_records_from_before_digests(copy: Path, tmp_path: Path, spoil: Callable) -> None:
    as_before_digests(copy)
    spoil(copy, tmp_path)
    assert not believed(copy)


def test_a_job_with_another_picture_is_not_done_and_can_be_read(copy: Path, tmp_path: Path) -> None:
    assert read_standing(copy).finished
    drawn_over(copy, tmp_path)
    assert believed(copy)
    assert re.fullmatch(r"pictures/\w+\.png is not what was written", read_standing(copy).why)


def test_pictures_may_be_deleted_to_save_room(copy: Path) -> None:
    shutil.rmtree(copy / "pictures")
    assert believed(copy)
