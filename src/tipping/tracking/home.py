"""W&B where the home folder cannot be written to: its own files lie beside its runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}


def avoid_home(folder: Path) -> None:
    """Let W&B keep its caches in a folder, unless it can write into the home folder.

    Args:
        folder: the folder of W&B's runs.
    """
    try:
        for place in (".local/share/wandb", ".cache/wandb", ".config/wandb"):
            (Path.home() / place).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=Path.home() / place):
                pass
    except (OSError, RuntimeError):  # without any home folder, too
        for variable, name in FOLDERS.items():
            os.environ.setdefault(variable, str(folder / "wandb" / name))
            Path(os.environ[variable]).mkdir(parents=True, exist_ok=True)
