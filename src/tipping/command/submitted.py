"""Jobs that submitit runs: by Slurm, or in processes of this machine."""

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

FORGOTTEN = "FORGOTTEN"  # by Slurm, some minutes after a job's end
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
ENDED |= {"REVOKED", "TIMEOUT", FORGOTTEN}


class Queue(InfoWatcher):
    """The states of Slurm jobs by `squeue`; `sacct`, which submitit asks, needs accounts, which few small clusters
    keep, and without them a lost job would be waited for without end."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        text = string.decode() if isinstance(string, bytes) else string
        states = dict(line.split("|") for line in text.splitlines())
        return {job: {"State": states.get(job, FORGOTTEN)} for job in self._registered}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        return self.get_info(job_id, mode).get("State", "UNKNOWN")

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        return self.get_state(job_id, mode) in ENDED


class Ended(NamedTuple):
    """What Hydra's launcher asks of a job of submitit's, once it has ended."""

    returned: JobReturn

    def results(self) -> list[JobReturn]:
        return [self.returned]


def outlive_losses(done: Collection[int], say: Callable[[int, Sequence[str], str], None]) -> None:
    """Have Hydra's submitit launchers submit only what is not done, wait for every job, whichever fails or is lost,
    and cancel those that run when this process is stopped. They end with the first one lost, and have no hook: the
    method of submitit with which they submit is replaced.

    Args:
        done: the numbers of jobs to leave out.
        say: called with the number and options of a job that failed, and the reason.
    """
    SlurmJob.watcher = Queue(delay_s=60)  # type: ignore[assignment]

    def map_array(executor: Executor, launch: Callable[..., JobReturn], *columns: Sequence[Any]) -> list[Ended]:
        left = [row for row in zip(*columns, strict=True) if row[2] not in done]
        jobs = _submitted(executor, launch, left)
        ended = []
        try:
            for (options, _, number, *_), job in zip(left, jobs, strict=True):
                returned = _returned(job)
                if returned.status == JobStatus.FAILED:
                    say(number, options, f"{returned._return_value} ({job.paths.stdout.parent})")
                    returned.status = JobStatus.COMPLETED  # Hydra would end with the first one
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
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to processes of this machine too: see _cancel
    try:
        with redirect_stderr(io.StringIO()):  # its error says it all
            return Executor.map_array(executor, launch, *zip(*rows, strict=True)) if rows else []
    except FailedJobError as error:
        raise InputError(f"hydra.launcher: the jobs cannot be submitted: {_last_line(str(error))}") from error
    finally:
        signal.signal(signal.SIGINT, handler)


def _cancel(job: Job[JobReturn]) -> None:
    if not isinstance(job, LocalJob):
        job.cancel(check=False)
    elif not job.done():
        os.kill(int(job.job_id), signal.SIGTERM)  # its cancel() leaves the job a second, and prints a traceback


def _returned(job: Job[JobReturn]) -> JobReturn:
    """Return what a job returned, or why it has not."""
    try:
        return job.results()[0]
    except FailedJobError as error:  # outside of what Hydra watches; its traceback stands between dashes
        reason = _last_line(str(error).split("-" * 22)[1])
    except UncompletedJobError:
        state = f", {job.state}" if isinstance(job, SlurmJob) else ""
        reason = f"lost{state}; the same command again does what is left"
    return JobReturn(status=JobStatus.FAILED, _return_value=reason)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
