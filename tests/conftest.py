from __future__ import annotations

import gc
import hashlib
import importlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:  # else where it is used: the process that only hands out tests loads none of it
    import numpy as np
    import torch
    from torch import nn

    from tipping.data import Split
    from tipping.mu_lasso import MuLassoProblem

ROOT = Path(__file__).parent.parent
hypothesis.settings.register_profile("same_each_time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same_each_time")
sys.path.insert(0, str(ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="run the tests on cuda, or on a card that is not there")
    parser.addoption("--long", action="store_true", help="run the long tests too")
    parser.addoption("--cluster", action="store_true", help="run the tests that start Slurm and PostgreSQL too")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "card":
        import card

        card.register()
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")
    config.addinivalue_line("markers", "cluster: starts Slurm or PostgreSQL; runs with --cluster")
    if config.getoption("--long"):
        hypothesis.settings.register_profile("ten_times", hypothesis.settings.default, max_examples=1000)
        hypothesis.settings.load_profile("ten_times")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files in which no test takes a device, where only such tests are run: loading them takes long."""
    if config.getoption("--device") == "cpu" or not collection_path.match("test_*.py"):
        return None
    return collection_path not in files_with_device() or None


@cache
def files_with_device() -> set[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return {ROOT / "tests" / "test_gpu.py", *importlib.import_module("gpu.right").device_tests()}


def pytest_collection_finish() -> None:
    """Leave out what is loaded, some hundred thousand objects, whenever garbage is looked for."""
    gc.collect()
    gc.freeze()


# What takes long comes first, so that both processes end at one time; the browser makes the sweep of all of report.
# Not by an order of arguments: pytest 9 sorts what lies in a folder that is an argument too
FIRST = ("report/test_browser.py", "command/test_faults.py", "test_gpu", "test_start.py", "command/", "tracking/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") != "cpu":
        items[:] = [item for item in items if "device" in item.fixturenames]  # type: ignore[attr-defined]
    items.sort(key=lambda item: next((n for n, part in enumerate(FIRST) if f"tests/{part}" in item.nodeid), len(FIRST)))
    for name, what in (("long", "a long test"), ("cluster", "needs a cluster")):
        for item in items:
            if item.get_closest_marker(name) and not config.getoption(f"--{name}"):
                item.add_marker(pytest.mark.skip(reason=f"{what}: give --{name}"))


@pytest.fixture(scope="session", autouse=True)
def composing_less() -> Iterator[None]:
    import composing

    from tipping.experiment.config import presets

    with composing.remembered(presets()):
        yield


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    import card

    from tipping.experiment.network import pick_device

    name = request.config.getoption("--device")
    with card.plugged_in() if name == "card" else nullcontext(None) as there:
        yield there or pick_device(name)  # without TF32, as the commands do it


@pytest.fixture
def rng() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def model(device: torch.device) -> nn.Module:
    """A small untrained network with biases that are not zero, so that forgetting them shows."""
    import torch

    from tipping.network import build

    options = {"_target_": "tipping.models.KerasCNN", "filters": 6, "depth": 3, "dropout": 0.5}
    model = build(options, (1, 8, 8), 10, seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(0.05, 0.2, generator=torch.Generator().manual_seed(1))
    return model.to(device)


@pytest.fixture
def split(device: torch.device) -> Split:
    """700 random images: more than one evaluation batch."""
    import torch

    from tipping.data import Split

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(700, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (700,), generator=generator)
    return Split(images.to(device), labels.to(device))


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run train.py or interpret.py in this process, on the digits and a tiny network: (exit code, stdout, stderr)."""
    from hydra.core.global_hydra import GlobalHydra

    from tipping.command import interpret, line, train
    from tipping.results import tables

    mains = {"train": (train.run_train, None), "interpret": (interpret.run_interpret, tables.write_table)}
    small = ["data=digits", "trainer.max_epochs=1", "model.filters=4", "model.depth=2", "protocol.draws=2"]
    small += ["curve.points=2", "curve.images=100", f"store.dir={tmp_path / 'store'}", "tracking=off"]

    def run(script: str, *arguments: str, multirun: bool = False) -> tuple[int, str, str]:
        given = {argument.split("=")[0].lstrip("+~") for argument in arguments}
        defaults = [option for option in small if option.split("=")[0] not in given]
        if not any(option.startswith("visualize") for option in given):
            defaults.append("visualize=off")
        if "model" in given:
            defaults = [option for option in defaults if not option.startswith("model.")]
        mode = ["-m", f"hydra.sweep.dir={tmp_path / 'out'}"] if multirun else [f"hydra.run.dir={tmp_path / 'out'}"]
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"{script}.py"), *mode, *defaults, *arguments])
        GlobalHydra.instance().clear()
        main, gather = mains[script]
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        with pytest.raises(SystemExit) as exit_:
            line.run(main, gather)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def finished(
    run_script: Callable[..., Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., None]:
    """Have what a command leaves that does not fail: by `run_script`, or copied where another test has run the same."""

    def have(*given: str, **how: bool) -> None:
        assert not list(tmp_path.iterdir())
        kept = tmp_path_factory.getbasetemp() / "finished" / hashlib.sha256(repr((given, how)).encode()).hexdigest()
        if kept.is_dir():
            shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
        else:
            code, _, err = run_script(*given, **how)
            assert code == 0, err
            shutil.copytree(tmp_path, kept)

    return have


@pytest.fixture
def problem(rng: np.random.Generator, device: torch.device) -> MuLassoProblem:
    """47 filters in three layers, two of each dead; 4 classes that depend on them."""
    import numpy as np
    from toy_problems import problem_of, responses_like

    responses = responses_like(rng, images=400, sizes=[12, 20, 15], dead=2)
    scores = responses @ rng.normal(size=(47, 4))
    scores += 0.3 * scores.std() * rng.normal(size=scores.shape)
    labels = np.eye(4)[(scores - scores.mean(0)).argmax(1)]
    return problem_of(responses, labels, device)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package behind make gpu."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu.work")


@pytest.fixture
def work(gpu: ModuleType, device: torch.device, tmp_path: Path) -> Any:
    """What the stages of make gpu are given, in tiny sizes."""
    from tipping.experiment.store import Store

    return gpu.Work(tmp_path, device, gpu.TINY, time.time() + 86_400, Store(tmp_path / "store"))
