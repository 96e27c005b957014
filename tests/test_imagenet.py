"""A real ImageNet network end to end, on photographs: the example of docs/networks.md, in its memory."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

# torchvision fails beside a CPU build of torch unless it is imported in this way: the command is called after that
HERE = "import sys, runpy; sys.path.insert(0, {tests!r}); import torchvision_here; sys.argv = sys.argv[1:]; {call}"
CALLS = {
    "python": "sys.path.insert(0, 'benchmarks'); runpy.run_path(sys.argv[0], run_name='__main__')",
    "tipping": "from tipping.__main__ import main; sys.exit(main())",
}
MOST = 4e9  # bytes of memory


def commands() -> list[list[str]]:
    """The commands of the page on networks, one for the folder and one for the job."""
    text = (ROOT / "docs" / "networks.md").read_text()
    block = next(block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if "efficientnet_lite0" in block)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.mark.long
def test_an_imagenet_network_is_interpreted_from_its_weights_to_its_page(tmp_path: Path) -> None:
    assert (ROOT / ".venv" / "beside" / "torchvision").is_dir()  # which make test makes
    for name, *arguments in commands():
        code = HERE.format(tests=str(ROOT / "tests"), call=CALLS[name])
        program = [sys.executable, "-c", code, *(["tipping"] if name == "tipping" else []), *arguments]
        given = [str(ROOT / part) if part.startswith("benchmarks/") else part for part in program]
        subprocess.run(given, cwd=tmp_path, check=True, timeout=3600)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MOST
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/**/result.json"))]
    assert results
    for result in results:
        assert result["selection"]["certified"]
        assert result["accuracy"]["intact"] > 0.6
        assert result["accuracy"]["selected"] < result["accuracy"]["intact"]
        assert result["pictures"]
        assert len(result["selection"]["relative_gap"]) == 1000
    assert list(tmp_path.glob("**/report.html"))
