from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tipping import data
from tipping.data import Batches, Split, idx
from tipping.errors import InputError


def idx_file(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    sizes = {"train": 30, "t10k": 12}
    return {
        f"{part}-{kind}": rng.integers(256 if ndim == 3 else 10, size=(size, 28, 28)[:ndim])
        for part, size in sizes.items()
        for kind, ndim in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1))
    }


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The four files of a small MNIST, two of them gzip."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in arrays.items():
        if "train" in name:
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx_file(array)))
        else:
            (raw / name).write_bytes(idx_file(array))
    return raw


def load(folder: Path, name: str = "mnist") -> data.Dataset:
    return data.load(name, folder.parents[1])


def test_idx_files_give_their_images_and_labels(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    dataset = load(folder)
    assert dataset.image_shape == (1, 28, 28)
    for split, part in ((dataset.train, "train"), (dataset.test, "t10k")):
        assert np.array_equal((split.images_NCHW[:, 0] * 255).round().numpy(), arrays[f"{part}-images-idx3-ubyte"])
        assert np.array_equal(split.labels_N.numpy(), arrays[f"{part}-labels-idx1-ubyte"])
        assert 0 <= split.images_NCHW.min() <= split.images_NCHW.max() <= 1


def test_digits_are_scikit_learns() -> None:
    dataset = data.load("digits")
    assert (len(dataset.train), len(dataset.test), dataset.image_shape) == (1437, 360, (1, 8, 8))
    images = torch.cat([dataset.train.images_NCHW, dataset.test.images_NCHW])
    assert np.allclose(images[:, 0].numpy() * 16, load_digits().images)


def spoil_truncated(raw: Path) -> str:
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return path.name


def spoil_truncated_gzip(raw: Path) -> str:
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return path.name


def spoil_longer(raw: Path) -> str:
    path = raw / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"x")
    return path.name


def spoil_header(raw: Path) -> str:
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:6])
    return path.name


def spoil_empty(raw: Path) -> str:
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"")
    return "t10k-images-idx3-ubyte"


def spoil_swapped(raw: Path) -> str:
    images, labels = raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)
    return images.name


def spoil_magic(raw: Path) -> str:
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(b"\x00\x00\x0d\x03" + path.read_bytes()[4:])
    return path.name


def spoil_lengths(raw: Path) -> str:
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx_file(np.zeros(11)))
    return "12 images but"


def spoil_label(raw: Path) -> str:
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx_file(np.full(12, 10)))
    return "the label 10"


def spoil_sizes(raw: Path) -> str:
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx_file(np.zeros((12, 20, 20))))
    return "different sizes"


def spoil_no_gzip(raw: Path) -> str:
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"not gzip")
    return path.name


SPOILERS = [value for name, value in dict(globals()).items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_files_are_refused_by_name_in_one_line(folder: Path, spoil) -> None:
    culprit = spoil(folder)
    with pytest.raises(InputError, match=culprit) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_batches_cover_the_split_once_in_a_new_seeded_order_each_epoch() -> None:
    split = Split(torch.arange(10.0)[:, None, None, None], torch.arange(10))
    assert [labels.tolist() for _, labels in Batches(split, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shuffled = Batches(split, 4, seed=3)
    epochs = [torch.cat([labels for _, labels in shuffled]).tolist() for _ in range(2)]
    assert len(shuffled) == 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == [*range(10)]
    assert epochs[0] != epochs[1]
    assert torch.cat([labels for _, labels in Batches(split, 4, seed=3)]).tolist() == epochs[0]
    for images, labels in shuffled:
        assert torch.equal(images.flatten().long(), labels)


def test_spread_takes_images_evenly(split: Split) -> None:
    some = split.spread(7)
    assert len(some) == 7
    assert torch.equal(some.images_NCHW[-1], split.images_NCHW[-1])
    assert split.spread(0) is split


def test_fingerprint_sees_every_pixel_and_label(split: Split) -> None:
    images = split.images_NCHW.clone()
    images[3, 0, 2, 2] += 0.01
    labels = split.labels_N.clone()
    labels[5] = (labels[5] + 1) % 10
    prints = {s.fingerprint for s in (split, Split(images, split.labels_N), Split(split.images_NCHW, labels))}
    assert len(prints) == 3


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The four gzip files on a local server, in place of the public mirror."""
    for path in folder.glob("t10k*"):
        path.rename(path.with_suffix(".raw"))
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.with_suffix(".raw").read_bytes()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hashes = [hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in idx.FILES]
    source = idx.Source("MNIST", f"http://127.0.0.1:{server.server_port}", tuple(hashes))  # type: ignore[arg-type]
    monkeypatch.setitem(idx.SOURCES, "mnist", source)
    yield folder
    server.shutdown()
    server.server_close()


def test_missing_files_are_downloaded(mirror: Path, tmp_path: Path) -> None:
    target = tmp_path / "fresh" / "MNIST" / "raw"
    assert len(load(target).train) == 30
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{name}.gz" for name in idx.FILES)


def test_a_download_with_another_checksum_is_refused_and_not_kept(mirror: Path, tmp_path: Path) -> None:
    (mirror / f"{idx.FILES[0]}.gz").write_bytes(b"tampered")
    target = tmp_path / "fresh" / "MNIST" / "raw"
    with pytest.raises(InputError, match="SHA-256"):
        load(target)
    assert not target.exists()


def test_without_network_the_message_names_folder_files_and_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(idx.SOURCES, "mnist", idx.SOURCES["mnist"]._replace(mirror="http://127.0.0.1:1"))
    with pytest.raises(InputError) as error:
        load(tmp_path / "MNIST" / "raw")
    for part in (str(tmp_path / "MNIST" / "raw"), "data=digits", *idx.FILES):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


RAW = Path(os.environ.get("TIPPING_DATA", Path(__file__).parents[3] / "shared" / "data")) / "MNIST" / "raw"


@pytest.mark.skipif(not RAW.exists(), reason="MNIST is not at hand: TIPPING_DATA names its folder")
def test_the_sha256_are_those_of_mnist() -> None:
    at_hand = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in RAW.glob("*.gz")}
    expected = {f"{name}.gz": sha256 for name, sha256 in zip(idx.FILES, idx.SOURCES["mnist"].sha256, strict=True)}
    # the training images may have been compressed anew
    same = [name for name in expected if at_hand.get(name) == expected[name]]
    assert len(same) >= 3


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_every_source_has_four_sha256(name: str) -> None:
    assert [len(bytes.fromhex(digest)) for digest in idx.SOURCES[name].sha256] == [32] * 4
