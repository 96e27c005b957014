"""The file of a search that has no database: a line of JSON for each operation, shared by all workers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from tipping.errors import InputError

log = logging.getLogger(__name__)
POLL = 0.01  # seconds between two tries for the lock: an append takes milliseconds
BLOCK = 4096  # bytes read at once from the end, to find the last line


class Journal(BaseJournalBackend):
    """A journal of Optuna's that outlives workers killed while they write, and disks that fill up.

    Its lock is the kernel's, which is void when its holder dies; Optuna's own is a link in the folder, which stays.
    (`flock`: NFS passes it on to the server from Linux 2.6.12 on, and gives it up when a machine is lost.) The lock has
    another name than Optuna's, so a link that an older version left behind keeps no one out. Only writers wait: who
    reads sees whole lines.

    Args:
        path: the file, created where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # also when the process moves to another folder
        self._lock = FileLock(self.path.with_suffix(".flock"), poll_interval=POLL)
        self._lines = JournalFileBackend(str(self.path))  # of which only the reader is used

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from a line on; a last line without its end is left for later.

        Raises:
            InputError: a line is damaged.
        """
        number = log_number_from
        try:
            for number, operation in enumerate(self._lines.read_logs(log_number_from), start=log_number_from + 1):
                if not isinstance(operation, dict) or "op_code" not in operation:
                    raise self._damaged(number)
                yield operation
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged(number + 1) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations to the end, after mending what a writer before has left half-written."""
        lines = "".join(json.dumps(operation, separators=(",", ":")) + "\n" for operation in logs)
        with self._lock, self.path.open("r+b") as file:
            self._mend(file)
            file.seek(0, os.SEEK_END)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def _mend(self, file: IO[bytes]) -> None:
        """Cut off a last line that is not whole; end it where only its end is missing."""
        last = _unended(file)
        if not last:
            return
        if _whole(last):
            file.write(b"\n")
            return
        file.seek(-len(last), os.SEEK_END)
        file.truncate()
        log.warning("%s: its last line was half-written, by a full disk or a kill, and is cut off", self.path)

    def _damaged(self, number: int) -> InputError:
        return InputError(
            f"{self.path}: line {number} is damaged; move the file away: the search then begins again, and takes "
            "finished evaluations from their records"
        )


def _unended(file: IO[bytes]) -> bytes:
    """Return what follows the last line break of a file, and leave the position at its end."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(start - BLOCK, 0)
        file.seek(start)
        tail = file.read(size - start)
    return tail.rpartition(b"\n")[2]


def _whole(line: bytes) -> bool:
    """Return whether a line is a whole operation: no whole JSON object is the beginning of another."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
