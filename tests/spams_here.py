"""SPAMS, with which the lab's releases select; `make test` puts it in `.venv/beside/spams`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[1] / ".venv" / "beside" / "spams"

if not BESIDE.is_dir():
    pytest.skip("needs SPAMS in .venv/beside/spams, which make test makes", allow_module_level=True)

sys.path.append(str(BESIDE))
import spams  # noqa: E402

sys.path.remove(str(BESIDE))  # else processes that this one starts, as joblib's, would look there too

__all__ = ["spams"]
