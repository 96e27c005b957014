"""Nothing finished is deleted before what replaces it is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from running import record_of, rewrite

from tipping.experiment import records, staging, versions

TWO = ("interpret", "mu=1,20")
DRAWN = ("visualize.images=1", "visualize.filters_per_class=1")


def held(folder: Path) -> dict[str, bytes]:
    """What the jobs of a folder found: all their files but those of Hydra and logs."""
    paths = (path for path in folder.rglob("*") if path.suffix in (".json", ".npz", ".png") and path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("bad", ["device=gpu", "device=cuda", "store.dir=/dev/null/store", "resume=false"])
def test_the_same_sweep_with_a_bad_option_is_refused_and_changes_nothing(
    run_script, finished, tmp_path: Path, bad: str
) -> None:
    finished(*TWO, multirun=True)
    for job in ("0", "1"):  # so that there is something to run
        code = {**record_of(tmp_path / "out" / job)["versions"], "code": "older"}
        rewrite(tmp_path / "out" / job, versions=code)
    before = held(tmp_path / "out")
    more = [] if bad == "resume=false" else ["replace=true"]
    code, _, err = run_script(*TWO, bad, *more, multirun=True)
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert bad in err or bad == "resume=false"
    assert held(tmp_path / "out") == before


@pytest.mark.parametrize("script", ["interpret", "train"])
@pytest.mark.parametrize("option", ["trainer.batch_size=64", "seed=3", "data=planted"])
def test_a_finished_job_of_other_options_is_kept_unless_told_otherwise(
    run_script, finished, tmp_path: Path, script: str, option: str
) -> None:
    finished(script, "mu=5")
    before = held(tmp_path / "out")
    name = option.split("=")[0]
    code, _, err = run_script(script, "mu=5", option)
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert f"{tmp_path / 'out'} holds a finished job that is another ({name} was" in err
    assert err.strip().endswith("give another folder, or replace=true to run again what differs")
    assert held(tmp_path / "out") == before
    if name != "data":
        assert run_script(script, "mu=5", option, "replace=true")[0] == 0
        assert f"done before: {tmp_path / 'out'}" in run_script(script, "mu=5", option)[1]


@pytest.mark.parametrize("kind", ["older", "newer"])
def test_a_record_of_another_version_is_no_damaged_one(run_script, finished, tmp_path: Path, kind: str) -> None:
    finished("interpret")
    rewrite(tmp_path / "out", schema=5 if kind == "older" else 99)
    before = held(tmp_path / "out")
    code, _, err = run_script("interpret")
    assert (code, "its record is of another version" in err) == (1, True)
    assert held(tmp_path / "out") == before


class Killed(BaseException):
    """As by kill -9: nothing is handled."""


WRITERS = ["write_selection", "write_predictions", "write_record", "write_pictures"]


@pytest.mark.parametrize("error", [MemoryError, lambda: OSError(errno.ENOSPC, "No space left on device"), Killed])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_job_that_fails_or_is_killed_leaves_the_earlier_record(
    run_script, finished, tmp_path: Path, monkeypatch, writer: str, error: Callable[[], BaseException]
) -> None:
    finished("interpret", "mu=1", *DRAWN)
    before = held(tmp_path / "out")
    write = getattr(records, writer)

    def half(*given: Any) -> None:
        write(*given)
        raise error()

    monkeypatch.setattr(records, writer, half)
    if error is Killed:
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nothing is tidied up
    with suppress(Killed):
        assert run_script("interpret", "mu=9", "replace=true", *DRAWN)[0] == 1
    monkeypatch.undo()
    assert before.items() <= held(tmp_path / "out").items()
    assert records.read_record(tmp_path / "out").mu == 1
    code, out, err = run_script("interpret", "mu=1", *DRAWN)
    assert (code, "done before" in out) == (0, True), err
    assert held(tmp_path / "out") == before
    assert not (tmp_path / "out" / ".new").exists()


@pytest.mark.parametrize("moves", range(1, 5))  # the first says that all are written
def test_a_job_killed_as_its_files_take_their_places_is_done(
    run_script, finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Its files are all written: the next command moves the rest of them."""
    finished("interpret", "mu=1", *DRAWN)
    replace, moved = Path.replace, []

    def killing(self: Path, target: Path) -> Path:
        if self.parent.name == ".new" and not self.name.endswith(".part"):
            if len(moved) == moves:
                raise Killed
            moved.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killing)
    with pytest.raises(Killed):
        run_script("interpret", "mu=9", "replace=true", *DRAWN)
    monkeypatch.undo()
    code, out, err = run_script("interpret", "mu=9", *DRAWN)
    assert (code, "done before" in out) == (0, True), err
    assert records.read_record(tmp_path / "out").mu == 9


def test_pictures_that_are_drawn_no_more_go_with_their_record(run_script, finished, tmp_path: Path) -> None:
    finished("interpret", "mu=1", *DRAWN)
    assert list((tmp_path / "out" / "pictures").glob("*.png"))
    assert run_script("interpret", "mu=1", "visualize=off", "replace=true")[0] == 0
    assert not (tmp_path / "out" / "pictures").exists()


def test_why_a_job_is_run_again_is_said(run_script, finished, tmp_path: Path) -> None:
    finished("interpret", "mu=1,5,20,50", *DRAWN, multirun=True)
    out = tmp_path / "out"
    (out / "1" / "predictions.npz").write_bytes((out / "2" / "predictions.npz").read_bytes())
    (out / "2" / "pictures" / "class_3.png").unlink()
    (out / "3" / "selection.npz").unlink()
    code, said, err = run_script("interpret", "mu=1,5,20,50", *DRAWN, multirun=True)
    assert code == 0, err
    assert "job 1: run again, as its record or arrays are damaged: predictions.npz is not what was written" in said
    assert "job 2: run again, as class_3.png is missing" in said or "pictures/class_3.png is missing" in said
    assert "job 3: run again, as selection.npz is missing" in said
    assert "1 of 4 jobs are done" in said


def test_the_lock_file_of_an_editor_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, conf = tmp_path / "package", tmp_path / "conf"
    for folder in (package, conf):
        folder.mkdir()
    (package / "line.py").write_text("1")
    (conf / "config.yaml").write_text("1")
    monkeypatch.setattr(versions, "PACKAGE", package)
    before = versions._code(conf)
    (package / ".#line.py").symlink_to("somebody@elsewhere.1234")
    (conf / ".#config.yaml").symlink_to("somebody@elsewhere.1234")
    (package / "folder.py").mkdir()
    os.mkfifo(package / "pipe.py")
    assert versions._code(conf) == before


def test_files_of_a_job_that_was_stopped_are_dropped(tmp_path: Path) -> None:
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / "selection.npz").write_text("half")
    staging.settle(tmp_path)
    assert not list(tmp_path.iterdir())


def place(path: Path, kind: str, elsewhere: Path) -> None:
    """Put a link, or a file, where a job has a folder."""
    shutil.rmtree(path, ignore_errors=True)
    elsewhere.mkdir()
    (elsewhere / "class_3.png").write_text("kept")
    if kind == "file":
        path.write_text("")
    else:
        path.symlink_to(elsewhere if kind == "link" else elsewhere / "nowhere")


KINDS = ["link", "dangling link", "file"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["pictures", ".new"])
@pytest.mark.parametrize(("drawn", "recorded"), [(True, True), (True, False), (False, True)])
def test_a_link_or_file_in_the_place_of_a_folder_gives_way(
    run_script, finished, tmp_path: Path, kind: str, name: str, drawn: bool, recorded: bool
) -> None:
    finished("interpret", "mu=1", *DRAWN)
    out = tmp_path / "out"
    place(out / name, kind, tmp_path / "elsewhere")
    if not recorded:
        (out / "result.json").unlink()
    code, _, err = run_script("interpret", "mu=9", "replace=true", *(DRAWN if drawn else ["visualize=off"]))
    assert code == 0, err
    assert records.read_record(out).mu == 9
    assert not (out / ".new").exists()
    assert not (out / "pictures").is_symlink()
    assert (out / "pictures").is_dir() == drawn
    assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["kept"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_was_half_moved_beside_a_link_is_settled(run_script, finished, tmp_path: Path, kind: str) -> None:
    """Though the folder was left so by what could not go on."""
    finished("interpret", "mu=9", *DRAWN)
    out = tmp_path / "out"
    (out / ".new").mkdir()
    (out / "result.json").rename(out / ".new" / staging.READY)
    (out / "pictures").rename(out / ".new" / "pictures")
    place(out / "pictures", kind, tmp_path / "elsewhere")
    assert "done before" in run_script("interpret", "mu=9", *DRAWN)[1]
    assert (tmp_path / "elsewhere" / "class_3.png").read_text() == "kept"


def test_nothing_is_moved_where_a_folder_stands_in_the_way(run_script, finished, tmp_path: Path) -> None:
    finished("interpret", "mu=1", *DRAWN)
    out = tmp_path / "out"
    (out / "predictions.npz").unlink()
    (out / "predictions.npz" / "notes").mkdir(parents=True)
    before = held(out)
    code, _, err = run_script("interpret", "mu=9", "replace=true", *DRAWN)
    assert code == 1
    assert err == f"{out / 'predictions.npz'} is a folder, where a job writes a file: move it elsewhere\n"
    assert held(out) == before


BAD = ["model.dropout=7", "visualize=gallery visualize.resample=nearest", "mu=1,nan", "+model.checkpoint=nowhere.pt"]


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a folder, but locks."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"} | {
        str(path): b"" for path in folder.rglob("*") if path.is_dir()
    }


@pytest.mark.parametrize("bad", ["model.dropout=7", "visualize=gallery visualize.resample=nearest", BAD[3]])
@pytest.mark.parametrize("how", ["resume=false", "replace=true"])
@pytest.mark.parametrize("script", ["interpret", "train"])
def test_a_single_job_that_cannot_run_touches_nothing(
    run_script, finished, tmp_path: Path, bad: str, how: str, script: str
) -> None:
    if script == "train" and "visualize" in bad:
        pytest.skip("pictures of epochs are other options")
    finished(script)
    (tmp_path / "out" / ".lock").unlink(missing_ok=True)
    before = everything(tmp_path / "out")
    code, _, err = run_script(script, how, *bad.split())
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert {path: one for path, one in everything(tmp_path / "out").items() if not path.endswith(".lock")} == before


@pytest.mark.parametrize("bad", ["model.dropout=2", *BAD])
def test_a_replacing_sweep_with_a_job_that_cannot_run_touches_nothing(
    run_script, finished, tmp_path: Path, bad: str
) -> None:
    finished("interpret", "mu=1,20", "seed=0,1", multirun=True)
    before = everything(tmp_path / "out")
    mus = [] if bad.startswith("mu") else ["mu=1,20"]
    code, _, err = run_script("interpret", *mus, "seed=0,1", *bad.split(), "replace=true", multirun=True)
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert "cannot run, so nothing is replaced: " in err
    assert everything(tmp_path / "out") == before
