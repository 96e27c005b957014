"""A fork of a process that has loaded what commands load, beside a process of the usual kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

SEEN = """
import json, os, signal, sys

seen = {"argv": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ), "first": sys.path[:2]}
seen |= {"name": __name__, "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(), "read": sys.stdin.read()}
seen |= {"handlers": [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)]}
seen |= {"files": len(os.listdir("/proc/self/fd")), "buffers": [sys.stdout.line_buffering, sys.stderr.line_buffering]}
print(json.dumps(seen))
print("aside", file=sys.stderr)
sys.exit(3)
"""
WAITS = "import signal, time\nsignal.signal(2, signal.default_int_handler)\nprint('begun', flush=True)\ntime.sleep(600)"


@pytest.fixture(params=["-c", "-m", "script"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    (tmp_path / "seeing.py").write_text(SEEN)
    words = {"-c": ["-c", SEEN], "-m": ["-m", "seeing"], "script": [str(tmp_path / "seeing.py")]}
    return [sys.executable, *words[request.param], "one", "-m"]


@pytest.mark.parametrize("session", [False, True])
def test_it_begins_with_what_a_process_begins_with(given: list[str], tmp_path: Path, session: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WANDB_MODE": "offline"}
    ends = []
    for begin in (subprocess.Popen, forked.Popen):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = begin(given, cwd=tmp_path, env=environment, start_new_session=session, text=True, **pipes)
        out, err = process.communicate("given")
        ends.append((process.returncode, json.loads(out), err))
    assert ends[0] == ends[1]
    assert ends[1][1]["parent"] == os.getpid()
    assert ends[1][1]["read"] == "given"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_it_ends_a_process(number: signal.Signals) -> None:
    codes = []
    for begin in (subprocess.Popen, forked.Popen):
        with begin([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout.readline() == b"begun\n"
            assert process.poll() is None
            process.send_signal(number)
            try:
                codes.append(process.wait(60))
            finally:
                process.kill()  # where signals are ignored, as in a shell's background, nothing else ends it
    assert codes == [-number, -number]


def test_it_is_a_fork_unless_a_variable_is_another_that_is_read_in_loading() -> None:
    given = [sys.executable, "-c", "import sys; print('torch' in sys.modules)"]
    assert forked.run(given).stdout == "True\n"
    assert forked.run(given, env={**os.environ, "OMP_NUM_THREADS": "2"}).stdout == "False\n"
    assert forked.run(["true"]).returncode == 0


def test_forks_share_nothing_that_is_drawn() -> None:
    given = [sys.executable, "-c", "import os, random, uuid; print(os.getpid(), random.random(), uuid.uuid4())"]
    drawn = [forked.run(given).stdout.split() for _ in range(2)]
    assert not set(drawn[0]) & set(drawn[1])
