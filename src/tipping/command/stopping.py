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
    modules in C do, and Python ignores it in some functions that it calls, as those of weak references and forks. The
    handler therefore raises the exception again until the process ends or `settle` is called. It does not raise while
    the exception is being handled: neither a later signal nor the handler may cut the end short. Nor does it while the
    main thread blocks the signals, as another thread may still get them. In a fork, which inherits the handler, a
    signal has its default effect.

    Attributes:
        code: 128 + the number of the signal that came first; None before.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def listen(self) -> None:
        """Handle the signals that stop a command, which is this process."""
        self.process = os.getpid()
        for number in SIGNALS:
            signal.signal(number, self)
        signal.signal(signal.SIGALRM, self._insist)  # set now, as Lightning restores the handlers that it finds

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        if self.code is not None:  # even if Lightning has restored this handler
            return
        self.code = 128 + number
        line = "\r\x1b[K" if os.isatty(2) else ""  # in place of a progress line
        os.write(2, f"{line}stopped by {signal.Signals(number).name}\n".encode())  # a handler may not call print
        sys.unraisablehook = _print_unless_it_ends
        signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
        atexit.register(self.settle)
        if not _must_wait(frame):
            sys.exit(self.code)

    def settle(self) -> None:
        """Stop raising the exception, because it has arrived."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _insist(self, _: int, frame: FrameType | None) -> None:
        if self.code and not _ends(sys.exc_info()[1]) and not _must_wait(frame):
            sys.exit(self.code)


def _ends(error: BaseException | None) -> bool:
    """Return whether an exception is a `SystemExit`, or was raised while one was handled."""
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None


def _must_wait(frame: FrameType | None) -> bool:
    """Return whether no exception may be raised where a frame runs: in a `__del__`, or while signals are blocked."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None or not signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(SIGNALS)


def _print_unless_it_ends(ignored: sys.UnraisableHookArgs) -> None:
    """Print an exception that Python ignores, except `SystemExit`, which is raised again."""
    if not isinstance(ignored.exc_value, SystemExit):
        sys.__unraisablehook__(ignored)


def ignore_signals() -> None:
    """Ignore the signals that stop a command from now on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
