"""Commands that begin at once: forks of one process, which has loaded what commands load.

A command in a new process spends seconds loading torch and Lightning. Here one process, beside each process of tests,
loads them once, runs nothing, and is forked for each command. The fork is a child of the test, with the arguments, the
folder, the environment, the files and the session that `subprocess.Popen` would give it, so signals, kills and exit
codes are those of any process (`test_forked.py`). What it cannot show is what is loaded and when, how long that takes,
another seed of hashes for each command, and its line in a list of processes: tests of these use `subprocess`.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

LOADED = ("hydra", "sklearn.datasets", "pytorch_lightning", "matplotlib.figure", "altair", "vl_convert", "jinja2")
LOADED += ("optuna", "sqlalchemy", "tipping.experiment.interpret", "tipping.experiment.train", "tipping.report.page")
LATE = ("HOME", "HYDRA_", "PYTEST_", "PYTHONPATH", "TIPPING_", "WANDB_")  # variables that nothing of these reads,
LATE += ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")  # or that scikit-learn sets as it is loaded
BEFORE = dict(os.environ)
SUBREAPER = 36  # of prctl: orphans below a process become its children
LARGEST = 200_000  # bytes of a request


class Popen(subprocess.Popen):
    """A command of Python's as a fork; in a new process, where a variable that is read in loading has another value."""

    def _execute_child(self, *given: Any) -> None:
        begin = super()._execute_child
        asked = inspect.signature(begin).bind(*given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if sys.platform != "linux" or asked["args"][0] != sys.executable or _early(environment) != _early(BEFORE):
            return begin(*given)
        request = {"arguments": asked["args"][1:], "environment": environment, "folder": os.fspath(asked["cwd"] or "")}
        request |= {"session": asked["start_new_session"], "here": str(Path.cwd())}
        files = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        with _adopting():
            own = [number if file == -1 else file for number, file in enumerate(files)]
            socket.send_fds(_loaded(), [json.dumps(request).encode()], own)
            self.pid = int(_loaded().recv(LARGEST))
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in pipes))


def run(given: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command: its exit code, and what it prints."""
    with Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(given, process.returncode, out, err)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be read in loading."""
    return {name: value for name, value in environment.items() if not name.startswith(LATE)}


@contextmanager
def _adopting() -> Iterator[None]:
    """Within it, a process whose parent ends becomes a child of this one, as this one began the parent."""
    library = ctypes.CDLL(None)
    library.prctl(SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(SUBREAPER, 0, 0, 0, 0)


@cache
def _loaded() -> socket.socket:
    """The connection to the process that is forked, which ends when it is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = [sys.executable, __file__, str(theirs.fileno())]
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(given, env=BEFORE, pass_fds=[theirs.fileno()], start_new_session=True, **nowhere)
    theirs.close()
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


def _serve(connection: socket.socket) -> list[str]:
    """Fork for each request; in the fork, return the arguments of the command."""
    for name in LOADED:
        import_module(name)
    gc.collect()
    gc.freeze()  # what is shared is not written to
    assert threading.active_count() == len([*Path("/proc/self/task").iterdir()]) == 1, "a fork has but one thread"
    while True:
        message, files, *_ = socket.recv_fds(connection, LARGEST, 3)
        if not message:  # the tests have ended
            os._exit(0)
        if (between := os.fork()) == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)  # so that the fork is an orphan, which the test adopts
            while os.getppid() == between:
                time.sleep(0.001)
            connection.send(str(os.getpid()).encode())
            connection.close()
            return _become(json.loads(message), files)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def _become(request: dict[str, Any], files: list[int]) -> list[str]:
    """Take on what a command is given; return its arguments."""
    if request["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(Path(request["here"], request["folder"]))
    ahead = os.environ.get("PYTHONPATH", "")
    sys.path[1:1] = [path for path in ahead.split(os.pathsep) if path]
    return request["arguments"]


def _begin(first: str, *rest: str) -> None:
    """Run what Python would run, given the arguments of its command line."""
    if first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif first == "-m":
        sys.argv, sys.path[0] = list(rest), str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _begin(*_serve(socket.socket(fileno=int(sys.argv[1]))))
