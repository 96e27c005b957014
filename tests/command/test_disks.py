"""Disks that are full, or cannot be written to: one line, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import command, findings, here, leftovers

MU = ["mu=1,5"]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run a sweep where nothing goes wrong: what it finds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = here(command(folder, *MU))
    assert done.returncode == 0, done.stderr
    assert len(findings(folder)) == 2
    return findings(folder)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own in a folder."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # the log of the job here is open yet


@pytest.mark.parametrize(("place", "kibibytes"), [("store", 30), ("store", 200), ("sweep", 60)])
def test_a_full_disk_is_one_line_a_job(tmp_path: Path, half: dict[str, Any], place: str, kibibytes: int) -> None:
    with mounted(tmp_path / place, f"size={kibibytes}k"):
        done = here(command(tmp_path, *MU))
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert any(line.startswith("job 0 (") for line in lines)
        assert all(str(tmp_path / place) in line for line in lines if "No space" in line)
        assert not leftovers(tmp_path)
        assert all(half[job] == one for job, one in findings(tmp_path).items())
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path / place)], check=True)
        again = here(command(tmp_path, *MU))
        assert again.returncode == 0, again.stderr
        assert findings(tmp_path) == half


@pytest.mark.parametrize("place", ["store", "sweep"])
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, place: str) -> None:
    with mounted(tmp_path / place, "ro"):
        done = here(command(tmp_path, "mu=1", "visualize=off"))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert str(tmp_path / place) in done.stderr
    assert not findings(tmp_path)
