"""Which files decide a network: all of its own code, and nothing that happens to be there."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tipping.errors import InputError
from tipping.network import file_digests, source_digest

HELPER = "from torch import nn\nACT = nn.ReLU\n"
NET = """
from torch import nn
{outside}


class Net(nn.Sequential):
    def __init__(self, act=None):
        {inside}
        super().__init__(nn.Conv2d(1, 4, 3))
"""
THEIRS = ("own", "kit", "helper", "between", "front", "made", "installed", "this")


def net(outside: str = "", inside: str = "pass") -> str:
    return NET.format(outside=outside, inside=inside)


WAYS: dict[str, tuple[str, str, dict[str, str]]] = {  # the class, the file that is edited, and its others
    "a name of it": ("own.Net", "helper.py", {"own.py": net("from helper import ACT")}),
    "a module": ("own.Net", "helper.py", {"own.py": net("import helper as other")}),
    "everything": ("own.Net", "helper.py", {"own.py": net("from helper import *")}),
    "in a function": ("own.Net", "helper.py", {"own.py": net(inside="import helper")}),
    "by a call": ("own.Net", "helper.py", {"own.py": net("import importlib", "importlib.import_module('helper')")}),
    "by a helper": (
        "own.Net",
        "helper.py",
        {"own.py": net("import between"), "between.py": "def late():\n    from helper import ACT\n"},
    ),
    "in a package": (
        "kit.nets.own.Net",
        "kit/helper.py",
        {"kit/__init__.py": "", "kit/nets/__init__.py": "", "kit/nets/own.py": net("from .. import helper")},
    ),
    "in a package without __init__, in a function": (
        "kit.own.Net",
        "kit/parts/helper.py",
        {"kit/own.py": net(inside="from .parts.helper import ACT")},
    ),
    "by its name in its package": ("kit.Net", "kit/__init__.py", {"kit/own.py": net()}),
    "the package around it": ("kit.own.Net", "kit/__init__.py", {"kit/own.py": net()}),
    "where the class is found": ("front.Net", "front.py", {"own.py": net()}),
    "with no name in the code": ("own.Net", "helper.py", {"own.py": net("other = __import__('hel' + 'per')")}),
    "its base": (
        "own.Net",
        "helper.py",
        {
            "own.py": "import made\nclass Net(made.base()):\n    pass\n",
            "made.py": "def base():\n    return __import__('hel' + 'per').Base\n",
        },
    ),
}
EDITED = {
    "front.py": "from own import Net\n",
    "kit/__init__.py": "from kit.own import Net\n",
    "helper.py": f"{HELPER}class Base(nn.Sequential):\n    pass\n",
}


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str | None]]:
    """Write files and return the digest of a network in them, as a new process would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in THEIRS]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def digest(target: str, files: dict[str, str] | None = None, **options: Any) -> str | None:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        forget()
        return source_digest({"_target_": target, **options})

    yield digest
    forget()


@pytest.mark.parametrize("way", WAYS)
def test_its_code_counts_wherever_it_lies(digest_of, tmp_path: Path, way: str) -> None:
    target, place, files = WAYS[way]
    content = EDITED.get(place, HELPER)
    first = digest_of(target, {**files, place: content})
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert digest_of(target) == first
    assert digest_of(target, {place: content + "# edited\n"}) not in (first, None)
    assert digest_of(target, {place: content}) == first


def test_a_class_by_itself_is_known_by_its_file_as_before_helpers_counted(digest_of) -> None:
    alone = net("import os\nimport numpy\nfrom tipping.models import KerasCNN\nfrom torch.nn import functional")
    assert digest_of("kit.own.Net", {"kit/__init__.py": "", "kit/own.py": alone}) == _sha(alone)
    assert source_digest({"_target_": "tipping.models.KerasCNN"}) is None
    own = "from tipping.models import KerasCNN\nclass Net(KerasCNN):\n    pass\n"
    assert digest_of("own.Net", {"own.py": own}) == _sha(own)
    planted, torchs = (sys.modules[name].__file__ for name in ("tipping.planted", "torch.nn.modules.linear"))
    assert source_digest({"_target_": "tipping.planted.PlantedNet"}) == _sha(Path(planted).read_text())
    assert source_digest({"_target_": "torch.nn.Identity"}) == _sha(Path(torchs).read_text())


def test_what_is_installed_does_not_count(digest_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    files = {"own.py": net("import installed"), "site-packages/installed.py": HELPER}
    assert digest_of("own.Net", files) == _sha(files["own.py"])


def test_a_helper_may_have_the_name_of_a_module_of_python_s(digest_of) -> None:
    files = {"own.py": net(inside="import this"), "this.py": HELPER}
    assert digest_of("own.Net", files) not in (_sha(files["own.py"]), None)


def test_code_that_options_name_counts(digest_of) -> None:
    options = {"act": [{"_target_": "helper.ACT"}], "name": "own"}
    first = digest_of(
        "own.Net", {"own.py": net(), "helper.py": HELPER.replace("nn.ReLU", "lambda: nn.ReLU()")}, **options
    )
    assert first != digest_of("own.Net", {"helper.py": "def ACT():\n    pass\n"}, **options)
    assert digest_of("tipping.models.KerasCNN", **options) is not None
    with pytest.raises(InputError, match=r"_target_=helper\.NONE: cannot be imported"):
        digest_of("own.Net", act={"_target_": "helper.NONE"})


def test_what_else_was_imported_does_not_count(digest_of) -> None:
    files = {"kit/__init__.py": "x = 1\n", "kit/own.py": net("import kit"), "kit/other.py": net()}
    first = digest_of("kit.own.Net", files)
    assert digest_of("kit.other.Net") != first
    importlib.import_module("kit.own")
    assert source_digest({"_target_": "kit.own.Net"}) == first


def test_code_in_an_archive_counts(digest_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "code.zip"))
    found = []
    for content in (HELPER, HELPER + "# edited\n"):
        with zipfile.ZipFile(tmp_path / "code.zip", "w") as file:
            file.writestr("own.py", net("import helper"))
            file.writestr("helper.py", content)
        found.append(digest_of("own.Net"))
    assert found[0] != found[1]
    assert None not in found


def test_code_that_is_gone_is_refused(digest_of, tmp_path: Path) -> None:
    digest_of("own.Net", {"own.py": net("import helper"), "helper.py": HELPER})
    (tmp_path / "own.py").write_text(net("import helper\n# edited"))
    sys.modules.pop("own")
    importlib.invalidate_caches()
    (tmp_path / "helper.py").unlink()
    with pytest.raises(InputError, match=r"helper\.py.*cannot be read"):
        file_digests({"_target_": "own.Net"})


def test_a_class_of_a_session_has_no_file() -> None:
    code = "from torch import nn\nfrom tipping.network import source_digest\nclass Net(nn.Module): pass\n"
    code += "print(source_digest({'_target_': '__main__.Net'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "None\n"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
