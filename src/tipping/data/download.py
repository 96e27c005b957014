"""Download files, which appear only when they are whole and checked."""

from __future__ import annotations

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from tipping.errors import InputError
from tipping.files import replacing

LARGEST = 2**30  # bytes read of a file, at most


def download_file(url: str, path: Path, sha256: str, remedy: str) -> None:
    """Download a file; it appears at its path only when it is complete and checked.

    Args:
        url: where the file is.
        path: where it goes; folders are made.
        sha256: the SHA-256 that it must have.
        remedy: what to do if the URL is out of reach, the end of a line.

    Raises:
        InputError: the URL is out of reach, the file has another SHA-256, or the folder is not writable.
    """
    try:
        content = _fetch(url)
    except (OSError, HTTPException) as error:
        raise InputError(f"{url} is out of reach ({error}); {remedy}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{url} sent a file with another SHA-256 than {sha256}: try again, or another network")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise InputError(f"data.root: cannot write to {path.parent.absolute()} ({error}); give another") from error


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        length = response.headers.get("Content-Length", "")
        chunks: list[bytes] = []
        total = int(length) if length.isdecimal() else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=url, leave=False, disable=None) as bar:
            while (chunk := response.read(1 << 16)) and len(chunks) << 16 < LARGEST:
                chunks.append(chunk)
                bar.update(len(chunk))
        return b"".join(chunks)
