"""An orderly end of a command that is stopped by a signal."""

from __future__ import annotations

import atexit
import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PERIOD = 0.5  # seconds between two looks at whether the end was lost


class Stop:
    """A handler of signals that ends the process in order: `SystemExit` with code 128 + n, so that what cleans up does.

    A library may swallow that exception, as some do that try whether a module can be imported, or make another of it,
    as modules in C do. It is therefore raised again until the process ends or `settle` is called, but not while
    something handles it: the end takes a moment, and neither a later signal nor this one may cut it short.

    Attributes:
        code: 128 + the number of the signal that came first; None before.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def listen(self) -> None:
        """Handle the signals that stop a command."""
        for number in SIGNALS:
            signal.signal(number, self)
        signal.signal(signal.SIGALRM, self._insist)  # now, as Lightning puts back all handlers it found

    def __call__(self, number: int, _: object) -> None:
        if self.code is not None:  # also when Lightning has put this handler back
            return
        self.code = 128 + number
        line = "\r\x1b[K" if os.isatty(2) else ""  # in place of a progress line
        os.write(2, f"{line}stopped by {signal.Signals(number).name}\n".encode())  # print may not be called from within
        signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
        atexit.register(self.settle)
        sys.exit(self.code)

    def settle(self) -> None:
        """Stop raising the exception: it has arrived."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _insist(self, *_: object) -> None:
        if self.code and not _ends(sys.exc_info()[1]):
            sys.exit(self.code)


def _ends(error: BaseException | None) -> bool:
    """Return whether what is handled now is an end, or comes of one."""
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None


def ignore_signals() -> None:
    """Let no signal stop the command any more."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
