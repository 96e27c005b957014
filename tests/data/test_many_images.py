"""A job on more images than the memory may hold: its peak does not depend on their number."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import ROOT

SIDE, CLASSES, FILES = 160, 4, 200  # pixels; classes; different files, of which the others are copies
SCRIPT = """
import resource, runpy, sys

sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("KB", *(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""
NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            *(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)),
        )
"""


def folder_of(place: Path, count: int) -> Path:
    """A folder of images in colour, a fifth of them test images; `FILES` are different."""
    rng, contents = np.random.default_rng(0), []
    for number in range(FILES):
        pixels = rng.integers(256, size=(8, 8, 3)) // 4 * 3 + number % CLASSES * 20
        content = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).resize((SIDE, SIDE)).save(content, "JPEG")
        contents.append(content.getvalue())
    for number in range(count):
        of_class = place / "photos" / ("test" if number % 5 == 0 else "train") / f"class {number % CLASSES}"
        of_class.mkdir(parents=True, exist_ok=True)
        (of_class / f"{number}.jpg").write_bytes(contents[number % FILES])
    return place / "photos"


def peaks(place: Path, count: int) -> tuple[float, float]:
    """The peak memory, in MB, of a job and of the largest process that it starts; all images together need more."""
    place.mkdir()
    (place / "theirs.py").write_text(NET)
    photos, store = folder_of(place, count), place / "store"
    options = ("data=folder", f"data.path={photos}", "data.memory=50", "model=own", "model._target_=theirs.Net")
    options += ("mu=5", "tracking=off", "visualize.images=2", "protocol.draws=1", "curve.points=2", "curve.images=100")
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "interpret.py"), *options]
    command += [f"store.dir={store}", f"hydra.run.dir={place / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=3600)
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "out" / "result.json").read_text())
    assert record["classes"] == [f"class {label}" for label in range(CLASSES)]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("KB"))
    own, others = line.split()[1:]
    return int(own) / 1000, int(others) / 1000


@pytest.mark.long
def test_twenty_thousand_images_take_no_more_memory_than_two_thousand(tmp_path: Path) -> None:
    """As bytes they would take 1.5 GB, and as floats 6 GB."""
    few, many = peaks(tmp_path / "few", 2_000), peaks(tmp_path / "many", 20_000)
    assert sum(many) < 1500
    assert many[0] - few[0] < 100
    assert many[1] - few[1] < 100
