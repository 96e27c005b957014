"""Hugging Face's datasets; `make test` puts them in `.venv/beside/datasets`, since nothing but tests needs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[1] / ".venv" / "beside" / "datasets"

if not BESIDE.is_dir():
    pytest.skip("needs datasets in .venv/beside/datasets, which make test makes", allow_module_level=True)

sys.path.append(str(BESIDE))
import datasets  # noqa: E402

sys.path.remove(str(BESIDE))  # else processes that this one starts, as joblib's, would look there too
datasets.disable_progress_bars()

__all__ = ["datasets"]
