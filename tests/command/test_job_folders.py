"""Folders of a sweep's jobs: one for each, and found again; files of Hydra's that are torn."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from running import looks_at_lock, rows_of

FOUR = ("interpret", "mu=1,20", "seed=0,1")

OWN = (".lock", ".new", ".hydra", ".x", "multirun.yaml", "results.csv", "trainings.csv", "report.html", "result.json")
OWN += ("accuracy_drop.png", "Multirun.yaml")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hydra.sweep.subdir='mu_${mu}'", "hydra.sweep.subdir=mu_1: jobs 0 and 1 would share that folder"),
        ("hydra.sweep.subdir=same", "hydra.sweep.subdir=same: jobs 0 and 1 would share that folder"),
        ("hydra.sweep.subdir='${model.name}'", "hydra.sweep.subdir=keras_cnn: jobs 0 and 1 would share that folder"),
        ("hydra.sweep.subdir='a/${hydra.job.num}'", "hydra.sweep.subdir=a/0: give the name of one folder"),
        ("hydra.sweep.subdir=''", "hydra.sweep.subdir=: give the name of one folder"),
        ("hydra.sweep.subdir=.", "hydra.sweep.subdir=.: give the name of one folder"),
        ("hydra.sweep.subdir=..", "hydra.sweep.subdir=..: give the name of one folder"),
        ("hydra.sweep.subdir=/tmp/x", "hydra.sweep.subdir=/tmp/x: give the name of one folder"),
        *(
            (f"hydra.sweep.subdir={name}", f"hydra.sweep.subdir={name}: sweeps keep files of such names")
            for name in OWN
        ),
        ("hydra.output_subdir=null", "hydra.output_subdir=None: a sweep needs it"),
        ("hydra.output_subdir=notes", "hydra.output_subdir=notes: a sweep needs it"),
        ("hydra.sweep.dir='out/${mu}'", "hydra.sweep.dir=out/1: all jobs must share one folder"),
    ],
)
def test_folders_that_would_lose_jobs_are_refused_before_the_start(
    run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run_script(*FOUR, option, multirun=True)
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert said in err
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob(".hydra"))


@pytest.mark.parametrize("subdir", ["mu_${mu}_${seed}", "${seed}.${trainer.batch_size}.${mu}", "job_${hydra:job.num}"])
def test_folders_by_options_are_found_again(run_script, tmp_path: Path, subdir: str) -> None:
    given = (*FOUR, f"hydra.sweep.subdir='{subdir}'")
    assert run_script(*given, multirun=True)[0] == 0
    assert len(rows_of(tmp_path / "out")) == 4
    sorted((tmp_path / "out").glob("*/result.json"))[1].unlink()
    code, out, err = run_script(*given, multirun=True)
    assert code == 0, err
    assert "3 of 4 jobs are done" in out
    code, _, err = run_script(*FOUR, multirun=True)
    assert (code, "there is another (" in err) == (1, True)


@pytest.mark.parametrize("name", ["multirun.yaml", "0/.hydra/overrides.yaml", "1/.hydra/hydra.yaml"])
@pytest.mark.parametrize("torn", ["", "hydra:\n  run:\n    di", "- mu=1\n- 'see", "\0\0\0", "[", "x", "- mu=9\n", None])
def test_a_torn_file_of_hydra_does_not_lock_a_sweep(
    run_script, finished, tmp_path: Path, name: str, torn: str | None
) -> None:
    finished("interpret", "mu=1,20", multirun=True)
    path = tmp_path / "out" / name
    path.unlink()
    if torn is not None:
        path.write_text(torn)
    code, out, err = run_script("interpret", "mu=1,20", multirun=True)
    assert code == 0, err
    assert "2 of 2 jobs are done" in out
    (tmp_path / "out" / "1" / "result.json").unlink()
    if torn is not None:
        path.write_text(torn)
    code, out, err = run_script("interpret", "mu=1,20", multirun=True)
    assert code == 0, err
    assert "1 of 2 jobs are done" in out


def test_a_finished_sweep_is_not_composed_again(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    assert run_script(*FOUR, multirun=True)[0] == 0
    compose, composed = ConfigLoaderImpl.load_sweep_config, []

    def counting(self: ConfigLoaderImpl, *given: object) -> object:
        composed.append(given)
        return compose(self, *given)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counting)
    assert "4 of 4 jobs are done" in run_script(*FOUR, multirun=True)[1]
    assert not composed
    code, _, err = run_script("interpret", "mu=1,20", "seed=0,1", "protocol.draws=3", multirun=True)
    assert (code, "job 0 there is another" in err) == (1, True)


def test_presets_of_ones_own_that_were_edited_are_other_options(run_script, tmp_path: Path) -> None:
    """Though the command is the same."""
    preset = tmp_path / "mine" / "protocol" / "own.yaml"
    preset.parent.mkdir(parents=True)
    text = "defaults: [described]\ndraws: {}\n"
    own = ("interpret", "mu=1,20", "protocol=own", f"hydra.searchpath=[file://{tmp_path / 'mine'}]")
    preset.write_text(text.format(2))
    assert run_script(*own, "protocol.name=own", multirun=True)[0] == 0
    assert "2 of 2 jobs are done" in run_script(*own, "protocol.name=own", multirun=True)[1]
    preset.write_text(text.format(3) + "norm: squared\n")
    code, _, err = run_script(*own, "protocol.name=own", multirun=True)
    assert (code, "job 0: protocol.norm was frobenius, and is squared" in err) == (1, True), err


@pytest.mark.parametrize("mark", ["multirun.yaml", "0/.hydra/overrides.yaml", "0/result.json"])
def test_a_single_job_does_not_run_in_the_folder_of_a_sweep(run_script, tmp_path: Path, mark: str) -> None:
    path = tmp_path / "out" / mark
    path.parent.mkdir(parents=True)
    path.write_text("")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run_script("interpret", "mu=1", "replace=true")
    folder = tmp_path / "out"
    assert (code, err) == (1, f"hydra.run.dir={folder} is the folder of a sweep or search: give another folder\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("earlier", [True, False])
def test_two_single_jobs_at_once_in_one_folder(run_script, tmp_path: Path, earlier: bool) -> None:
    if earlier:
        assert run_script("interpret", "mu=1")[0] == 0
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    given = ("interpret", "mu=9", "replace=true")
    with FileLock(folder / ".lock"):
        code, _, err = run_script(*given)
    assert (code, err) == (1, f"hydra.run.dir={folder}: a job is running there; wait for it, or give another\n")
    assert run_script(*given)[0] == 0


def test_a_single_job_that_runs_holds_its_folder(run_script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looks_at_lock(tmp_path / "out" / ".lock", monkeypatch)
    assert run_script("interpret", "mu=1")[0] == 0
    assert looks
