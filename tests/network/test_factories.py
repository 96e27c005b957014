"""Networks that functions make, and what classes and functions are given of the data set."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network import Filters, build, source_digest
from tipping.network.loading import sizes_for

SHAPE = (3, 8, 8)


class Kept(nn.Module):
    """Keeps what it was given."""

    def __init__(self, width: int = 4, classes: int = 5, channels: int = 3, **others: Any) -> None:
        super().__init__()
        self.others = others
        self.conv, self.head = nn.Conv2d(channels, width, 3), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


def make_by_name(in_channels: int, num_classes: int = 1000, width: int = 6) -> nn.Module:
    return Kept(width, num_classes, in_channels)


def make_of_anything(width: int = 4, **options: Any) -> nn.Module:
    return Kept(width, options["num_classes"], options.get("in_chans", 3))


def make_none() -> dict[str, int]:
    return {"a": 1}


class Several(Kept):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images), "maps": images}


def test_parameters_are_given_by_their_names() -> None:
    given = {"image_shape": SHAPE, "classes": 5}
    assert sizes_for(lambda image_shape, classes: 0, SHAPE, 5) == given
    assert sizes_for(lambda num_classes=10, in_chans=3: 0, SHAPE, 5) == {"num_classes": 5, "in_chans": 3}
    assert sizes_for(lambda in_channels: 0, SHAPE, 5) == {"in_channels": 3}
    assert sizes_for(lambda width=3: 0, SHAPE, 5) == {}
    assert sizes_for(lambda **options: 0, SHAPE, 5) == {"num_classes": 5}
    assert sizes_for(lambda classes, **options: 0, SHAPE, 5) == {"classes": 5}
    assert sizes_for(Kept, SHAPE, 5) == given, "a class takes what it took"


@pytest.mark.parametrize(("maker", "width"), [("make_by_name", 6), ("make_of_anything", 4), ("Kept", 4)])
def test_functions_make_networks_as_classes_do(maker: str, width: int) -> None:
    options = {"_target_": f"{__name__}.{maker}", "name": "own", "checkpoint": None}
    one, same, other = (build(options, SHAPE, 5, seed) for seed in (0, 0, 1))
    assert (one.conv.out_channels, one.head.out_features) == (width, 5)
    assert torch.equal(one.conv.weight, same.conv.weight), "the seed decides the weights"
    assert not torch.equal(one.conv.weight, other.conv.weight)
    assert build({**options, "width": 9}, SHAPE, 5, 0).conv.out_channels == 9


def test_what_is_given_by_hand_goes_before() -> None:
    target = {"_target_": f"{__name__}.make_by_name"}
    with pytest.raises(InputError, match=r"must make logits \(N, 5\) of images of 3x8x8, not \(1, 7\)"):
        build({**target, "num_classes": 7}, SHAPE, 5, 0)
    assert build({**target, "num_classes": 5, "in_channels": 3}, SHAPE, 5, 0).head.out_features == 5
    with pytest.raises(InputError, match=r"model\.classes=5: the data set gives it; leave it out"):
        build({"_target_": f"{__name__}.Kept", "classes": 5}, SHAPE, 5, 0)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (f"{__name__}.make_none", r"^model\._target_=\S+make_none: gives a dict of a, no torch\.nn\.Module"),
        (f"{__name__}.SHAPE", r"SHAPE: is no class of a network, nor a function that makes one"),
        ("collections.Counter", r"Counter: is no torch\.nn\.Module"),
        (f"{__name__}.nosuch", r"nosuch: cannot be imported"),
    ],
)
def test_what_makes_no_network_is_one_line(target: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build({"_target_": target}, SHAPE, 5, 0)


def test_a_network_with_more_than_logits_is_built_to_give_these() -> None:
    model = build({"_target_": f"{__name__}.Several"}, SHAPE, 5, 0)
    images = torch.rand(2, *SHAPE)
    assert torch.equal(model(images), Kept.forward(model, images))
    assert [name for name, _ in model.named_parameters()] == ["conv.weight", "conv.bias", "head.weight", "head.bias"]
    assert (type(model).__name__, model.training) == ("Several", True)
    assert Filters.of(model, images[:1]).sites == {"conv": "relu_call1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of code, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("made_here", "its_parts", "made_there"):
        sys.modules.pop(name, None)


def test_the_code_of_a_function_decides_its_network(folder: Path) -> None:
    (folder / "its_parts.py").write_text("from torch import nn\n")
    (folder / "made_here.py").write_text("from its_parts import nn\n\n\ndef make():\n    return nn.Identity()\n")
    digests = set()
    for text in ("from torch import nn\n", "from torch import nn\n# edited\n"):
        (folder / "its_parts.py").write_text(text)
        for name in ("made_here", "its_parts"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        digests.add(source_digest({"_target_": "made_here.make"}))
    assert len(digests) == 2
    assert None not in digests


def test_the_version_of_a_package_decides_what_its_functions_make(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "site-packages" / "made_there").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder / "site-packages"))
    (folder / "site-packages" / "made_there" / "nets.py").write_text("def make():\n    pass\n")
    for version in ("1.0", "2.0"):
        (folder / "site-packages" / "made_there" / "__init__.py").write_text(f'__version__ = "{version}"\n')
        for name in [name for name in sys.modules if name.startswith("made_there")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        expected = hashlib.sha256(f"made_there {version}".encode()).hexdigest()
        assert source_digest({"_target_": "made_there.nets.make"}) == expected
