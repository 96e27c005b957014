"""The command line: its help, its progress, one line for a user's mistake, an orderly exit when terminated, a sweep
gathered at its end."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from tipping.config import InputError

MISTAKES = (InputError, HydraException, OmegaConfBaseException, OSError)


class Console(logging.StreamHandler[TextIO]):
    """Log lines above the progress lines, which they would break."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class Sweep(Callback):
    """Hydra callback: says at once which job failed, and why, remembers the folder of a multirun, and shows on a
    terminal how many of its jobs are done, and the time left.

    Args:
        goes_on: whether a multirun may go on in the folder of an earlier one.
    """

    folder: Path | None = None  # of this process's multirun
    failures = 0
    varying: dict[str, list[str]]  # options with several values
    line: tqdm[Any] | None = None

    def __init__(self, goes_on: bool = False) -> None:
        self.goes_on = goes_on

    @classmethod
    def started(cls) -> Path | None:
        """The folder of this process's multirun, once it holds a job."""
        return cls.folder if cls.folder and any(cls.folder.glob("*/.hydra")) else None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
        if Sweep.started() and not self.goes_on:
            print(f"hydra.sweep.dir={Sweep.folder} holds the jobs of an earlier sweep: give another", file=sys.stderr)
            Sweep.folder = None  # that sweep is not gathered again
            sys.exit(1)
        Sweep.varying = varying(config.hydra.overrides.task)
        if empty := [option for option, values in Sweep.varying.items() if not values]:
            print(f"{', '.join(empty)}: no values, so there are no jobs; give some", file=sys.stderr)
            Sweep.folder = None
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if Sweep.folder is None:  # a single job, or a worker of another launcher
            return
        if Sweep.line is None:
            form = "{n_fmt} of {total_fmt} jobs |{bar}| {elapsed}, {remaining} left{postfix}"
            total = math.prod(map(len, Sweep.varying.values()))
            Sweep.line = tqdm(total=total, bar_format=form, leave=False, disable=None)
        own = [option for option in config.hydra.overrides.task if option.split("=")[0] in Sweep.varying]
        Sweep.line.set_postfix_str(" ".join(own))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if Sweep.line is not None:
            Sweep.line.update()
        if job_return.status != JobStatus.FAILED:
            if config.hydra.mode == RunMode.RUN:
                print(config.hydra.run.dir)
            return
        if config.hydra.mode == RunMode.RUN:
            _say(job_return._return_value)
            sys.exit(1)
        _say(job_return._return_value, f"job {config.hydra.job.num} ({config.hydra.job.override_dirname}) failed: ")
        Sweep.failures += 1
        if Sweep.folder:  # the jobs run in this process, which counts failures; Hydra would say the first one again
            job_return.status = JobStatus.COMPLETED


def varying(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The options of a command line that have several values, and these.

    Raises:
        HydraException: one cannot be read, or is a glob over presets that are not at hand.
    """
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    several = OverridesParser.create(loader).parse_overrides(list(overrides))
    return {
        option.get_key_element(): [str(value) for value in option.sweep_string_iterator()]
        for option in several
        if option.is_discrete_sweep()
    }


def run(main: Callable[[], object], gather: Callable[[Path], list[str]] | None = None) -> None:
    """Run a Hydra main function and exit: 0 when all is well, 1 after a failure, 128 + n after signal n.

    Args:
        main: the decorated function.
        gather: called with the folder of a multirun at its end, also after failed jobs; returns what is missing.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands on exceptions instead of printing them
    if {"-h", "--help"} & set(sys.argv):
        sys.argv[1:] = ["--help", f"hydra/help={Path(sys.argv[0]).stem}"]  # each script's own, with the defaults
    _handle_signals(_stop)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    Sweep.folder, Sweep.failures, Sweep.line = None, 0, None
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    except Exception as error:
        _say(error)
        code = 1
    if Sweep.line is not None:
        Sweep.line.close()
    sweep = Sweep.started()
    if gather and sweep:
        try:
            incomplete = bool(gather(sweep))
        except Exception as error:
            incomplete = True
            if not ((code or Sweep.failures) and isinstance(error, InputError)):  # no job was done, as is known already
                _say(error, f"{sweep} could not be gathered: ")
        code = code or int(incomplete)
    _handle_signals(signal.SIG_IGN)  # Lightning has put back ours
    sys.exit(code or int(Sweep.failures > 0))


def _handle_signals(handler: Callable[[int, Any], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _stop(number: int, _: object) -> None:
    _handle_signals(signal.SIG_IGN)  # the end takes a moment, and must not be cut short
    line = "\r\x1b[K" if os.isatty(2) else ""  # in place of a progress line
    os.write(2, f"{line}stopped by {signal.Signals(number).name}\n".encode())  # print may not be called from within
    sys.exit(128 + number)


def _say(error: Exception, prefix: str = "") -> None:
    """One line for a mistake of the user; the traceback for one of ours."""
    with tqdm.external_write_mode(file=sys.stderr):
        if isinstance(error, MISTAKES):
            print(prefix + one_line(error), file=sys.stderr)
        else:
            if prefix:
                print(prefix, file=sys.stderr)
            traceback.print_exception(error)


def one_line(error: BaseException) -> str:
    """A mistake as one line that names the culprit; Hydra's and OmegaConf's messages without their inner workings."""
    quote = "'"
    if isinstance(error.__cause__, InputError):
        return str(error.__cause__)
    text = " ".join(str(error).split("Config search path")[0].split())
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        text = f"{error.full_key}: {(error.msg or text).splitlines()[0]}"
    if text.startswith("Could not override"):
        return f"{text.split(quote)[1]}: no such option of this model or job; --cfg job lists them all"
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(quote)[1]}: several values are a sweep; put -m before the options, or a list in [brackets]"
    if "is not a ListConfig" in text:
        return f"{text.split(':')[0]}: takes a list in brackets, such as [a,b]"
    if text.startswith(("Error parsing override", "no viable alternative")):
        return f"{text.split(quote)[1]}: cannot be read; options are name=value, in quotes where signs are no letters"
    return text
