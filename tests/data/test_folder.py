from __future__ import annotations

import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import pixels, write_images
from PIL import Image
from torch.utils.data import DataLoader

from tipping.data.decoding import Preparation, decode
from tipping.data.folder import FolderImages, read_image_folder
from tipping.data.labelled import Labelled
from tipping.errors import InputError


def stacked(split: Labelled) -> torch.Tensor:
    assert isinstance(split.images, FolderImages)
    return torch.stack([split.images[index] for index in range(len(split))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "animals")


def test_a_folder_gives_the_pixels_that_were_written(folder: Path) -> None:
    train, test, classes = read_image_folder(folder)
    assert classes == ("cat", "dog", "emu")
    assert train.labels_N.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.labels_N.dtype == torch.int64
    files = [folder / "train" / name / f"{number}.png" for name in classes for number in range(4)]
    plain = np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)
    assert np.array_equal(stacked(train).numpy(), plain)


def test_a_size_of_two_numbers_is_covered_and_then_cut(tmp_path: Path) -> None:
    place = write_images(tmp_path, size=(30, 50))
    train, *_ = read_image_folder(place, size=(12, 24))
    image = Image.open(place / "train" / "cat" / "0.png")
    resized = np.asarray(image.resize((24, 24 * 30 // 50), Image.Resampling.BILINEAR))
    assert np.array_equal(stacked(train)[0].numpy(), resized[1:13].transpose(2, 0, 1))


def test_resizing_to_half_averages_over_all_pixels(tmp_path: Path) -> None:
    """By the definition: a triangle of twice the width, at each border without what lies outside."""
    row = np.random.default_rng(0).integers(256, size=16)
    Image.fromarray(np.tile(row, (16, 1)).astype(np.uint8)).save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png", Preparation(1, size=8))
    centres, places = (np.arange(8)[:, None] + 0.5) * 2, np.arange(16) + 0.5
    weights = np.maximum(0, 1 - np.abs(places - centres) / 2)
    expected = weights @ row / weights.sum(1)
    assert np.abs(image[0].numpy() - expected).max() <= 1, "bytes, rounded twice"


def test_other_modes_become_grey_and_colour_by_their_definition(tmp_path: Path) -> None:
    rgb = pixels((6, 5, 3))
    grey16 = np.random.default_rng(0).integers(2**16, size=(6, 5)).astype(np.uint16)
    palette = Image.fromarray(pixels((6, 5)) % 4).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 10, 20, 30, 200, 200, 0])
    colours = np.array(palette.getpalette("RGB")).reshape(-1, 3)[np.asarray(palette)]
    cmyk = Image.merge("CMYK", [Image.fromarray(pixels((6, 5), ink)) for ink in range(4)])
    inks = np.asarray(cmyk).astype(int)
    through = np.round((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255)
    written = {
        "rgba.png": (Image.fromarray(np.dstack([rgb, pixels((6, 5), 3)])), rgb),
        "la.png": (Image.fromarray(rgb[..., :2].copy()), np.repeat(rgb[..., :1], 3, 2)),
        "16.png": (Image.fromarray(grey16), np.repeat((grey16 // 256)[..., None], 3, 2)),
        "16.tif": (Image.fromarray(grey16), np.repeat((grey16 // 256)[..., None], 3, 2)),
        "palette.gif": (palette, colours),
        "palette.png": (palette, colours),
        "bits.png": (Image.fromarray(rgb[..., 0] > 99), np.repeat(np.where(rgb[..., :1] > 99, 255, 0), 3, 2)),
        "cmyk.tif": (cmyk, through),
    }
    for name, (image, expected) in written.items():
        options = {"transparency": bytes([0, 255, 128, 7])} if name == "palette.png" else {}
        image.save(tmp_path / name, **options)
        colour = decode(tmp_path / name, Preparation(3)).numpy().transpose(1, 2, 0).astype(int)
        assert np.abs(colour - expected).max() <= (name == "cmyk.tif"), name
        grey = decode(tmp_path / name, Preparation(1))[0].numpy()
        assert np.abs(grey - colour @ [0.299, 0.587, 0.114]).max() <= 1, name


def sixteen_bits_of_colour(path: Path, rgb16: np.ndarray) -> None:
    """Write a PNG of 16 bits a channel, which Pillow cannot write."""
    height, width, _ = rgb16.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb16)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_of_sixteen_bits_the_upper_eight_count_in_grey_as_in_colour(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb16 = rng.integers(2**16, size=(4, 3, 3))
    sixteen_bits_of_colour(tmp_path / "a.png", rgb16)
    assert np.array_equal(decode(tmp_path / "a.png", Preparation()).permute(1, 2, 0).numpy(), rgb16 // 256)


def test_grey_of_twelve_bits_is_refused_as_its_upper_eight_would_be_dark(tmp_path: Path) -> None:
    """A TIFF of 2 x 1 pixels, which Pillow reads as of 16 bits and cannot write: its tags, and three bytes."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 130, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(130, b"\0") + b"\xff\xf0\x00" + bytes(10))
    assert np.asarray(Image.open(tmp_path / "a.tif")).tolist() == [[4095, 0]]
    with pytest.raises(InputError, match=r"a.tif has pixels neither of 8 nor of 16 bits"):
        decode(tmp_path / "a.tif", Preparation())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_as_their_exif_data_say(tmp_path: Path, turn: int, suffix: str) -> None:
    """The definition of the standard: at which sides the first row and the first column are seen."""
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, :8, 0] = 255  # red at the left
    upright[:4, :, 1] = 255  # green at the top
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    for part in ("train/a", "train/b", "test/a"):
        (tmp_path / part).mkdir(parents=True)
        image = Image.fromarray(np.ascontiguousarray(stored))
        image.save(tmp_path / part / f"0{suffix}", exif=exif, **options)
    train, *_ = read_image_folder(tmp_path)
    assert np.abs(stacked(train)[0].permute(1, 2, 0).numpy().astype(int) - upright).max() <= 3
    assert train.images.shape == (8, 16)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert decode(tmp_path / name, Preparation())[:, 0, 0].tolist() == [255, 0, 0]


def test_a_share_of_each_class_is_for_tests_whatever_else_there_is(tmp_path: Path) -> None:
    place = write_images(tmp_path, counts={"": 10})

    def files(split: Labelled) -> list[str]:
        return [str(split.images.path(index).relative_to(place)) for index in range(len(split))]

    train, test, classes = read_image_folder(place, test_share=0.25, seed=3)
    assert classes == ("cat", "dog", "emu")
    assert torch.bincount(train.labels_N).tolist() == [7] * 3, "2.5 of 10 are rounded up"
    assert torch.bincount(test.labels_N).tolist() == [3] * 3
    assert sorted(files(train) + files(test)) == [f"{name}/{number}.png" for name in classes for number in range(10)]
    assert files(train) == sorted(files(train))
    assert files(read_image_folder(place, test_share=0.25, seed=3)[1]) == files(test)
    assert files(read_image_folder(place, test_share=0.25, seed=4)[1]) != files(test)
    known = [*("cat/2.png", "cat/4.png", "cat/7.png"), *("dog/1.png", "dog/2.png", "dog/6.png")]  # by sha256sum
    known += ["emu/0.png", "emu/2.png", "emu/7.png"]
    assert files(test) == known, "on each machine"
    shutil.rmtree(place / "cat")
    assert files(read_image_folder(place, test_share=0.25, seed=3)[1]) == files(test)[3:]


def test_hidden_files_are_left_out_and_links_followed(tmp_path: Path) -> None:
    place = write_images(tmp_path / "animals")
    plain = stacked(read_image_folder(place)[0])
    (place / ".git").mkdir()
    (place / "train" / ".DS_Store").write_bytes(b"x")
    (place / "train" / "cat" / "._0.png").write_bytes(b"x")
    (place / "train" / "readme.txt").write_text("beside the classes, other files do no harm")
    shutil.move(place / "train" / "dog", tmp_path / "elsewhere")
    (place / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    shutil.move(place / "train" / "emu" / "1.png", tmp_path / "one.png")
    (place / "train" / "emu" / "1.png").symlink_to(tmp_path / "one.png")
    assert torch.equal(stacked(read_image_folder(place)[0]), plain)


@pytest.mark.parametrize("names", [("val",), ("validation",), ("test", "val"), ("val", "validation")])
def test_the_folder_of_test_images_may_have_another_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    place = write_images(tmp_path, counts={"train": 1, **{name: 2 + number for number, name in enumerate(names)}})
    assert len(read_image_folder(place)[1]) == 6


def test_worker_processes_read_the_same_images(folder: Path) -> None:
    train, *_ = read_image_folder(folder, size=8)
    read = list(DataLoader(train.images, batch_size=5, num_workers=2))
    assert torch.equal(torch.cat(read), stacked(train))
    assert torch.equal(pickle.loads(pickle.dumps(train.images))[3], train.images[3])


def test_the_digest_sees_each_byte_the_order_and_what_is_done(folder: Path, tmp_path: Path) -> None:
    digest = read_image_folder(folder)[0].images.digest()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert read_image_folder(copy)[0].images.digest() == digest, "neither place nor times count"
    assert (
        read_image_folder(folder, size=(8, 8))[0].images.digest()
        == read_image_folder(folder, size=8)[0].images.digest()
    )
    changed = ({"channels": 1}, {"size": 8}, {"size": 9}, {"crop": 8})
    digests = {digest, *(read_image_folder(folder, **options)[0].images.digest() for options in changed)}
    (copy / "train" / "cat" / "1.png").rename(copy / "train" / "cat" / "9.png")
    digests.add(read_image_folder(copy)[0].images.digest())
    Image.fromarray(pixels((12, 10, 3))).save(copy / "train" / "emu" / "3.png")
    digests.add(read_image_folder(copy)[0].images.digest())
    assert len(digests) == 7


def spoil_empty_class(folder: Path) -> str:
    (folder / "train" / "yak").mkdir()
    return "train/yak holds no images: add some, or remove it"


def spoil_text(folder: Path) -> str:
    (folder / "test" / "cat" / "Thumbs.db").write_bytes(b"x")
    return "test/cat/Thumbs.db is no image by its name: remove it, or put a dot before it"


def spoil_content(folder: Path) -> str:
    (folder / "test" / "cat" / "1.png").write_text("no image")
    return "test/cat/1.png is no image that Pillow reads: replace it, or remove it"


def spoil_empty_file(folder: Path) -> str:
    (folder / "test" / "cat" / "1.png").write_bytes(b"")
    return "test/cat/1.png is no image that Pillow reads: replace it, or remove it"


def spoil_script(folder: Path) -> str:
    (folder / "train" / "cat" / "1.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 10\n")
    return "train/cat/1.png is no image that Pillow reads"


def spoil_truncated(folder: Path) -> str:
    path = folder / "train" / "dog" / "0.png"
    path.write_bytes(path.read_bytes()[:-40])
    return "train/dog/0.png is no whole image"


def spoil_truncated_jpeg(folder: Path) -> str:
    path = folder / "train" / "dog" / "0.jpg"
    Image.fromarray(pixels((12, 10, 3))).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    return "train/dog/0.jpg is no whole image"


def spoil_size(folder: Path) -> str:
    Image.fromarray(pixels((9, 10, 3))).save(folder / "test" / "emu" / "1.png")
    return r"test/emu/1.png has 9 x 10 pixels, but \S+train/cat/0.png 12 x 10: give a size"


def spoil_bits(folder: Path) -> str:
    Image.fromarray(np.zeros((12, 10), np.float32)).save(folder / "test" / "emu" / "1.tif")
    return "test/emu/1.tif has pixels neither of 8 nor of 16 bits: replace it"


def spoil_one_class(folder: Path) -> str:
    for part in ("train", "test"):
        shutil.rmtree(folder / part / "cat")
        shutil.rmtree(folder / part / "dog")
    return "animals has only the class emu: give images of two or more classes"


def spoil_no_class(folder: Path) -> str:
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    return "test has no folders of classes: add one for each class"


def spoil_new_test_class(folder: Path) -> str:
    shutil.copytree(folder / "test" / "cat", folder / "test" / "yak")
    return "test/yak is of the class yak, which training images lack"


def spoil_no_test(folder: Path) -> str:
    shutil.rmtree(folder / "test")
    return r"animals has train but none of test, val, validation: add one, or give \S+/train and a test_share"


def spoil_no_train(folder: Path) -> str:
    shutil.rmtree(folder / "train")
    return "animals has test but no train: add it"


def spoil_neither(folder: Path) -> str:
    for path in (folder / "train").iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    return "animals has no train and test: add them, or give a test_share such as 0.2"


def spoil_missing(folder: Path) -> str:
    shutil.rmtree(folder)
    return "animals cannot be read .No such file or directory."


def spoil_file(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.write_bytes(b"x")
    return "animals cannot be read .Not a directory."


def spoil_loose(folder: Path) -> str:
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "0.png")
    return "train/0.png lies beside the folders of classes: move it"


def spoil_loop(folder: Path) -> str:
    (folder / "train" / "cat" / "again").symlink_to(folder / "train" / "cat")
    return "train/cat/again leads back to a folder that it is in: remove it"


def spoil_broken_link(folder: Path) -> str:
    (folder / "train" / "cat" / "7.png").symlink_to(folder / "nowhere.png")
    return "train/cat/7.png is neither file nor folder, or a broken link"


def spoil_pipe(folder: Path) -> str:
    os.mkfifo(folder / "train" / "cat" / "7.png")
    return "train/cat/7.png is neither file nor folder"


SPOILERS = [value for name, value in dict(globals()).items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_folders_are_refused_by_name_in_one_line(folder: Path, spoil: Callable[[Path], str]) -> None:
    culprit = spoil(folder)
    with pytest.raises(InputError, match=culprit) as error:
        for split in read_image_folder(folder)[:2]:
            stacked(split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"channels": 2}, "channels=2: give 1"),
        ({"size": 0}, "size=0: give a whole number of at least 1"),
        ({"size": (8, 2.5)}, "size=2.5: give a whole number"),
        ({"crop": (8, -1)}, "crop=-1: give a whole number"),
        ({"size": 8, "crop": 9}, "crop=9: give no more than size=8"),
        ({"crop": 11}, "cat/0.png has 12 x 10 pixels, fewer than the crop of 11 x 11"),
        ({"test_share": 0.5}, "test_share=0.5: .* has test images; leave test_share out"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(folder: Path, options: dict, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit) as error:
        stacked(read_image_folder(folder, **options)[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(InputError, match=r"test_share=.*: give a number between 0 and 1"):
        read_image_folder(write_images(tmp_path, counts={"": 3}), test_share=share)


def test_a_class_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cat holds one image: a class needs one to train on and one to test"):
        read_image_folder(write_images(tmp_path, counts={"": 1}), test_share=0.5)


def test_a_file_that_goes_or_changes_while_it_is_in_use_is_named(folder: Path) -> None:
    train, *_ = read_image_folder(folder)
    assert isinstance(train.images, FolderImages)
    Image.fromarray(pixels((9, 9, 3))).save(folder / "train" / "cat" / "2.png")
    with pytest.raises(InputError, match=r"cat/2.png has changed its size: leave images as they are"):
        train.images[2]
    (folder / "train" / "cat" / "2.png").unlink()
    for read in (lambda: train.images[2], train.images.digest):
        with pytest.raises(InputError, match=r"cat/2.png is gone: leave the images where they are"):
            read()
    with pytest.raises(InputError, match=r"cat/2.png is gone"):
        list(DataLoader(train.images, num_workers=1))


def test_what_must_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, and a file; root may read all, so the system is played."""

    system = os.open

    def refuse(path: object, *arguments: Any, **options: Any) -> int:
        if str(folder) in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return system(path, *arguments, **options)

    train, *_ = read_image_folder(folder)
    with monkeypatch.context() as played:
        played.setattr(os, "scandir", refuse)
        with pytest.raises(InputError, match=r"animals cannot be read .Permission denied.: give a folder"):
            read_image_folder(folder)
        played.setattr(os, "open", refuse)
        with pytest.raises(InputError, match=r"train/cat/0.png cannot be read .Permission denied.: allow reading it"):
            train.images[0]


def test_an_image_of_too_many_pixels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match=r"train/cat/0.png has too many pixels .* exceeds limit of 100 pixels"):
        read_image_folder(folder)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged EXIF data
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".bmp"])
@given(data=st.data())
def test_whatever_a_file_holds_it_is_an_image_or_refused(tmp_path_factory, suffix: str, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("spoilt") / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels((9, 7, 3))).save(path, exif=exif)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(InputError):
        assert decode(path, Preparation(size=5)).shape == (3, 5, 5)
