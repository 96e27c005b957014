from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tipping.data import download


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory without data, and without a network."""
    folder = tmp_path_factory.mktemp("fuzz")

    def unreachable(url: str) -> bytes:
        raise OSError(f"{url} is not to be asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_fetch", unreachable)
        patch.setenv("TIPPING_DATA", str(folder / "data"))
        patch.chdir(folder)
        yield folder
