from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tipping.errors import InputError
from tipping.experiment.store import Item, Store
from tipping.files import digest, replacing


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("must not be made again")


def fetch(folder: Path, value: float = 1.0, **changed: object) -> Item:
    recipe = {"seed": 0, "model": {"filters": 4}, **changed}
    return Store(folder).fetch("networks", recipe, lambda: {"w": torch.full((3,), value)})


def test_the_same_recipe_is_made_once(tmp_path: Path) -> None:
    made = fetch(tmp_path)
    found = Store(tmp_path).fetch("networks", {"model": {"filters": 4}, "seed": 0}, never)
    assert (made.existed, found.existed, made.key) == (False, True, found.key)
    assert torch.equal(found.tensors["w"], torch.ones(3))


def test_another_recipe_or_kind_is_another_item(tmp_path: Path) -> None:
    keys = {fetch(tmp_path).key, fetch(tmp_path, seed=1).key, fetch(tmp_path, model={"filters": 5}).key}
    assert len(keys) == 3
    assert not Store(tmp_path).fetch("responses", {"seed": 0, "model": {"filters": 4}}, dict).existed


def test_anew_replaces(tmp_path: Path) -> None:
    fetch(tmp_path)
    recipe = {"seed": 0, "model": {"filters": 4}}
    Store(tmp_path).fetch("networks", recipe, lambda: {"w": torch.zeros(3)}, anew=True)
    assert torch.equal(Store(tmp_path).fetch("networks", recipe, never).tensors["w"], torch.zeros(3))


def test_a_failed_make_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, torch.Tensor]:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        Store(tmp_path).fetch("networks", {"seed": 0, "model": {"filters": 4}}, fail)
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))
    assert not fetch(tmp_path).existed


@pytest.mark.parametrize("classes", [2, 256, 257, 1000, 70_000])
def test_predictions_among_any_number_of_classes_are_read_as_they_were_kept(tmp_path: Path, classes: int) -> None:
    """In the type in which the ablations give them."""
    predictions_N = torch.from_numpy(np.array([0, 1, classes - 1]).astype(np.min_scalar_type(classes - 1)))
    kept = [Store(tmp_path).fetch("predictions", {}, lambda: {"predictions": predictions_N}) for _ in range(2)]
    assert [one.existed for one in kept] == [False, True]
    assert kept[1].tensors["predictions"].dtype == predictions_N.dtype
    assert torch.equal(kept[1].tensors["predictions"].long(), predictions_N.long())


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = fetch(tmp_path).path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{path.name} cannot be read"):
        fetch(tmp_path)


def test_a_file_of_another_recipe_is_refused_by_name(tmp_path: Path) -> None:
    path, other = fetch(tmp_path).path, fetch(tmp_path, seed=1).path
    path.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match=f"{path.name} is of another"):
        fetch(tmp_path)


class Pickled:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code in a checkpoint was run')",)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    path = fetch(tmp_path).path
    torch.save(Pickled(), path)
    with pytest.raises(InputError, match="cannot be read"):
        fetch(tmp_path)


def test_who_made_an_item_is_kept_with_it(tmp_path: Path) -> None:
    """Files of earlier versions do not say it; nobody else is named."""
    recipe = {"seed": 0}
    made = Store(tmp_path).fetch("networks", recipe, lambda: {"w": torch.ones(1)}, made_on="a fast one")
    found = Store(tmp_path).fetch("networks", recipe, never, made_on="another")
    assert (made.made_on, found.made_on, made.key) == ("a fast one", "a fast one", found.key)
    content = torch.load(made.path, weights_only=True)
    del content["made_on"]
    torch.save(content, made.path)
    assert Store(tmp_path).fetch("networks", recipe, never, made_on="another").made_on is None


def test_an_unwritable_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"store\.dir=.*file"):
        Store(tmp_path / "file" / "store")


def slow_fetch(folder: Path, log: Path) -> None:
    def make() -> dict[str, torch.Tensor]:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(1)
        return {"w": torch.ones(3)}

    item = Store(folder).fetch("networks", {"seed": 0}, make)
    assert torch.equal(item.tensors["w"], torch.ones(3))


def test_concurrent_jobs_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=slow_fetch, args=(tmp_path / "store", tmp_path / "log")) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_replacing_leaves_the_old_file_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="on purpose"), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError("on purpose")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_digest_sees_names_types_shapes_and_values() -> None:
    variants = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0.0, 0.0, 1.0])},
    ]
    assert len({digest(tensors) for tensors in variants}) == 5


def test_networks_that_earlier_versions_kept_are_found_under_their_keys(run_script, tmp_path: Path) -> None:
    assert run_script("train")[0] == 0
    assert [path.stem for path in (tmp_path / "store" / "networks").glob("*.pt")] == ["dc6580f6cf9e30a4"]
