"""What is loaded, and when: no command waits for a package that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, printed

SCRIPTS = ("interpret.py", "train.py", "sweeps/tipping_point.py", "sweeps/fewest_filters.py")
TORCH, DIGITS = {"torch", "numpy"}, {"sklearn", "scipy"}
DRAWN, SEARCHED = {"altair", "vl_convert", "matplotlib"}, {"optuna", "sqlalchemy"}
ELSEWHERE = {"wandb", "pytorch_lightning", "torchmetrics", "jinja2", *DRAWN, *SEARCHED}  # not in a job as it is below
SLOW = {*TORCH, *DIGITS, *ELSEWHERE}
METHOD = ("files", "models", "planted", "mu_lasso", "data", "network", "selection", "ablation", "visualize")
METHOD += ("experiment.checks", "experiment.pictures", "experiment.subject", "experiment.records", "tracking")
JOB = ("tracking=off", "visualize=off", "curve.points=1", "curve.images=50", "protocol.draws=1", "mu=5")
LOADED = """
import runpy, sys

sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*{module.partition(".")[0] for module in sys.modules})
"""


def python(code: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run code in a fresh process: how it ended, and the slow packages that its last line names."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    return done, SLOW & set(done.stdout.splitlines()[-1].split())


def loaded(script: str, *options: str) -> set[str]:
    """The slow packages that a script has loaded when it ends without failure."""
    done, packages = python(LOADED, str(ROOT / script), *options)
    assert done.returncode == 0, done.stderr
    return packages


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_slow(script: str) -> None:
    assert loaded(script, "--help") == set()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-m seed=1,2 nosuch=3", "nosuch: no such option"),
        ("-m seed=1,2 model.nosuch=1,2", "model.nosuch: no such option"),
        ("-m data=glob(nosuch*)", "data: no values"),
        ("--nosuch", "unrecognized arguments: --nosuch"),
    ],
)
def test_mistakes_in_the_options_are_said_before_anything_slow_is_loaded(script: str, options: str, said: str) -> None:
    done, packages = python(LOADED, str(ROOT / script), *options.split())
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1
    assert packages == set()


def test_a_job_whose_network_is_stored_loads_what_it_computes_with(tmp_path: Path) -> None:
    """Its table of results, its page and its pictures, its training, its run and the searches load the rest."""
    small = (
        "data=digits",
        "trainer.max_epochs=1",
        "model.filters=4",
        "model.depth=2",
        f"store.dir={tmp_path / 'store'}",
    )
    printed("interpret.py", *small, *JOB, f"hydra.run.dir={tmp_path / 'trained'}")
    assert loaded("interpret.py", *small, *JOB, f"hydra.run.dir={tmp_path / 'found'}") == {*TORCH, *DIGITS}
    assert (tmp_path / "found" / "result.json").is_file()


def test_scikit_learn_is_for_the_digits_alone(tmp_path: Path) -> None:
    options = ("data=planted", "model=planted", *JOB, f"store.dir={tmp_path}", f"hydra.run.dir={tmp_path / 'out'}")
    assert loaded("interpret.py", *options) == {*TORCH, "scipy"}


def test_rooms_load_no_more_than_they_need() -> None:
    """One after the other in one process, as each needs all that those before it need."""
    settled = ("errors", "experiment.config", "experiment.options", "experiment.schema", "command.resume")
    results = ("tipping_points", "results.sweep", "results.tables", "results.tipping_map", "report.origin")
    groups = {
        (*settled, "command.line"): set[str](),
        METHOD: TORCH,
        results: {*TORCH, "scipy"},
        ("report.page",): {*TORCH, "scipy", "jinja2", *(DRAWN - {"vl_convert"})},
    }
    names = "print(*{name.partition('.')[0] for name in sys.modules})"
    imports = [f"import tipping.{', tipping.'.join(rooms)}\n{names}" for rooms in groups]
    done, _ = python("\n".join(["import sys", *imports]))
    assert done.returncode == 0, done.stderr
    assert [SLOW & set(line.split()) for line in done.stdout.splitlines()] == list(groups.values())
