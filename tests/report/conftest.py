from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from running import MARKUP, printed

SMALL = ["data=digits", "model.filters=4", "model.depth=2", "trainer.max_epochs=3", "tracking=off", "protocol.draws=2"]
SMALL += ["curve.points=2", "curve.images=100", "visualize.images=2", "visualize.filters_per_class=1"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of network, one with a name that is no good, of two seeds at two mu: made once by all processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "report.lock"):
        if not (shared / "report" / "sweep" / "report.html").exists():
            make(shared / "report")
    return shutil.copytree(shared / "report" / "sweep", tmp_path_factory.mktemp("report") / "sweep")


def make(folder: Path) -> None:
    options = [*SMALL, f"store.dir={folder / 'store'}", f"hydra.sweep.dir={folder / 'sweep'}"]
    options += ["mu=0.1,1", "seed=0,1", "model.dropout=0,0.5", f"model.name='{MARKUP}'"]
    lines = printed("interpret.py", "-m", *options).splitlines()
    assert lines[-2].endswith("sweep/report.html")
    assert lines[-1].startswith("next: python sweeps/tipping_point.py data=digits")
