"""The files of a job that take the place of those of an earlier job, all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tipping.errors import InputError
from tipping.experiment.records import PICTURES, PREDICTIONS, RANKED, RECORD, SELECTION, STAGED, STAGED_RECORD

READY = "record of a finished job"  # the file that a finished job's record is renamed to, before its files move
BEFORE = "pictures of the earlier job"  # the folder beside that file to which the earlier pictures move


@contextmanager
def place_of(directory: Path) -> Iterator[Path]:
    """Give the folder into which a job writes its files.

    Without an earlier record this is the folder of the job. Otherwise it is a folder inside, whose files take the place
    of the earlier ones on success and are removed on failure.

    Args:
        directory: the folder of the job.

    Raises:
        InputError: a folder that is not empty stands in the place of a file.
    """
    settle(directory)
    _make_room(directory)
    if not (directory / RECORD).exists():
        _remove(directory / PICTURES)  # of a job that was stopped
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

    A process that is killed here leaves the inner folder, and the next call goes on. Whatever has the name of the inner
    folder, and is none, is removed.

    Raises:
        InputError: a folder that is not empty stands in the place of a file; then nothing is moved.
    """
    staged, pictures = directory / STAGED, directory / PICTURES
    if not _is_folder(staged):
        _remove(staged)
        return
    if (staged / READY).exists():
        _make_room(directory)
        if _is_folder(staged / PICTURES):
            _remove(staged / BEFORE)
            if os.path.lexists(pictures):
                pictures.replace(staged / BEFORE)  # also a link, which is not followed, or a file
            (staged / PICTURES).replace(pictures)
        for name in (SELECTION, PREDICTIONS, RANKED):
            if (staged / name).exists():
                (staged / name).replace(directory / name)
        (staged / READY).replace(directory / RECORD)
        if _is_folder(pictures) and not any(pictures.iterdir()):
            pictures.rmdir()
    _remove(staged)


def _make_room(directory: Path) -> None:
    """Check that a job's files can take their places, where empty folders are removed.

    Raises:
        InputError: a folder that is not empty stands in such a place.
    """
    folders = [directory / name for name in (SELECTION, PREDICTIONS, RANKED, RECORD) if _is_folder(directory / name)]
    for folder in folders:
        if any(folder.iterdir()):
            raise InputError(f"{folder} is a folder, where a job writes a file: move it elsewhere")
    for folder in folders:
        folder.rmdir()


def _is_folder(path: Path) -> bool:
    """Return whether there is a folder, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Remove a folder with its content, a file or a link, which is not followed; nothing if there is none."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
