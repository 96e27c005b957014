"""An orderly end of a command that is stopped by a signal."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PERIOD = 0.5  # seconds between two checks that the process ends


class Stop:
    """A handler of signals that ends the process in order, by `SystemExit` with code 128 + n, so that clean-up runs.

    A library may swallow that exception, for instance where it tries to import a module, or turn it into another, as
    modules in C do. The handler therefore raises the exception again until the process ends or `settle` is called. It
    does not raise while the exception is being handled: neither a later signal nor the handler may cut the end short.

    Attributes:
        code: 128 + the number of the signal that came first; None before.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def listen(self) -> None:
        """Handle the signals that stop a command."""
        for number in SIGNALS:
            signal.signal(number, self)
        signal.signal(signal.SIGALRM, self._insist)  # set now, as Lightning restores the handlers that it finds

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None:  # even if Lightning has restored this handler
            return
        self.code = 128 + number
        line = "\r\x1b[K" if os.isatty(2) else ""  # in place of a progress line
        os.write(2, f"{line}stopped by {signal.Signals(number).name}\n".encode())  # a handler may not call print
        signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
        atexit.register(self.settle)
        if not _is_lost(frame):
            sys.exit(self.code)

    def settle(self) -> None:
        """Stop raising the exception, because it has arrived."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _insist(self, _: int, frame: FrameType | None) -> None:
        if self.code and not _ends(sys.exc_info()[1]) and not _is_lost(frame):
            sys.exit(self.code)


def _ends(error: BaseException | None) -> bool:
    """Return whether an exception is a `SystemExit`, or was raised while one was handled."""
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None


def _is_lost(frame: FrameType | None) -> bool:
    """Return whether an exception would be lost where a frame runs: in a `__del__`, where Python prints it instead."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def ignore_signals() -> None:
    """Ignore the signals that stop a command from now on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
