"""The command line: help, progress, one line for a user's mistake, an orderly exit after a signal, the end of a
sweep."""

from __future__ import annotations

import argparse
import logging
import math
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn, TextIO

from filelock import FileLock
from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from tipping.command import job_folders, resume
from tipping.command.stopping import Stop, ignore_signals
from tipping.command.wording import describe_mistake as describe_mistake  # for all commands
from tipping.command.wording import of_memory
from tipping.errors import InputError
from tipping.experiment import invocation
from tipping.experiment.mu import expanded
from tipping.experiment.overrides import swept


class JobFailed(Exception):
    """The failure of a job in another process, which has printed it; the message is the reason, in one line."""


MISTAKES = (InputError, HydraException, OmegaConfBaseException, OSError, BrokenExecutor)


class Arguments(argparse.ArgumentParser):
    """A command line that raises `InputError` for mistakes."""

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` with a message of argparse's."""
        raise InputError(f"{message}; --help says what is")


def arguments(name: str, description: str, examples: str = "") -> Arguments:
    """Return the command line of a sub-command that does not use Hydra.

    Args:
        examples: printed below the options, with `{call}` for the words that call it.
    """
    call = " ".join(invocation.words(name))
    shown = argparse.RawDescriptionHelpFormatter
    return Arguments(prog=call, description=description, epilog=examples.format(call=call), formatter_class=shown)


def answer(parser: Arguments, given: Sequence[str] | None, do: Callable[[argparse.Namespace], int]) -> int:
    """Parse a command line, run `do` with the result, and return the exit code; 1 after a mistake, which is printed.

    Args:
        given: the arguments; None for those of the process.
    """
    try:
        return do(parser.parse_args(given))
    except MISTAKES as error:
        print(describe_mistake(error), file=sys.stderr)
        return 1


class Console(logging.StreamHandler[TextIO]):
    """A handler that prints log lines above progress lines, which stay whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log line."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class Sweep(Callback):
    """A Hydra callback that resumes multiruns, prints failed jobs at once, and shows the progress on a terminal.

    The state is in attributes of the class, as Hydra makes the callback: one process has one multirun.

    Args:
        shared: whether several commands may run in one folder at once, as the commands of a search do.
    """

    folder: Path | None = None  # the folder of this process's multirun
    done: frozenset[int] = frozenset()  # the jobs of the multirun that were done before it began
    finished = False  # whether no job of the multirun was left to run
    failures = 0
    varying: dict[str, list[str]]  # the options with several values
    line: tqdm[Any] | None = None
    lock: FileLock | None = None  # the lock of the folder
    stop = Stop()

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared

    @classmethod
    def started(cls) -> Path | None:
        """Return the folder of this process's multirun; None if the folder holds no job yet."""
        return cls.folder if cls.folder and any(cls.folder.glob("*/.hydra")) else None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin or resume a multirun; exit after an error."""
        try:
            self._start(config)
        except Exception as error:  # Hydra would print a warning, and go on
            _say(error)
            sys.exit(1)

    def _start(self, config: DictConfig) -> None:
        Sweep.varying = swept(config.hydra.overrides.task)
        if empty := [option for option, values in Sweep.varying.items() if not values]:
            raise InputError(f"{', '.join(empty)}: no values, so there are no jobs; give some")
        folder = Path(config.hydra.sweep.dir)
        if not self.shared:
            jobs = job_folders.plan(config)
            Sweep.lock = resume.hold(folder)
            Sweep.done = resume.done_before(folder, config, jobs)
            if len(Sweep.done) == len(jobs):  # Hydra would compose each of them again
                resume.note(folder, config)
                Sweep.folder, Sweep.finished = folder, True
                sys.exit(0)
        _prepare_for(OmegaConf.select(config, "hydra.launcher._target_"))
        Sweep.folder = folder

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single job before Hydra writes into its folder, and hold the folder; exit after a mistake."""
        try:
            if not self.shared:
                Sweep.lock = resume.begin_run(config)
        except Exception as error:  # Hydra would print a warning, and go on
            _say(error)
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Show a job on the progress line of its multirun."""
        _quiet()
        if "SUBMITIT_EXECUTOR" in os.environ:
            _settle()
        if Sweep.folder is None:  # a single job, or a worker of another launcher
            return
        if Sweep.line is None:
            form = "{n_fmt} of {total_fmt} jobs |{bar}| {elapsed}, {remaining} left{postfix}"
            total = math.prod(map(len, Sweep.varying.values()))
            Sweep.line = tqdm(total=total, bar_format=form, leave=False, disable=None)
        varied = [option for option in config.hydra.overrides.task if option.split("=")[0] in Sweep.varying]
        Sweep.line.set_postfix_str(" ".join(varied))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Count a job as done or failed, and print its error; exit if the job is no part of a multirun."""
        if Sweep.line is not None:
            Sweep.line.update()
        if job_return.status != JobStatus.FAILED:
            if config.hydra.mode == RunMode.RUN:
                print(config.hydra.run.dir)
            return
        if Sweep.stop.code:  # a library has made this of the end
            sys.exit(Sweep.stop.code)
        if config.hydra.mode == RunMode.RUN:
            _say(job_return._return_value)
            sys.exit(1)
        _say(job_return._return_value, f"job {config.hydra.job.num} ({config.hydra.job.override_dirname}) failed: ")
        Sweep.failures += 1
        if Sweep.folder:  # jobs run in this process, which counts failures; Hydra would print the first again
            job_return.status = JobStatus.COMPLETED
        else:
            job_return._return_value = JobFailed(_summary(job_return._return_value))


def _prepare_for(launcher: str) -> None:
    """Prepare submitit, if it launches the jobs.

    Raises:
        InputError: there is no Slurm for it.
    """
    if ".hydra_submitit_launcher." not in launcher:
        return
    if launcher.endswith(".SlurmLauncher") and shutil.which("sbatch") is None:
        raise InputError("hydra/launcher=submitit_slurm: there is no sbatch here; give it where Slurm is")
    from tipping.command import submitted  # submitit need not be installed

    submitted.outlive_losses(Sweep.done, _say_lost)


def _say_lost(number: int, options: Sequence[str], reason: str) -> None:
    varied = ",".join(option for option in options if option.split("=")[0] in Sweep.varying)
    print(f"job {number} ({varied}) failed: {reason}", file=sys.stderr)
    Sweep.failures += 1


def _settle() -> None:
    """Prepare a process of submitit's: end in order after a signal, and use no more processors than Slurm gives."""
    Sweep.stop = Stop()
    Sweep.stop.listen()
    if given := os.environ.get("SLURM_CPUS_ON_NODE"):
        import torch  # which a mistake in the options does not need

        torch.set_num_threads(min(int(given), torch.get_num_threads()))


def run(
    main: Callable[[], object], gather: Callable[[Path], list[str]] | None = None, gathered: Sequence[str] = ()
) -> None:
    """Run a Hydra main function and exit: 0 when all is well, 1 after a failure, 128 + n after signal n.

    Args:
        main: the decorated function.
        gather: called with the folder of a multirun at its end, also after failed jobs; returns what is missing.
        gathered: the files that `gather` writes in the folder; if no job was left to run, and they are newer than the
            records, it is not called.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands on exceptions instead of printing them
    if {"-h", "--help"} & set(sys.argv):
        name = main.__module__.rpartition(".")[2]  # as Hydra names the job
        call = " ".join(invocation.words_of_job(name))
        sys.argv[1:] = ["--help", f"hydra/help={name}", f"hydra.help.app_name='{call}'"]  # its own, with the defaults
    sys.argv[1:] = expanded(sys.argv[1:])
    Sweep.stop = Stop()
    Sweep.stop.listen()
    _quiet()
    Sweep.folder, Sweep.lock, Sweep.done, Sweep.failures, Sweep.line = None, None, frozenset(), 0, None
    Sweep.finished = False
    code = _code_of(main)
    if Sweep.line is not None:
        Sweep.line.close()
    sweep = Sweep.started()
    if sweep and Sweep.finished and resume.newer_than_records(sweep, gathered):
        print("\n".join(str(sweep / name) for name in gathered))
    elif gather and sweep:
        code = _gather(sweep, gather, code)
    if Sweep.lock is not None:
        Sweep.lock.release()
    ignore_signals()
    sys.exit(Sweep.stop.code or code or int(Sweep.failures > 0))  # of the signal, whatever a library makes of it


def _code_of(main: Callable[[], object]) -> int:
    """Run a Hydra main function, print its error, and return the exit code."""
    try:
        _check_flags()
        main()
        Sweep.stop.settle()
    except SystemExit as exit_:
        Sweep.stop.settle()
        return int(exit_.code or 0)
    except JobFailed:
        return 1
    except Exception as error:
        Sweep.stop.settle()
        if Sweep.stop.code:  # a library has made this of the end
            return Sweep.stop.code
        if isinstance(error, OSError) and error.errno and Sweep.folder:  # of what Hydra writes; a full disk has no name
            error.filename = error.filename or str(Sweep.folder)
        _say(error if _is_mistake(error) or _in_job(main, error) else _of_options(error))
        return 1
    return 0


def _gather(sweep: Path, gather: Callable[[Path], list[str]], code: int) -> int:
    """Gather a sweep, and return the exit code, of which `code` is that of the sweep's jobs."""
    try:
        missing = gather(sweep)
        return code or int(bool(missing))
    except Exception as error:
        if Sweep.stop.code and not code:  # a library has made this of the end
            return Sweep.stop.code
        if not ((code or Sweep.failures) and isinstance(error, InputError)):  # no job was done, as is known already
            _say(error, f"{sweep} could not be gathered: ")
        return code or 1


def _check_flags() -> None:
    """Refuse flags that Hydra does not know, in one line. A command that only prints ends quietly with its reader.

    Raises:
        InputError: an unknown flag, or one among the options.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(f"{message}; flags such as -m stand before all options, --help lists these")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args()
    if flags.help or flags.hydra_help or flags.cfg or flags.info:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _in_job(main: Callable[[], object], error: Exception) -> bool:
    """Return whether an exception was raised in the function that Hydra decorates, not when options were composed."""
    job = getattr(main, "__wrapped__", main).__code__
    return any(frame.f_code is job for frame, _ in traceback.walk_tb(error.__traceback__))


def _of_options(error: Exception) -> InputError:
    """Return an error of composing options as an `InputError` that names the options."""
    return InputError(f"{' '.join(sys.argv[1:])}: cannot be composed ({str(error) or type(error).__name__})")


def _quiet() -> None:
    """Silence warnings of Lightning, and use no semaphores of tqdm, as Python warns about them in killed processes."""
    tqdm.set_lock(threading.RLock())
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # each job has one process


def _is_mistake(error: BaseException) -> bool:
    """Return whether the cause of an error is the user or the machine, not the program."""
    return isinstance(error, MISTAKES) or of_memory(error)


def _say(error: Exception, prefix: str = "") -> None:
    """Print one line for a mistake of the user, or the traceback of an error of the program."""
    with tqdm.external_write_mode(file=sys.stderr):
        if _is_mistake(error):
            print(prefix + describe_mistake(error), file=sys.stderr)
        else:
            if prefix:
                print(prefix, file=sys.stderr)
            traceback.print_exception(error)


def _summary(error: Exception) -> str:
    """Return an error as one line, also an error of the program."""
    if type(error).__name__ == "UncompletedJobError":  # submitit's, near the time limit
        return "it took too long; give more hydra.launcher.timeout_min"
    return describe_mistake(error) if _is_mistake(error) else traceback.format_exception_only(error)[-1].strip()
