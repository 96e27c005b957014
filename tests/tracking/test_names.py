"""Names that are too long for W&B, and a home folder that cannot be written to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, SMALL

from tipping.tracking.home import FOLDERS, avoid_home
from tipping.tracking.names import LONGEST_TAG, short


def test_names_are_cut_and_stay_different() -> None:
    names = ["x" * 64, "x" * 65, "x" * 66, "x" * 65 + "y", "é" * 500]
    cut = [short(name, LONGEST_TAG) for name in names]
    assert cut[0] == names[0]
    assert all(len(name) <= LONGEST_TAG for name in cut)
    assert len(set(cut)) == len(cut)


@pytest.mark.parametrize("home", ["/dev/null", "/proc"])
def test_a_home_that_cannot_be_written_to_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    for variable in FOLDERS:
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    avoid_home(tmp_path)
    assert {Path(os.environ[variable]).parent for variable in FOLDERS} == {tmp_path / "wandb"}


def test_a_job_needs_no_home_and_takes_any_name(tmp_path: Path) -> None:
    name = f"a/b/{'x' * 90}"
    places = [f"store.dir={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'out'}", f"tracking.dir={tmp_path}"]
    given = [sys.executable, str(ROOT / "interpret.py"), *SMALL, *places, f"model.name='{name}'"]
    environment = {**os.environ, "HOME": "/dev/null", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run(given, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "W&B failed" not in done.stdout + done.stderr
    assert "W&B could not start" not in done.stdout + done.stderr
