"""Charts as images, rendered by the chart engine, whose end costs a chart and not the command."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import altair as alt
import matplotlib
from altair.utils.schemapi import debug_mode

from tipping.errors import printable
from tipping.files import fit_to_print, replacing

PROGRAM = [sys.executable, "-P", str(Path(__file__).with_name("engine.py"))]  # -P: rooms here hide no packages
LONGEST = 300  # seconds that a chart may take
SCALE = "pixels"  # in the metadata of a chart
DEATHS = 3  # after so many in a row it is not started again


class NotDrawn(Exception):
    """A chart that the engine could not render; the message is the reason, in one line."""


class Engine:
    """The process of the chart engine: started by the first chart, and again after its end."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    def render(self, chart: dict[str, Any], kind: str, scale: float = 1.0) -> bytes:
        """Render a chart, as Vega-Lite's JSON values, as `svg` or `png`.

        Raises:
            NotDrawn: the engine ended, took too long, or refused the chart.
        """
        if self.deaths >= DEATHS:
            raise NotDrawn(f"the chart engine has ended {DEATHS} times in a row")
        request = json.dumps({"chart": fit_to_print(chart), "kind": kind, "scale": scale}).encode() + b"\n"
        try:
            self.process = self.process or _start()
            answer, content = _ask(self.process, request)
        except (OSError, EOFError) as error:
            self.deaths += 1
            raise NotDrawn(f"the chart engine ended, {self.close() or error}") from error
        self.deaths = 0
        if "fault" in answer:
            raise NotDrawn(printable(answer["fault"]))
        return content

    def close(self) -> str:
        """End the process, if there is one, and say how it ended."""
        process, self.process = self.process, None
        if process is None:
            return ""
        with process:  # which closes its pipes, at which it ends
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
        return f"by signal {-process.returncode}" if process.returncode < 0 else f"with code {process.returncode}"


def _start() -> subprocess.Popen[bytes]:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # with the widest font that browsers fall back to
    return subprocess.Popen(
        [*PROGRAM, str(fonts), "_".join(alt.SCHEMA_VERSION.split(".")[:2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a panic says much
        start_new_session=True,  # Ctrl-C is for the command, which may still draw what there is
    )


def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[dict[str, Any], bytes]:
    """Send a request, and return its answer and the image; an engine that takes too long is killed.

    Raises:
        OSError, EOFError: the engine has ended.
    """
    assert process.stdin
    assert process.stdout
    limit = threading.Timer(LONGEST, process.kill)
    limit.daemon = True
    limit.start()
    try:
        process.stdin.write(request)
        process.stdin.flush()
        head = process.stdout.readline()
        answer = json.loads(head) if head.endswith(b"\n") else {"bytes": 1}
        content = process.stdout.read(answer["bytes"])
    finally:
        limit.cancel()
    if len(content) < answer["bytes"]:
        raise EOFError
    return answer, content


@contextmanager
def many_charts() -> Iterator[None]:
    """Make charts without comparing each part with Vega-Lite's schema, which takes most of the time of many."""
    with debug_mode(False):
        yield


ENGINE = Engine()
atexit.register(ENGINE.close)


def svg_of(chart: Any) -> str:
    """Render an altair chart as SVG text; raise `NotDrawn` where the engine cannot."""
    return ENGINE.render(chart.to_dict(validate=False), "svg").decode()


def save_png(chart: Any, path: Path) -> str:
    """Write an altair chart as a PNG file, with as many pixels for each of its units as its metadata say, or two.

    Returns:
        why it could not be drawn, in one line, and there is no file then; empty if it was.
    """
    drawn = chart.to_dict(validate=False)
    try:
        content = ENGINE.render(drawn, "png", scale=drawn.get("usermeta", {}).get(SCALE, 2.0))
    except NotDrawn as error:
        path.unlink(missing_ok=True)  # one of an earlier table would be taken for that of this one
        return f"{path} could not be drawn: {error}"
    with replacing(path) as part:
        part.write_bytes(content)
    return ""
