from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tipping.command import housekeeping
from tipping.command.store import main
from tipping.errors import InputError
from tipping.experiment.store import Store

WEIGHTS, OTHERS = "a" * 64, "b" * 64


def keep(folder: Path, kind: str = "responses", **recipe: object) -> Path:
    """An item of a store."""
    return Store(folder).fetch(kind, {"weights": WEIGHTS, **recipe}, lambda: {"w": torch.arange(99.0)}).path


def record(job: Path, network: str = "none", weights: str = WEIGHTS, randomize: str = "none", **more: object) -> Path:
    """What housekeeping reads of a job's record."""
    job.mkdir(parents=True)
    content = {"store": {"network": network, "weights": weights, **more}, "config": {"randomize": randomize}}
    (job / "result.json").write_text(json.dumps(content))
    return job


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def prune(store: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[Path]]:
    """Prune the store, first without --yes, which must change nothing: the files named, which must be those gone."""

    def run(*sweeps: Path) -> list[Path]:
        before = state(store)
        named = []
        capfd.readouterr()
        for yes in ([], ["--yes"]):
            assert main(["prune", *map(str, sweeps), "--store", str(store), *yes]) == 0
            *lines, total = capfd.readouterr().out.splitlines()
            gone = before.keys() - state(store).keys()
            words = "delete" if yes else "would delete"
            assert all(line.startswith(f"{words} ") for line in lines)
            named.append([Path(line.removeprefix(f"{words} ").split(" (")[0]) for line in lines])
            assert total.startswith(f"{len(lines)} files, " if lines else "nothing to delete")
            assert set(state(store).items()) <= set(before.items())
            assert gone == (set(named[-1]) if yes else set())
        assert named[0] == named[1]
        return named[0]

    return run


def test_what_jobs_use_is_kept_and_what_they_used_is_made_again(
    run_script, prune, store: Path, tmp_path: Path, capfd
) -> None:
    """A sanity check with pictures, in which all kinds of items are used, of two networks, and a training."""
    sanity = ["randomize=all", "protocol.value=mean", "visualize.filters_per_class=1", "visualize.images=1"]
    own, training = tmp_path / "sweeps" / "sanity", tmp_path / "sweeps" / "training"
    for folder, script, *options in ((own, "interpret", *sanity), (training, "train", "seed=1")):
        code, _, err = run_script(script, *options)
        assert code == 0, err
        folder.parent.mkdir(exist_ok=True)
        (tmp_path / "out").rename(folder)
    items = set(store.glob("*/*.pt"))
    kinds = sorted(item.parent.name for item in items)
    assert kinds == ["means", *["networks"] * 2, "predictions", "reach", *["responses"] * 2, *["strongest"] * 2]
    assert prune(tmp_path / "sweeps") == []
    assert main(["list", str(tmp_path / "sweeps"), "--store", str(store)]) == 0
    listed = capfd.readouterr().out
    assert "orphaned" not in listed
    assert f"{training}" in listed
    assert main(["verify", "--store", str(store)]) == 0

    before = json.loads((own / "result.json").read_text())
    shutil.rmtree(own)
    left = store / "networks" / f"{json.loads((training / 'result.json').read_text())['store']['network']}.pt"
    gone = {path for path in prune(tmp_path / "sweeps") if path.suffix == ".pt"}
    assert gone == items - {left}

    code, _, err = run_script("interpret", *sanity)
    assert code == 0, err
    after = json.loads((tmp_path / "out" / "result.json").read_text())
    for of in (before, after):
        assert of.pop("made") == {"network": True, "responses": True}
        of.pop("digest")
        del of["seconds"], of["ended"]
    assert after == before
    assert set(store.glob("*/*.pt")) == items


def test_items_are_used_by_key_or_by_their_weights(prune, store: Path, tmp_path: Path) -> None:
    """Also a network that a job took as a checkpoint, the parts that only a search uses, and behind a link."""
    of_weights, of_trained = keep(store, "parts", parts=20), keep(store, weights=OTHERS)
    trained, loaded, linked = (keep(store, "networks", weights=None, seed=seed) for seed in range(3))
    lost = [keep(store, "networks", weights=None, seed=3), keep(store, "predictions", weights="c" * 64)]
    record(tmp_path / "sweep" / "0", trained.stem)
    record(tmp_path / "sweep" / "deep" / "1", f"checkpoint {loaded}", randomize="all", trained=OTHERS)
    record(tmp_path / "elsewhere" / "2", linked.stem)
    (tmp_path / "sweep" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sweep" / "back").symlink_to(tmp_path / "sweep")
    assert housekeeping.jobs_by_use([tmp_path / "sweep"])[trained.stem] == [tmp_path / "sweep" / "0"], "once"
    assert sorted(prune(tmp_path / "sweep")) == sorted(lost + [path.with_suffix(".lock") for path in lost])
    assert {path for path in state(store) if path.suffix == ".pt"} == {of_weights, of_trained, trained, loaded, linked}


def test_what_stopped_jobs_left_goes_and_all_else_stays(prune, store: Path, tmp_path: Path) -> None:
    record(tmp_path / "sweep")
    used = keep(store)
    part = used.with_name(f".{used.name}.{'0' * 32}.part")
    lone = store / "networks" / f".{'1' * 16}.pt.{'0' * 32}.part"
    lone.parent.mkdir()
    theirs = [store / "notes.txt", store / "networks" / "own.pt", store / "networks" / ".own.pt.part", store / "a.lock"]
    for path in (part, lone, lock := store / "networks" / f"{'2' * 16}.lock", *theirs):
        path.write_text("something")
    assert sorted(prune(tmp_path / "sweep")) == sorted([part, lone, lock])
    assert set(state(store)) == {used, used.with_suffix(".lock"), *theirs}


def test_an_item_whose_lock_is_held_and_its_unfinished_copy_stay(prune, store: Path, tmp_path: Path) -> None:
    record(tmp_path / "sweep")
    busy, idle = keep(store, weights=OTHERS), keep(store, weights=OTHERS, seed=1)
    part = busy.with_name(f".{busy.name}.{'0' * 32}.part")
    part.touch()
    with FileLock(busy.with_suffix(".lock")):
        assert prune(tmp_path / "sweep") == [idle, idle.with_suffix(".lock")]
    assert prune(tmp_path / "sweep") == [busy, part, busy.with_suffix(".lock")]


def test_what_other_jobs_do_after_the_store_was_listed_is_seen(store: Path) -> None:
    gone, made = keep(store), keep(store, weights=OTHERS)
    of_gone, of_made = sorted(housekeeping.places(store), key=lambda place: place.item != gone)
    of_made = of_made._replace(files=[made.with_suffix(".lock")])  # as it was while the item was being made
    gone.unlink()
    jobs = {OTHERS: [Path("job")]}
    assert list(housekeeping.prune(of_gone, jobs, delete=True)) == [gone.with_suffix(".lock")]
    assert list(housekeeping.prune(of_made, jobs, delete=True)) == []


def test_no_lock_is_left_where_there_was_none(prune, store: Path, tmp_path: Path) -> None:
    record(tmp_path / "sweep")
    paths = [keep(store), keep(store, weights=OTHERS)]
    for path in paths:
        path.with_suffix(".lock").unlink()
    assert prune(tmp_path / "sweep") == paths[1:]


def test_what_cannot_be_read_is_not_pruned(prune, store: Path, tmp_path: Path, capfd) -> None:
    path = keep(store, weights=OTHERS)
    path.write_bytes(b"PK")
    assert prune(record(tmp_path / "sweep")) == []
    assert main(["list", str(tmp_path / "sweep"), "--store", str(store)]) == 0
    (line,) = (line for line in capfd.readouterr().out.splitlines() if path.stem in line)
    assert "  ?  " in line
    assert "cannot be read" in line


@pytest.mark.parametrize("command", ["list", "prune"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda job: shutil.rmtree(job), "sweep cannot be read"),
        (lambda job: (job / "result.json").unlink(), "sweep holds no record"),
        (lambda job: (job / "result.json").write_text("{"), "result.json cannot be read"),
        (lambda job: (job / "result.json").write_text("[]"), "result.json cannot be read"),
        (lambda job: record(job / "of_an_earlier_version", randomize="all"), "earlier_version/result.json cannot be"),
    ],
)
def test_unless_all_users_are_known_nothing_is_done(
    command: str, damage: Callable[[Path], Any], message: str, store: Path, tmp_path: Path, capfd
) -> None:
    keep(store, weights=OTHERS)
    damage(record(tmp_path / "sweep"))
    before = state(store)
    yes = ["--yes"] if command == "prune" else []
    assert main([command, str(record(tmp_path / "whole")), str(tmp_path / "sweep"), "--store", str(store), *yes]) == 1
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert state(store) == before


@pytest.mark.parametrize("lock", [".lock", "network/locks/3.lock"])
def test_nothing_is_pruned_while_a_sweep_runs(lock: str, store: Path, tmp_path: Path, capfd) -> None:
    path = keep(store, weights=OTHERS)
    record(tmp_path / "sweep")
    (tmp_path / "sweep" / lock).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(tmp_path / "sweep" / lock):
        assert main(["prune", str(tmp_path / "sweep"), "--store", str(store), "--yes"]) == 1
    assert f"{tmp_path / 'sweep' / lock}: jobs are running" in capfd.readouterr().err
    assert path.exists()
    assert main(["prune", str(tmp_path / "sweep"), "--store", str(store), "--yes"]) == 0
    assert not path.exists()


def test_prune_without_sweeps_and_a_store_that_is_not_there_are_refused(store: Path, capfd) -> None:
    assert main(["prune", "--store", str(store)]) == 1
    assert capfd.readouterr().err == "the following arguments are required: SWEEP_DIR; --help says what is\n"
    for command in ("list", "verify"):
        assert main([command, "--store", str(store)]) == 1
        assert capfd.readouterr().err == f"--store {store}: no such folder; give the store.dir of the jobs\n"
    assert not store.exists()


def test_list_says_what_items_are_and_how_large(store: Path, tmp_path: Path, capfd) -> None:
    model = {"_target_": "tipping.models.KerasCNN", "filters": 4.0, "dropout": 0.5}
    network = keep(store, "networks", weights=None, model=model, trainer={"max_epochs": 2})
    responses = keep(store, maps=[["a", "b"], ["c", "d"]])
    (store / "networks" / f".{network.name}.{'0' * 32}.part").touch()
    sweep = record(tmp_path / "sweep" / "0", "other").parent
    record(sweep / "1", "other")
    assert main(["list", str(sweep), "--store", str(store)]) == 0
    heads, *lines, total = capfd.readouterr().out.splitlines()
    assert heads.split() == ["kind", "key", "size", "made", "used", "by", "what"]
    assert [line.split()[:2] for line in lines] == [["networks", network.stem], ["responses", responses.stem]]
    assert all(
        f"{path.stat().st_size / 1000:.3g} kB" in line for path, line in zip((network, responses), lines, strict=True)
    )
    assert "  orphaned  " in lines[0]
    assert lines[0].endswith("KerasCNN dropout=0.5 filters=4 max_epochs=2 weights=None")
    assert f"  {sweep / '0'} and 1 more  " in lines[1]
    assert lines[1].endswith("maps[2] weights=aaaaaaaa")
    assert total.startswith("2 items, ")
    assert total.endswith("; 1 unfinished files")


# ---- verify


class Pickled:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code in an item was run')",)


def rewritten(path: Path, **changes: Any) -> None:
    content = {**torch.load(path, weights_only=True), **changes}
    torch.save({name: value for name, value in content.items() if value is not None}, path)


def flipped(path: Path, *, digest: bool) -> None:
    """A bit of a tensor, in a file with a digest, or one of an earlier version, which had none."""
    if not digest:
        rewritten(path, digest=None)
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(99.0).numpy().tobytes()) + 41
    content[place] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["tensors"]["w"], torch.arange(99.0)), "torch is content"


def foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", "something")


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda path: path.write_bytes(b""), "is damaged, or"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "is damaged, or"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged, or"),
        (lambda path: flipped(path, digest=True), "is damaged"),
        (lambda path: flipped(path, digest=False), "is damaged"),
        (lambda path: rewritten(path, tensors={"w": torch.ones(3)}), "is damaged, or"),
        (lambda path: torch.save(Pickled(), path), "is damaged, or"),
        (lambda path: torch.save([1], path), "is damaged, or"),
        (foreign, "is damaged, or"),
        (lambda path: rewritten(path, recipe='{"seed": 1}'), "is of another recipe"),
        (lambda path: rewritten(path, digest=None, tensors={"w": torch.tensor(torch.inf)}), "holds numbers that are"),
    ],
)
def test_verify_finds_damage(damage: Callable[[Path], Any], wrong: str, store: Path, capfd) -> None:
    whole, bad = keep(store), keep(store, seed=1)
    damage(bad)
    assert main(["verify", "--store", str(store)]) == 1
    out, err = capfd.readouterr()
    assert out == f"{hashlib.sha256(whole.read_bytes()).hexdigest()}  {whole}\n"
    first, total = err.splitlines()
    assert first.startswith(f"{bad} {wrong}")
    assert first.endswith("delete it, and the next job makes it anew")
    assert total == "1 of 2 items are whole"


def test_verify_finds_a_renamed_item(store: Path, capfd) -> None:
    path = keep(store)
    path.rename(path.with_name(f"{'0' * 16}.pt"))
    assert main(["verify", "--store", str(store)]) == 1
    assert "0.pt is of another recipe than its name says" in capfd.readouterr().err


def test_verify_reads_items_without_a_digest_and_networks_with_infinite_masks(store: Path, capfd) -> None:
    rewritten(keep(store), digest=None)
    Store(store).fetch("networks", {"seed": 0}, lambda: {"mask": torch.tensor([-torch.inf, 0])})
    assert main(["verify", "--store", str(store)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2


def test_a_job_refuses_an_item_with_other_tensors_than_were_written(store: Path) -> None:
    flipped(path := keep(store), digest=True)
    with pytest.raises(InputError, match=f"{path.name} cannot be read"):
        keep(store)
