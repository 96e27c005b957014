"""The command line: one line for a user's mistake, an orderly exit when terminated, a sweep gathered at its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tipping.config import InputError

MISTAKES = (InputError, HydraException, OmegaConfBaseException)


class Sweep(Callback):
    """Hydra callback of a multirun: remembers its folder, and says at once which job failed, and why."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN and job_return.status == JobStatus.FAILED:
            try:
                job_return.return_value  # noqa: B018  raises what the job raised
            except Exception as error:
                _say(error, f"job {config.hydra.job.num} ({config.hydra.job.override_dirname}) failed: ")


def run(main: Callable[[], object], gather: Callable[[Path], list[str]] | None = None) -> None:
    """Run a Hydra main function and exit: 0 when all is well, 1 after a failure, 143 after SIGTERM.

    Args:
        main: the decorated function.
        gather: called with the folder of a multirun at its end, also after failed jobs; returns what is missing.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands on exceptions instead of printing them
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    code = 0
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except Exception as error:
        if not _has_jobs():
            _say(error)
        code = 1
    finally:
        if gather and _has_jobs() and gather(Sweep.folder):
            code = code or 1
    sys.exit(code)


def _has_jobs() -> bool:
    return Sweep.folder is not None and any(Sweep.folder.glob("*/.hydra"))


def _say(error: Exception, prefix: str = "") -> None:
    """One line for a mistake of the user; the traceback for one of ours."""
    if isinstance(error, MISTAKES):
        print(prefix + one_line(error), file=sys.stderr)
    else:
        print(prefix, file=sys.stderr)
        traceback.print_exception(error)


def one_line(error: BaseException) -> str:
    """A mistake as one line that names the culprit; Hydra's and OmegaConf's messages without their inner workings."""
    if isinstance(error.__cause__, InputError):
        return str(error.__cause__)
    text = " ".join(str(error).split("Config search path")[0].split())
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        text = f"{error.full_key}: {(error.msg or text).splitlines()[0]}"
    if text.startswith("Could not override"):
        option = text.split("'")[1]
        text = f"{option}: no such option; --cfg job lists them all"
    return text
