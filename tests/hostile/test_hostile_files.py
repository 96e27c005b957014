"""Data sets, checkpoints and stored tensors with other bytes: right, or one line; no code in them is run."""

from __future__ import annotations

import gzip
import shutil
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostility import Executed, cases, edits, mistake
from hypothesis import given
from hypothesis import strategies as st

from tipping import data
from tipping.data import idx, sources
from tipping.errors import InputError
from tipping.experiment.store import Store
from tipping.network import build, load_checkpoint


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


shapes = st.lists(st.integers(0, 5), min_size=3, max_size=3)


@cases(24)
@given(
    shape=shapes, zipped=st.booleans(), inside=st.none() | edits(), outside=st.none() | edits(), seed=st.integers(0, 99)
)
def test_idx_files(place: Path, shape: list[int], zipped: bool, inside: Any, outside: Any, seed: int) -> None:
    """Bytes edited before they are compressed, and after."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.integers(256 if "images" in name else 1, size=shape[: 3 if "images" in name else 1])
        for name in idx.FILES
    }
    content = {name: idx_file(array) for name, array in arrays.items()}
    name = idx.FILES[seed % 4]
    right = content[name]
    content[name] = inside(right) if inside else right
    if outside and not zipped:
        content[name] = outside(content[name])
    folder = place / "idx" / "MNIST" / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for one, held in content.items():
        packed = gzip.compress(held) if zipped else held
        packed = outside(packed) if outside and zipped and one == name else packed
        (folder / (f"{one}.gz" if zipped else one)).write_bytes(packed)
    sources.forget()
    if said := mistake(lambda: data.load("mnist", place / "idx")):
        assert ((name in said or "none to train on" in said) and (inside or outside)) or 0 in shape
        return
    loaded = data.load("mnist", place / "idx")
    if content[name] == right:
        for part, split in (("train", loaded.train), ("t10k", loaded.test)):
            images, labels = (arrays[f"{part}-{kind}"] for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
            assert np.array_equal((split.images_NCHW[:, 0] * 255).round().numpy(), images)
            assert np.array_equal(split.labels_N.numpy(), labels)
    else:  # as valid as before, with other pixels or labels
        assert len(content[name]) == len(right)


@pytest.mark.parametrize("announced", [(4, 4, 4), (2**32 - 1,) * 3, (2**10, 2**10, 2**10)])
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, announced: tuple[int, int, int]) -> None:
    """64 MB of zeros in some KB, whatever is announced."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, *announced))
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(InputError, match=path.name):
        idx.read_idx(path, ndim=3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**30 + 2**27


TINY = {"name": "keras_cnn", "_target_": "tipping.models.KerasCNN", "filters": 1, "depth": 1, "dropout": 0.0}


def tiny() -> torch.nn.Module:
    return build(TINY, (1, 2, 2), 10, seed=0)


def spoiled(tensors: dict[str, torch.Tensor], kind: str, told: Path) -> Any:
    """What is no state dict of the network, or none that can be used."""
    first, *others = tensors
    tensor = tensors[first]
    return {
        "code": Executed(told),
        "code among tensors": {**tensors, first: Executed(told)},
        "code as a key": {**tensors, Executed(told): tensor},
        "not finite": {**tensors, first: torch.full_like(tensor, torch.nan)},
        "infinite": {**tensors, others[0]: tensors[others[0]] / 0},
        "another shape": {**tensors, first: tensor[..., :1]},
        "vast": {**tensors, first: torch.zeros(1).expand(2**40)},
        "one less": {name: tensors[name] for name in others},
        "one more": {**tensors, "more": tensor},
        "numbers as keys": dict(enumerate(tensors.values())),
        "a list": list(tensors.values()),
        "a tensor": tensor,
        "nothing": None,
        "a state dict that is none": {"state_dict": 3},
        "texts": dict.fromkeys(tensors, "0"),
        "complex": {name: one.to(torch.complex64) for name, one in tensors.items()},
        "sparse": {**tensors, others[-1]: tensors[others[-1]].to_sparse()},
        "on no device": {name: one.to("meta") for name, one in tensors.items()},
    }[kind]


SPOILED = ["code", "code among tensors", "code as a key", "not finite", "infinite", "another shape", "vast", "one less"]
SPOILED += [
    "one more",
    "numbers as keys",
    "a list",
    "a tensor",
    "nothing",
    "a state dict that is none",
    "texts",
]
SPOILED += ["complex", "sparse", "on no device"]


def refused(load: Callable[[], object], path: Path, told: Path) -> bool:
    """Whether a file is, in one line that names it; nothing in it has run."""
    said = mistake(load)
    assert not told.exists(), "code in a file was run"
    assert said is None or (str(path) in said and ": " in said), "the culprit and the remedy"
    return said is not None


@pytest.mark.parametrize("kind", SPOILED)
def test_a_checkpoint_of_something_else(tmp_path: Path, kind: str) -> None:
    path, told = tmp_path / "checkpoint.pt", tmp_path / "executed"
    torch.save(spoiled(dict(tiny().state_dict()), kind, told), path)
    warnings.simplefilter("ignore")
    assert refused(lambda: load_checkpoint(tiny(), str(path)), path, told)


@cases(20)
@given(edit=edits(), legacy=st.booleans(), wrapped=st.sampled_from(["", "state_dict", "tensors"]))
def test_checkpoints(place: Path, edit: Callable[[bytes], bytes], legacy: bool, wrapped: str) -> None:
    path, told, model = place / "checkpoint.pt", place / "executed", tiny()
    right = {name: torch.rand_like(tensor) for name, tensor in model.state_dict().items()}
    torch.save({wrapped: right} if wrapped else right, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(edit(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older format
        if refused(lambda: load_checkpoint(model, str(path)), path, told):
            assert path.read_bytes() != content
            return
    loaded = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in loaded.values())
    assert legacy or all(torch.equal(loaded[name], right[name]) for name in right), "older files have no checksum"


@cases(20)
@given(edit=edits(), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_stored_tensors(place: Path, edit: Callable[[bytes], bytes], sizes: list[int]) -> None:
    right = {"w": torch.rand(sizes), "n": torch.arange(3)}
    shutil.rmtree(place / "kept", ignore_errors=True)
    path = Store(place / "kept").fetch("networks", {"seed": 0}, lambda: right).path
    path.write_bytes(edit(path.read_bytes()))
    found: dict[str, torch.Tensor] = {}

    def fetch() -> None:
        found.update(Store(place / "kept").fetch("networks", {"seed": 0}, dict).tensors)

    if not refused(fetch, path, place / "executed"):
        assert found.keys() == right.keys()
        assert all(torch.equal(found[name], right[name]) for name in right)


def test_a_number_that_changed_is_seen(tmp_path: Path) -> None:
    """Which torch does not look for."""
    weights = {name: torch.full_like(tensor, 0.25) for name, tensor in tiny().state_dict().items()}
    path, told = Store(tmp_path).fetch("networks", {"seed": 0}, lambda: weights).path, tmp_path / "executed"
    content = path.read_bytes()
    at = content.index(struct.pack("<8f", *[0.25] * 8))
    path.write_bytes(content[:at] + struct.pack("<f", 0.5) + content[at + 4 :])
    assert not torch.equal(torch.load(path)["tensors"]["conv1.weight"], weights["conv1.weight"])
    assert refused(lambda: Store(tmp_path).fetch("networks", {"seed": 0}, dict), path, told)
    assert refused(lambda: load_checkpoint(tiny(), str(path)), path, told)


@pytest.mark.parametrize("kind", ["code", "code among tensors", "a list", "nothing", "texts"])
@pytest.mark.parametrize("own", [True, False])
def test_a_stored_file_of_something_else(tmp_path: Path, kind: str, own: bool) -> None:
    """Also in a file of the right recipe."""
    path = Store(tmp_path).fetch("networks", {"seed": 0}, lambda: {"w": torch.ones(2)}).path
    recipe = torch.load(path, weights_only=True)["recipe"]
    content = spoiled(dict(tiny().state_dict()), kind, tmp_path / "executed")
    torch.save({"recipe": recipe, "tensors": content} if own else content, path)
    assert refused(lambda: Store(tmp_path).fetch("networks", {"seed": 0}, dict), path, tmp_path / "executed")
