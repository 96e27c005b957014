from __future__ import annotations

import io
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import card
import hypothesis
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from tipping.command import line
from tipping.data import CLASSES, Split
from tipping.experiment.config import Config, parse
from tipping.experiment.network import pick_device
from tipping.mu_lasso import MuLassoProblem
from tipping.network import Filters, build
from tipping.results import tables

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
        card.register()
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")
    config.addinivalue_line("markers", "cluster: starts Slurm or PostgreSQL; runs with --cluster")
    if config.getoption("--long"):
        hypothesis.settings.register_profile("ten_times", hypothesis.settings.default, max_examples=1000)
        hypothesis.settings.load_profile("ten_times")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") != "cpu":
        items[:] = [item for item in items if "device" in item.fixturenames]  # type: ignore[attr-defined]
    for name, what in (("long", "a long test"), ("cluster", "needs a cluster")):
        for item in items:
            if item.get_closest_marker(name) and not config.getoption(f"--{name}"):
                item.add_marker(pytest.mark.skip(reason=f"{what}: give --{name}"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    name = request.config.getoption("--device")
    with card.plugged_in() if name == "card" else nullcontext(None) as there:
        yield there or pick_device(name)  # without TF32, as the commands do it


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def model(device: torch.device) -> nn.Module:
    """A small untrained network with biases that are not zero, so that forgetting them shows."""
    options = {"_target_": "tipping.models.KerasCNN", "filters": 6, "depth": 3, "dropout": 0.5}
    model = build(options, (1, 8, 8), CLASSES, seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(0.05, 0.2, generator=torch.Generator().manual_seed(1))
    return model.to(device)


def filters_of(model: nn.Module) -> Filters:
    """The filters of a test's network: at its `sites`, if it names them, or those of its convN, but for one that gives
    the classes, at reluN, if there is one."""
    modules = dict(model.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    if not any(isinstance(module, nn.Linear) for module in modules.values()):
        convolutions.pop()
    relus = {name: name.replace("conv", "relu") for name in convolutions}
    sites = {name: relu if relu in modules else name for name, relu in relus.items()}
    return Filters.at(model, getattr(model, "sites", sites), classes=CLASSES)


def options_of(*overrides: str) -> Config:
    """The options of a job with this command line."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(compose("config", list(overrides)))


def accuracy(model: nn.Module, split: Split) -> float:
    """By a plain pass over all images at once."""
    with torch.no_grad():
        return int((model(split.images_NCHW).argmax(1) == split.labels_N).sum()) / len(split)


@pytest.fixture
def split(device: torch.device) -> Split:
    """700 random images: more than one evaluation batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(700, 1, 8, 8, generator=generator)
    labels = torch.randint(CLASSES, (700,), generator=generator)
    return Split(images.to(device), labels.to(device))


def run_here(script: str, *options: str) -> tuple[int, str, str]:
    """A script in this process, which has loaded all it needs: its exit code, and what it prints."""
    before, handlers = (
        sys.argv,
        {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)},
    )
    sys.argv = [str(ROOT / script), *options]
    GlobalHydra.instance().clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return int(exit_.value.code or 0), out.getvalue(), err.getvalue()


def printed(script: str, *options: str) -> str:
    """What a script prints in this process, without failure."""
    code, out, err = run_here(script, *options)
    assert code == 0, err
    return out


def problem_of(responses: np.ndarray, labels: np.ndarray, device: torch.device | str = "cpu") -> MuLassoProblem:
    return MuLassoProblem.stream([(torch.as_tensor(responses, device=device), torch.as_tensor(labels, device=device))])


def responses_like(rng: np.random.Generator, images: int, sizes: list[int], dead: int = 0) -> np.ndarray:
    """Positive, collinear responses that sum to 1 in each layer, as real ones do; the first `dead` are zero."""
    layers = []
    for size in sizes:
        factors = rng.random((images, 3)) @ rng.random((3, size)) + 0.05 * rng.random((images, size))
        factors[:, :dead] = 0
        layers.append(factors / factors.sum(1, keepdims=True))
    return np.concatenate(layers, axis=1)


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run train.py or interpret.py in this process, on the digits and a tiny network: (exit code, stdout, stderr)."""
    from tipping.command import interpret, train

    mains = {"train": (train.train, None), "interpret": (interpret.interpret, tables.gather)}
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
def problem(rng: np.random.Generator, device: torch.device) -> MuLassoProblem:
    """47 filters in three layers, two of each dead; 4 classes that depend on them."""
    responses = responses_like(rng, images=400, sizes=[12, 20, 15], dead=2)
    scores = responses @ rng.normal(size=(47, 4))
    scores += 0.3 * scores.std() * rng.normal(size=scores.shape)
    labels = np.eye(4)[(scores - scores.mean(0)).argmax(1)]
    return problem_of(responses, labels, device)
