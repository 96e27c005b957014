"""zennit; `make test` puts it in `.venv/beside/zennit`, since it imports torchvision, which lies beside the environment
too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torchvision_here import torchvision  # which zennit imports

BESIDE = Path(__file__).parents[1] / ".venv" / "beside" / "zennit"

if not BESIDE.is_dir():
    pytest.skip("needs zennit in .venv/beside/zennit, which make test makes", allow_module_level=True)

sys.path.append(str(BESIDE))
import zennit  # noqa: E402

sys.path.remove(str(BESIDE))  # else processes that this one starts, as joblib's, would look there too

__all__ = ["torchvision", "zennit"]
