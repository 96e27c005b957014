"""The files of a job that take the place of those of an earlier job, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tipping.experiment.records import PICTURES, PREDICTIONS, RECORD, SELECTION, STAGED, STAGED_RECORD

READY = "record of a finished job"  # the file that a finished job's record is renamed to, before its files move


@contextmanager
def place_of(directory: Path) -> Iterator[Path]:
    """Give the folder into which a job writes its files.

    Without an earlier record this is the folder of the job. Otherwise it is a folder inside, whose files take the place
    of the earlier ones on success and are removed on failure.

    Args:
        directory: the folder of the job.
    """
    settle(directory)
    if not (directory / RECORD).exists():
        shutil.rmtree(directory / PICTURES, ignore_errors=True)  # of a job that was stopped
        yield directory
        return
    staged = directory / STAGED
    (staged / PICTURES).mkdir(parents=True)
    try:
        yield staged
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    (staged / STAGED_RECORD).replace(staged / READY)  # from here on the new files are those of the job
    settle(directory)


def settle(directory: Path) -> None:
    """Move the files of a finished job from its inner folder to their places; drop those of an unfinished job.

    A process that is killed here leaves the inner folder, and the next call goes on.
    """
    staged, pictures = directory / STAGED, directory / PICTURES
    if (staged / READY).exists():
        for name in (SELECTION, PREDICTIONS):
            if (staged / name).exists():
                (staged / name).replace(directory / name)
        if (staged / PICTURES).exists():
            shutil.rmtree(pictures, ignore_errors=True)
            (staged / PICTURES).replace(pictures)
        (staged / READY).replace(directory / RECORD)
        if not any(pictures.iterdir()):
            pictures.rmdir()
    shutil.rmtree(staged, ignore_errors=True)
