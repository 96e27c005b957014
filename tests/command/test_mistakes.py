"""Mistakes and want of room: one line, and nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from running import rows_of

from tipping.command import table as table_command
from tipping.results import tables


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, but for the logs that the jobs there lengthen."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("bad", ["mu=-1", "device=gpu", "protocol.norm=l1", "mu=7", "store.dir=/dev/null/store"])
def test_a_bad_option_in_an_old_directory_changes_nothing(run_script, tmp_path: Path, bad: str) -> None:
    assert run_script("interpret")[0] == 0
    before = contents(tmp_path / "out")
    code, _, err = run_script("interpret", bad)
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert bad.split("=")[0] in err
    assert contents(tmp_path / "out") == before


def test_a_store_that_cannot_be_written_to_is_one_line(run_script, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")  # what torch raises when the disk is full

    monkeypatch.setattr(torch, "save", full)
    code, _, err = run_script("train")
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert f"store.dir={tmp_path / 'store'}" in err
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_is_short_is_one_line(run_script, monkeypatch, error: Exception) -> None:
    def short(*_: object) -> None:
        raise error

    monkeypatch.setattr("tipping.experiment.subject.Subject.select", short)
    code, _, err = run_script("interpret", "mu=1")
    assert code == 1
    assert err.startswith("out of memory: give ")
    assert len(err.strip().splitlines()) == 1


def test_one_failing_job_leaves_the_others(run_script, tmp_path: Path) -> None:
    code, _, err = run_script("interpret", "mu=1,-1,20", multirun=True)
    assert code == 1
    assert [line for line in err.splitlines() if "mu=-1" in line]
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "1" / "result.json").exists()
    rows = rows_of(tmp_path / "out")
    assert [row["job"] for row in rows] == ["0", "2"]
    assert table_command.main([str(tmp_path / "out")]) == 1
    (tmp_path / "out" / "2" / "result.json").write_text('{"schema": 1, "mu"')
    assert tables.write_table(tmp_path / "out") == ["1", "2"]
    assert len(rows_of(tmp_path / "out")) == 1


def test_a_failing_training_of_a_sweep_shows_in_the_exit_code(run_script, tmp_path: Path) -> None:
    code, out, err = run_script("train", "seed=-1,0", multirun=True)
    assert code == 1
    assert "seed=-1" in err
    assert out.count("test accuracy") == 1


@pytest.mark.parametrize(
    ("argument", "culprit"),
    [
        ("mu=0", "mu=0"),
        ("mu=-3", "mu=-3"),
        ("mu=nan", "mu=nan"),
        ("mu=inf", "mu=inf"),
        ("mu=many", "mu"),
        ("mu=null", "mu"),
        ("seed=-1", "seed=-1"),
        ("seed=0.5", "seed"),
        ("seed=4294967296", "seed=4294967296"),
        ("hydra.run.dir=/dev/null/job", "/dev/null/job"),
        ("device=tpu", "device=tpu"),
        ("model=vgg", "model/vgg"),
        ("data=cifar", "data/cifar"),
        ("data.name=cifar", "data.name=cifar"),
        ("model.filtres=4", "model.filtres"),
        ("+model.filtres=4", "filtres"),
        ("nothing=4", "nothing"),
        ("model.filters=-4", "model.filters=-4"),
        ("model.filters=4.5", "model.filters=4.5"),
        ("model.filters=few", "model.filters=few"),
        ("model.depth=0", "model.depth=0"),
        ("model.dropout=1", "model.dropout=1"),
        ("model.dropout=-0.5", "model.dropout=-0.5"),
        ("model._target_=tipping.models.Missing", "tipping.models.Missing"),
        ("model=matconvnet", "28x28"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0"),
        ("trainer.batch_size=0", "trainer.batch_size=0"),
        ("trainer.learning_rate=0", "trainer.learning_rate=0"),
        ("protocol.draws=0", "protocol.draws=0"),
        ("protocol.norm=l1", "protocol.norm=l1: give frobenius, spectral, squared"),
        ("protocol.labels=false", "protocol.labels=false: give true, predicted, permuted"),
        ("protocol.sites=dense", "protocol.sites=dense"),
        ("protocol=nosuch", "nosuch"),
        ("randomize=from:conv9", "randomize=from:conv9: give none, all, from:LAYER or only:LAYER, a layer of conv1"),
        ("randomize=conv1", "randomize=conv1"),
        ("model._target_=tipping.models.build", "model._target_=tipping.models.build"),
        (
            "model._target_=tipping.experiment.store.Store",
            "model._target_=tipping.experiment.store.Store: is no torch.nn.Module",
        ),
        ("+model.layers=[conv1,conv9]", "model.layers: conv9 is no layer with filters; there are conv1, conv2"),
        ("+model.layers=conv1", "model.layers"),
        ("+model.checkpoint=nosuch.pt", "model.checkpoint=nosuch.pt"),
        ("model.name=null", "model.name"),
        ("selection.solver=magic", "selection.solver=magic"),
        ("selection.tolerance=0", "selection.tolerance=0"),
        ("curve.points=0", "curve.points=0"),
        ("store.dir=/dev/null/store", "store.dir=/dev/null/store"),
        ("mu=[", "[: cannot be read; options are name=value"),
        ("seed=0,1", "seed=0,1: several values are a sweep; put -m before the options"),
        ("visualize.rules=guided", "visualize.rules: takes a list in brackets, such as [a,b]"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run_script, tmp_path: Path, argument: str, culprit: str) -> None:
    code, _, err = run_script("interpret", argument)
    lines = err.strip().splitlines()
    assert code == 1
    assert len(lines) == 1, err
    assert culprit in lines[0]
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("spoil", ["truncated", "another recipe", "another architecture"])
def test_a_bad_checkpoint_is_one_line(run_script, tmp_path: Path, spoil: str) -> None:
    assert run_script("train")[0] == 0
    (path,) = (tmp_path / "store" / "networks").glob("*.pt")
    content = path.read_bytes()
    if spoil == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "another architecture":
        saved = torch.load(path, weights_only=True)
        saved["tensors"]["conv2.weight"] = saved["tensors"]["conv2.weight"][:3]
        torch.save(saved, path)
    else:
        path.unlink()
        assert run_script("train", "model.filters=5", "replace=true")[0] == 0
        (other,) = (tmp_path / "store" / "networks").glob("*.pt")
        other.rename(path)
    shutil.rmtree(tmp_path / "out")
    code, _, err = run_script("interpret")
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert str(path) in err
