"""A Slurm and a PostgreSQL of a test's own, in a folder, for as long as it needs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")
SLURM = ("slurmctld", "slurmd", "sbatch", "munged")


def wait_until(condition: Callable[[], Any], seconds: float = 600) -> Any:
    """What a condition gives, once it holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it is not so after {seconds:g} s"
        time.sleep(0.1)
    return found


class Slurm:
    """A Slurm of one node, this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600, check=True)
        return done.stdout.strip()

    def queue(self) -> list[str]:
        """The jobs that wait or run."""
        return self.ask("squeue", "--array", "--noheader", "--format=%i").split()

    @property
    def node(self) -> str:
        return self.ask("sinfo", "--noheader", "--format=%n")

    def fail(self) -> None:
        """What a node does that loses its power: its processes are gone, and Slurm finds it down."""
        for names in ({"slurmd", "slurmstepd"}, None):
            for process in self._processes(names):
                os.kill(process, signal.SIGKILL)
        self.ask("scontrol", "update", f"nodename={self.node}", "state=down", "reason=no power")

    def repair(self) -> None:
        (self.folder / "slurmd.pid").unlink(missing_ok=True)
        self.ask("slurmd")
        self.ask("scontrol", "update", f"nodename={self.node}", "state=resume")

    def _processes(self, names: set[str] | None) -> list[int]:
        """Those of the node with some names, or those of its jobs."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                name, variables = (path / "comm").read_text().strip(), (path / "environ").read_text().split("\0")
            except OSError:  # it has just ended
                continue
            own = f"SLURM_CONF={self.environment['SLURM_CONF']}" in variables
            if own and (name in names if names else any(one.startswith("SLURM_JOB_ID=") for one in variables)):
                found.append(int(path.name))
        return found


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    if missing := [name for name in SLURM if not shutil.which(name)]:
        pytest.skip(f"needs Slurm (Debian: slurm-wlm); there is no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root, as which Slurm runs here")
    with tempfile.TemporaryFile("w+") as said:  # no pipe, of which a daemon would hold the end
        if subprocess.run([SCRIPT, "start", folder], stderr=said, timeout=600, check=False).returncode:
            said.seek(0)
            pytest.skip(f"Slurm does not start on this machine: {said.read().strip()}")
    try:
        yield Slurm(folder)
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=600)


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: float(path.parent.name))
    initdb = shutil.which("initdb", path=f"{os.environ['PATH']}:{programs}")
    if initdb is None:
        pytest.skip("needs PostgreSQL (Debian: postgresql); there is no initdb")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        if user:
            shutil.chown(folder, "postgres")
        held, control = f"{folder}/data", str(Path(initdb).with_name("pg_ctl"))

        def run(*command: str) -> None:
            subprocess.run([*user, *command], cwd=folder, stdout=subprocess.DEVNULL, timeout=600, check=True)

        run(initdb, "--auth=trust", "--username=tipping", "--pgdata", held)
        options = f"-c listen_addresses='' -c fsync=off -k {folder}"
        run(control, "start", "--wait", "--pgdata", held, "--log", f"{folder}/log", "--options", options)
        try:
            yield f"postgresql+psycopg2://tipping@/postgres?host={folder}"
        finally:
            run(control, "stop", "--wait", "--mode=immediate", "--pgdata", held)
