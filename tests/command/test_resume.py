"""The same sweep again: what is done is left alone, what is not is made, and nothing is mistaken for something else."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from running import looks_at_lock, record_of, rewrite

from tipping.experiment import records, versions

TWO = ("interpret", "mu=1,20")


def stamps(folder: Path) -> dict[str, int]:
    """When each job's files were last written."""
    paths = (path for path in folder.glob("[0-9]*/**/*") if path.name.endswith((".json", ".npz", ".png")))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def findings(folder: Path) -> list[dict[str, Any]]:
    """The records of a sweep but for times."""
    return [{**one, "seconds": 0, "ended": 0, "made": 0, "digest": 0} for one in map(json.loads, contents(folder))]


def contents(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("[0-9]*/result.json"))]


def test_what_is_done_is_not_done_again(run_script, tmp_path: Path) -> None:
    assert run_script(*TWO, multirun=True)[0] == 0
    before, found = stamps(tmp_path / "out"), findings(tmp_path / "out")
    code, out, err = run_script(*TWO, multirun=True)
    assert code == 0, err
    assert "2 of 2 jobs are done and are not run again" in out
    assert stamps(tmp_path / "out") == before
    assert run_script("interpret", "mu=1,20,5", "device=cpu", multirun=True)[0] == 0
    later = stamps(tmp_path / "out")
    assert {name: later[name] for name in before} == before, "a sweep may be made longer"
    assert findings(tmp_path / "out")[:2] == found
    assert findings(tmp_path / "out")[2]["mu"] == 5


@pytest.mark.parametrize(
    ("name", "bytes_left"),
    [("result.json", 300), ("selection.npz", 0), ("predictions.npz", 1000), ("result.json", None)],
)
def test_what_is_not_whole_is_made_again(run_script, tmp_path: Path, name: str, bytes_left: int | None) -> None:
    assert run_script(*TWO, multirun=True)[0] == 0
    before, found = stamps(tmp_path / "out"), findings(tmp_path / "out")
    path = tmp_path / "out" / "1" / name
    content = path.read_bytes()
    path.unlink()
    if bytes_left is not None:
        assert bytes_left < len(content)
        path.write_bytes(content[:bytes_left])
    code, out, err = run_script(*TWO, multirun=True)
    assert code == 0, err
    assert "1 of 2 jobs are done" in out
    later = stamps(tmp_path / "out")
    assert later.keys() == before.keys()
    assert [one for one in before if later[one] == before[one]] == [one for one in before if one.startswith("0/")]
    assert findings(tmp_path / "out") == found


def test_a_byte_that_changed_is_seen(run_script, finished, tmp_path: Path) -> None:
    finished("interpret", "mu=1")
    path = tmp_path / "out" / "selection.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "done before" not in run_script("interpret", "mu=1")[1]
    assert "done before" in run_script("interpret", "mu=1")[1]


def test_a_job_killed_while_it_draws_is_not_done(run_script, tmp_path: Path, monkeypatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit(137)

    drawn = ("interpret", "mu=1", "visualize.images=1", "visualize.filters_per_class=1")
    monkeypatch.setattr(records, "write_pictures", killed)
    assert run_script(*drawn)[0] == 137
    assert json.loads((tmp_path / "out" / "result.json").read_text())["pictures"] is None
    monkeypatch.undo()
    code, out, _ = run_script(*drawn)
    assert code == 0
    assert "done before" not in out
    picture = tmp_path / "out" / "pictures" / "class_3.png"
    picture.unlink()
    assert "done before" not in run_script(*drawn)[1]
    assert picture.is_file()


@pytest.mark.parametrize("script", ["interpret", "train"])
def test_a_single_job_is_resumed_unless_its_options_are_others(run_script, tmp_path: Path, script: str) -> None:
    path = tmp_path / "out" / "result.json"
    assert run_script(script, "seed=1")[0] == 0
    stamp = path.stat().st_mtime_ns
    assert f"done before: {tmp_path / 'out'}" in run_script(script, "seed=1", "device=cpu")[1]
    assert path.stat().st_mtime_ns == stamp
    for options in (["seed=1", "resume=false"], ["seed=1", "protocol.draws=3", "replace=true"]):
        assert "done before" not in run_script(script, *options)[1]
        assert path.stat().st_mtime_ns > stamp
        stamp = path.stat().st_mtime_ns
    assert json.loads(path.read_text())["protocol"]["draws"] == 3


def test_a_training_is_not_mistaken_for_a_job_of_interpret(run_script, tmp_path: Path) -> None:
    for script, other in (("train", "interpret"), ("interpret", "train")):
        assert run_script(script, "replace=true")[0] == 0
        code, out, err = run_script(other)
        assert (code, len(err.strip().splitlines())) == (1, 1)
        assert "done before" not in out
        assert "holds a finished job that is another" in err


def test_records_of_other_code_are_made_again(run_script, finished, tmp_path: Path) -> None:
    finished(*TWO, multirun=True)
    for job, edited in ((0, "code"), (1, "torch")):
        path = tmp_path / "out" / str(job)
        record = record_of(path)
        rewrite(path, versions={**record["versions"], edited: "2.0"})
    before = stamps(tmp_path / "out")
    code, _, err = run_script(*TWO, multirun=True)
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert "2 finished jobs there are others (job 0: other code): give another folder, or replace=true" in err
    assert stamps(tmp_path / "out") == before
    out = run_script(*TWO, "replace=true", multirun=True)[1]
    assert "0 of 2 jobs are done" in out
    assert "job 0: run again, as other code\njob 1: run again, as torch was 2.0, and is " in out
    assert record_of(path)["versions"] == record["versions"]


def test_a_checkpoint_that_changed_is_another_network(run_script, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run_script("train", f"seed={seed}", "replace=true")[0] == 0
    first, second = (path.read_bytes() for path in sorted((tmp_path / "store" / "networks").glob("*.pt")))
    given = tmp_path / "given.pt"
    for content, done in ((first, False), (first, True), (second, False)):
        given.write_bytes(content)
        code, out, err = run_script("interpret", f"+model.checkpoint={given}", "replace=true")
        assert code == 0, err
        assert ("done before" in out) == done
    given.unlink()
    code, _, err = run_script("interpret", f"+model.checkpoint={given}")
    assert (code, len(err.strip().splitlines())) == (1, 1)


def test_what_was_imported_counts_not_what_its_file_has_become(run_script, tmp_path: Path, monkeypatch) -> None:
    """The network's class is edited while its jobs run: here, by itself."""
    path = tmp_path / "restless.py"
    path.write_text(RESTLESS)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ("interpret", "model=own", "model._target_=restless.Net")
    assert run_script(*own, "mu=1,20", multirun=True)[0] == 0
    records = [json.loads(text) for text in contents(tmp_path / "out")]
    assert {one["model_files"]["source"] for one in records} == {hashlib.sha256(RESTLESS.encode()).hexdigest()}
    assert path.read_text() != RESTLESS
    sys.modules.pop("restless")  # as in another process
    importlib.invalidate_caches()
    _, out, err = run_script(*own, "mu=1,20", "replace=true", multirun=True)
    assert "job 0, 1: run again, as the file of model._target_ has changed" in out
    assert "0 of 2 jobs are done" in out, err
    assert json.loads(contents(tmp_path / "out")[0])["made"]["network"]


RESTLESS = """
from pathlib import Path
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        Path(__file__).write_text(Path(__file__).read_text() + "# edited\\n")
"""


def test_a_change_of_code_or_presets_changes_its_hash(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    for name in ("train.py", "interpret.py", "conf/config.yaml"):
        (tmp_path / name).write_text("1")
    seen = {versions._code(conf)}
    for name in ("train.py", "interpret.py", "conf/config.yaml", "conf/more.yaml"):
        (tmp_path / name).write_text("2")
        seen.add(versions._code(conf))
    assert len(seen) == 5


def test_a_folder_of_other_jobs_is_refused(run_script, finished, tmp_path: Path) -> None:
    finished(*TWO, multirun=True)
    before = stamps(tmp_path / "out")
    for options, sentence in {
        ("mu=2,20",): "job 0 there is another (",
        ("mu=1",): "job 1 there is another (",
        ("mu=1,20", "seed=1"): "job 0 there is another (",
        ("mu=1,20", "resume=false"): "holds the jobs of an earlier sweep: give another, or resume=true",
    }.items():
        code, _, err = run_script("interpret", *options, multirun=True)
        assert code == 1
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
        assert stamps(tmp_path / "out") == before


def test_two_sweeps_at_once_in_one_folder(run_script, tmp_path: Path) -> None:
    """One of them runs, the other says that it does."""
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        code, _, err = run_script(*TWO, multirun=True)
    assert code == 1
    assert err.strip() == f"hydra.sweep.dir={tmp_path / 'out'}: a sweep is running there; wait for it, or give another"
    assert not contents(tmp_path / "out")
    assert run_script(*TWO, multirun=True)[0] == 0


def test_a_sweep_that_runs_holds_its_folder(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looks_at_lock(tmp_path / "out" / ".lock", monkeypatch)
    assert run_script(*TWO, multirun=True)[0] == 0
    assert len(looks) == 2


def test_one_checkpoint_that_is_gone_leaves_the_other_jobs(run_script, finished, tmp_path: Path) -> None:
    finished("train")
    (stored,) = (tmp_path / "store" / "networks").glob("*.pt")
    given = [tmp_path / name for name in ("a.pt", "b.pt")]
    for path in given:
        path.write_bytes(stored.read_bytes())
    (tmp_path / "out" / "result.json").unlink()
    both = ("interpret", f"+model.checkpoint={given[0]},{given[1]}")
    assert run_script(*both, multirun=True)[0] == 0
    given[0].unlink()
    (tmp_path / "out" / "multirun.yaml").write_text("")  # as a full disk leaves it
    code, out, err = run_script(*both, multirun=True)
    assert code == 1
    assert "1 of 2 jobs are done" in out, err
    assert err.startswith("job 0 (")
    assert str(given[0]) in err


def test_a_sweep_of_the_other_script_is_refused(run_script, finished, tmp_path: Path) -> None:
    finished("train", "mu=1,20", multirun=True)
    before = stamps(tmp_path / "out")
    code, _, err = run_script("interpret", "mu=1,20", multirun=True)
    assert code == 1
    assert err.strip() == f"hydra.sweep.dir={tmp_path / 'out'} holds a sweep of train.py: give another folder"
    assert stamps(tmp_path / "out") == before


def test_a_record_that_cannot_be_read_now_is_kept(
    run_script, finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that is out of reach for a moment."""
    finished("interpret", "mu=1")
    path, opened = tmp_path / "out" / "result.json", os.open

    def failing(given: Any, *more: Any, **named: Any) -> int:
        if given == path:
            raise OSError(errno.ESTALE, "Stale file handle", str(given))
        return opened(given, *more, **named)

    monkeypatch.setattr(os, "open", failing)
    code, _, err = run_script("interpret", "mu=1")
    assert code == 1
    assert str(path) in err
    assert len(err.strip().splitlines()) == 1
    monkeypatch.undo()
    assert "done before" in run_script("interpret", "mu=1")[1]


def test_a_record_does_not_say_what_is_imported(
    run_script, finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished("interpret", "mu=1")
    folder, code = tmp_path / "out", tmp_path / "hostile.py"
    code.write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    model = {**record_of(folder)["model"], "_target_": "hostile.Net"}
    rewrite(folder, model=model, config={**record_of(folder)["config"], "model": model})
    assert "done before" not in run_script("interpret", "mu=1")[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["result.json", "selection.npz", "predictions.npz"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_in_the_place_of_a_file_costs_its_job_alone(
    run_script, finished, tmp_path: Path, name: str, kept: bool
) -> None:
    finished(*TWO, multirun=True)
    path = tmp_path / "out" / "0" / name
    path.unlink()
    path.mkdir()
    if kept:
        (path / "notes").touch()
    (tmp_path / "out" / "1" / "result.json").unlink()
    code, out, err = run_script(*TWO, multirun=True)
    assert "job 0: run again, as its record or arrays are damaged" in out
    assert (tmp_path / "out" / "1" / "result.json").is_file()
    if kept:
        assert code == 1
        assert f"{path} is a folder, where a job writes a file: move it elsewhere\n" in err
        assert (path / "notes").exists()
    else:
        assert code == 0, err
        assert path.is_file()
