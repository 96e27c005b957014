"""A real ImageNet network end to end, on photographs: the example of docs/networks.md, in its memory."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import ROOT
from torch import Tensor

# torchvision fails beside a CPU build of torch unless it is imported in this way: the command is called after that
HERE = "import sys, runpy; sys.path.insert(0, {tests!r}); import torchvision_here; sys.argv = sys.argv[1:]; {call}"
CALLS = {
    "python": "sys.path.insert(0, 'benchmarks'); runpy.run_path(sys.argv[0], run_name='__main__')",
    "tipping": "from tipping.__main__ import main; sys.exit(main())",
}
MOST = 4e9  # bytes of memory
MEAN, DEVIATION = 0.498, 0.502  # that the page gives


def commands() -> list[list[str]]:
    """The commands of the page on networks, one for the folder and one for the job."""
    text = (ROOT / "docs" / "networks.md").read_text()
    block = next(block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if "efficientnet_lite0" in block)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line]


def photographs(folder: Path) -> Tensor:
    """The test images, read plainly."""
    images = [np.asarray(Image.open(path)) for path in sorted((folder / "test").glob("*/*.png"))]
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION


def logits_without(weights: Path, gone: dict[str, list[int]], images_NCHW: Tensor) -> Tensor:
    """The logits (N, C) of timm's own network, with some channels of some modules' outputs set to zero."""
    from torchvision_here import timm

    network = timm.create_model("efficientnet_lite0").eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    for place, channels in gone.items():
        hook = lambda _, __, maps, channels=channels: maps.index_fill(1, torch.tensor(channels), 0)  # noqa: E731
        network.get_submodule(place).register_forward_hook(hook)
    with torch.no_grad():
        return torch.cat([network(some_NCHW) for some_NCHW in images_NCHW.split(10)])


def check_predictions(job: Path, weights: Path, images_NCHW: Tensor) -> None:
    """Compare a job's predictions with those of timm's network, intact and without the relevant filters."""
    selection, predictions = np.load(job / "selection.npz"), np.load(job / "predictions.npz")
    gone: dict[str, list[int]] = {}
    for position in selection["order"]:
        gone.setdefault(str(selection["maps"][position]), []).append(int(selection["channel"][position]))
    for name, places in (("intact", dict[str, list[int]]()), ("selected", gone)):
        logits_NC = logits_without(weights, places, images_NCHW)
        first_N2 = logits_NC.topk(2).values
        decided_N = (first_N2[:, 0] - first_N2[:, 1] > 1e-3 * first_N2[:, 0]).numpy()  # by more than float32 rounds
        assert decided_N.mean() > 0.9
        assert (predictions[name] == logits_NC.argmax(1).numpy())[decided_N].all()


@pytest.mark.long
def test_an_imagenet_network_is_interpreted_from_its_weights_to_its_page(tmp_path: Path) -> None:
    assert (ROOT / ".venv" / "beside" / "torchvision").is_dir()  # which make test makes
    for name, *arguments in commands():
        code = HERE.format(tests=str(ROOT / "tests"), call=CALLS[name])
        program = [sys.executable, "-c", code, *(["tipping"] if name == "tipping" else []), *arguments]
        given = [str(ROOT / part) if part.startswith("benchmarks/") else part for part in program]
        subprocess.run(given, cwd=tmp_path, check=True, timeout=3600)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MOST
    jobs, images_NCHW = (
        sorted(path.parent for path in tmp_path.glob("*/**/result.json")),
        photographs(tmp_path / "photographs"),
    )
    assert len(jobs) == 3
    for job in jobs:
        check_predictions(job, tmp_path / "photographs" / "efficientnet_lite0.pt", images_NCHW)
        result = json.loads((job / "result.json").read_text())
        assert result["selection"]["certified"]
        assert result["accuracy"]["intact"] > 0.6
        assert result["pictures"]
        assert len(result["selection"]["relative_gap"]) == 1000
    assert list(tmp_path.glob("**/report.html"))
