"""Jobs that submitit runs, by Slurm or in processes of this machine."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stderr
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from submitit import AutoExecutor, Executor, Job, LocalJob, SlurmJob
from submitit.core.core import InfoWatcher
from submitit.core.utils import FailedJobError, UncompletedJobError

from tipping.errors import InputError

FORGOTTEN = "FORGOTTEN"  # the state of a job that Slurm no longer knows, some minutes after its end
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
ENDED |= {"REVOKED", "TIMEOUT", FORGOTTEN}


class Queue(InfoWatcher):
    """The states of Slurm jobs, read from `squeue`.

    By default submitit reads `sacct`, which needs accounting. Few small clusters have accounting, and without it
    submitit would wait for a lost job for ever.
    """

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return the state of each registered job, from the output of `squeue`."""
        text = string.decode() if isinstance(string, bytes) else string
        states = dict(line.split("|") for line in text.splitlines())
        return {job: {"State": states.get(job, FORGOTTEN)} for job in self._registered}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return the state of a job; `UNKNOWN` before the first look at the queue."""
        return self.get_info(job_id, mode).get("State", "UNKNOWN")

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether a job has ended."""
        return self.get_state(job_id, mode) in ENDED


class Ended(NamedTuple):
    """A job that has ended, with the interface that Hydra's launcher uses."""

    returned: JobReturn

    def results(self) -> list[JobReturn]:
        """Return the one result of the job."""
        return [self.returned]


def outlive_losses(done: Collection[int], say: Callable[[int, Sequence[str], str], None]) -> None:
    """Make Hydra's submitit launchers outlive failed and lost jobs.

    The launchers then submit only jobs that are not done, wait for every job, and cancel running jobs when this process
    is stopped. By default they end with the first lost job. They have no hook for this, so the method of submitit with
    which they submit jobs is replaced.

    Args:
        done: the numbers of the jobs that are done.
        say: called with the number and options of a job that failed, and the reason.
    """
    SlurmJob.watcher = Queue(delay_s=60)  # type: ignore[assignment]

    def map_array(executor: Executor, launch: Callable[..., JobReturn], *columns: Sequence[Any]) -> list[Ended]:
        remaining = [row for row in zip(*columns, strict=True) if row[2] not in done]
        jobs = _submitted(executor, launch, remaining)
        ended = []
        try:
            for (options, _, number, *_), job in zip(remaining, jobs, strict=True):
                returned = _returned(job)
                if returned.status == JobStatus.FAILED:
                    say(number, options, f"{returned._return_value} ({job.paths.stdout.parent})")
                    returned.status = JobStatus.COMPLETED  # or Hydra would end with the first failure
                ended.append(Ended(returned))
        except BaseException:
            for job in jobs:
                _cancel(job)
            raise
        return ended

    AutoExecutor.map_array = map_array  # type: ignore[assignment,method-assign]


def _submitted(
    executor: Executor, launch: Callable[..., JobReturn], rows: Sequence[Sequence[Any]]
) -> list[Job[JobReturn]]:
    handler = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl+C reaches processes of this machine too; _cancel stops them
    try:
        with redirect_stderr(io.StringIO()):  # the error has the same text
            return Executor.map_array(executor, launch, *zip(*rows, strict=True)) if rows else []
    except FailedJobError as error:
        raise InputError(f"hydra.launcher: the jobs cannot be submitted: {_last_line(str(error))}") from error
    finally:
        signal.signal(signal.SIGINT, handler)


def _cancel(job: Job[JobReturn]) -> None:
    if not isinstance(job, LocalJob):
        job.cancel(check=False)
    elif not job.done():
        os.kill(int(job.job_id), signal.SIGTERM)  # cancel() gives the job only a second, and prints a traceback


def _returned(job: Job[JobReturn]) -> JobReturn:
    """Return the result of a job, or a failure with the reason."""
    try:
        return job.results()[0]
    except FailedJobError as error:  # raised outside Hydra; the traceback is between dashes
        reason = _last_line(str(error).split("-" * 22)[1])
    except UncompletedJobError:
        state = f", {job.state}" if isinstance(job, SlurmJob) else ""
        reason = f"lost{state}; the same command again does what is left"
    return JobReturn(status=JobStatus.FAILED, _return_value=reason)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
