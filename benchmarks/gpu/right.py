"""Is what a device gives what the CPU gives? Small networks under all protocols, and the tests that take a device."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpu.work import ROOT, OutOfTime, Pace, Rows, Work, spread
from tipping import data
from tipping.ablation import ablated, evaluate_ablations, nearly_tied
from tipping.data import Dataset
from tipping.experiment import config
from tipping.experiment.subject import Subject
from tipping.mu_lasso import spg
from tipping.network import build, evaluating
from tipping.network.training import train
from tipping.selection import Selection
from tipping.visualize import look
from tipping.visualize.gallery import filters_of

FILE = "right.csv"
RESPONSES = (
    1e-5  # of float32 sums over some hundred products, each rounded by 6e-8, whose squares are summed in float64
)
GAP = 1e-3  # relative duality gap on the CPU's problem, which takes the rounding of the responses for its own
SIGNALS = 1e-2  # a ReLU whose input is 0 but for rounding lets a signal pass on one device only
DRAWN = 5  # filters, and images, whose signals are compared, by each rule
STEPS = 20  # of training
TOGETHER, LAST = 4, 3  # processes of tests, and seconds left when they are stopped
MU = "mu=5"


def run(work: Work) -> None:
    """Compare what is not compared yet, then run the tests.

    Raises:
        OutOfTime: something is left.
    """
    rows, pace = Rows(work.out / FILE), Pace(work, "right, a protocol")
    for protocol, overrides in work.size.protocols.items():
        if not rows.having(protocol=protocol, **work.made_by):
            print(protocol, flush=True)
            with pace.piece():
                options = work.options(MU, f"protocol={protocol}", *overrides)
                rows.add(*({"protocol": protocol, **row, **work.made_by} for row in or_failed(work, options)))
    if not rows.having(what=f"weights after {STEPS} steps", **work.made_by):
        with pace.piece():
            rows.add(trained_alike(work) | work.made_by)
    if not any("cut off" not in row["note"] for row in rows.having(what="tests", **work.made_by)):
        rows.add(tests(work) | work.made_by)


def or_failed(work: Work, options: config.Config) -> list[dict[str, Any]]:
    """The rows of one protocol; where the device refuses an operation, one that says so: the others go on."""
    try:
        return list(compared(work, options))
    except RuntimeError as error:
        traceback.print_exc()
        note = " ".join(str(error).split())[:200]
        return [_row("computed at all", 0, 1.0, 0.0) | {"note": note}]


def compared(work: Work, options: config.Config) -> Iterator[dict[str, Any]]:
    """The rows of one protocol: of a network trained on the CPU, measured there and on the device."""
    dataset = spread(data.load(options.data.name, options.data.root), work.size.images)
    model = build(options.model, dataset.image_shape, len(dataset.classes), options.seed)
    train(model, dataset, **asdict(options.trainer), seed=options.seed)
    here = Subject.from_options(model.eval(), dataset, options)
    there = Subject.from_options(copied(model, work.device), dataset.to(work.device), options)
    problem, other = here.fresh_responses(), there.fresh_responses()
    selection, selected = here.select(problem), there.select(other)

    far = float((other.gram_FF.cpu() - problem.gram_FF).norm() / problem.gram_FF.norm())
    yield _row("responses", len(problem.gram_FF), far, RESPONSES)
    gradient = spg(other, [options.mu]).weights_MFC[0].cpu()
    for solver, weights_RC in (("homotopy", torch.from_numpy(selected.weights_RC)), ("spg", gradient)):
        gap = float(problem.relative_gap(weights_RC, torch.tensor(options.mu)).max())
        yield _row(f"weights by {solver}", weights_RC.shape[1], gap, GAP)
    unlike = int((selection.relevant_F ^ selected.relevant_F).sum())
    yield _row("relevant filters", int(selection.relevant_F.sum()), unlike, None, different=unlike)
    yield predictions_alike(here, there, dataset, selection)
    yield signals_alike(here, there, selection)


def copied(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of a network on a device."""
    return copy.deepcopy(model).to(device)


def _row(what: str, compared: int, largest: float, allowed: float | None, **others: Any) -> dict[str, Any]:
    """A row: how many were compared, the largest difference, and what is allowed; no verdict where nothing is."""
    verdict = "" if allowed is None else bool(largest <= allowed)
    bound = "" if allowed is None else allowed
    return {"what": what, "compared": compared, "different": "", "largest": largest, "allowed": bound, **others} | {
        "right": verdict
    }


def predictions_alike(here: Subject, there: Subject, dataset: Dataset, selection: Selection) -> dict[str, Any]:
    """Predictions intact and under the same ablations; where they differ, the CPU's two largest logits must be tied but
    for rounding."""
    images = dataset.split(here.options.protocol.evaluated_on)
    ablations = [np.array([], dtype=int), selection.order_K, *selection.controls]
    device = there.train.labels_N.device
    one_AN = evaluate_ablations(here.filters, images, ablations, **here.manner())
    other_AN = evaluate_ablations(there.filters, images.to(device), ablations, **there.manner())
    unexplained = 0
    for filters, differ_N in zip(ablations, one_AN != other_AN, strict=True):
        if differ_N.any():
            few = images[torch.from_numpy(differ_N)].images_NCHW
            unexplained += int((~nearly_tied(logits(here, few, filters))).sum())
    different = int((one_AN != other_AN).sum())
    return _row("predictions that differ without a tie", one_AN.size, unexplained, 0, different=different)


def logits(subject: Subject, images_NCHW: Tensor, filters: np.ndarray) -> Tensor:
    """The logits (N, C) of a network without some filters."""
    model = subject.filters.model
    with evaluating(model), ablated(subject.filters, filters, **subject.manner()), torch.inference_mode():
        found: Tensor = model(images_NCHW)
    return found


def signals_alike(here: Subject, there: Subject, selection: Selection) -> dict[str, Any]:
    """The pictures' signals: the norm of their difference, beside their own, over all of them."""
    strongest = np.argsort(-np.abs(selection.weights_RC).sum(1), kind="stable")[:DRAWN].tolist()
    items = [(response, image) for response in strongest for image in range(DRAWN)]
    filters = filters_of(here.filters, [response for response, _ in items])
    squares, apart = 0.0, 0.0
    for rule in here.options.visualize.rules:
        both = [
            look(
                subject.filters.model,
                subject.train[torch.tensor([i for _, i in items])].images_NCHW,
                filters,
                rule=rule,
            )
            for subject in (here, there)
        ]
        one, other = (sight.signals_BCHW.cpu().double() for sight in both)
        squares, apart = squares + float(one.square().sum()), apart + float((one - other).square().sum())
    relative = (apart / squares) ** 0.5 if squares else float(apart > 0)
    return _row("signals of pictures", len(items) * len(here.options.visualize.rules), relative, SIGNALS)


def trained_alike(work: Work) -> dict[str, Any]:
    """How far weights are apart after some steps of training, without dropout: shown, and no verdict, since RMSprop
    turns what is 0 but for rounding into a whole step."""
    options = work.options(*work.size.protocols["described"], "model.dropout=0", "trainer.max_epochs=1")
    whole = data.load(options.data.name, options.data.root)
    dataset = spread(whole, (STEPS * options.trainer.batch_size, 100))
    weights = []
    for device in (torch.device("cpu"), work.device):
        model = build(options.model, dataset.image_shape, len(dataset.classes), options.seed).to(device)
        train(model, dataset.to(device), **asdict(options.trainer), seed=options.seed)
        weights.append(torch.cat([weight.detach().cpu().flatten() for weight in model.parameters()]))
    relative = float((weights[1] - weights[0]).norm() / weights[0].norm())
    return {"protocol": "", **_row(f"weights after {STEPS} steps", len(weights[0]), relative, None)}


def tests(work: Work) -> dict[str, Any]:
    """Run the tests that take a device, as far as time goes.

    Raises:
        OutOfTime: none has passed or failed by then.
    """
    chosen = work.size.tests or [str(path.relative_to(ROOT)) for path in device_tests()]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--device", work.device.type, *chosen]
    command += ["-W", "default", "--continue-on-collection-errors"]  # of files that need what is not installed
    if not work.size.tests and find_spec("xdist"):
        command += ["--numprocesses", str(TOGETHER)]
    counts: Counter[str] = Counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    reader = threading.Thread(target=_count, args=(process, counts), daemon=True)  # its workers may outlive pytest
    reader.start()
    cut = ""
    try:
        process.wait(timeout=max(0.0, work.left() - LAST))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        cut = "; cut off"
    reader.join(timeout=1)
    if not counts["PASSED"] + counts["FAILED"]:
        raise OutOfTime
    wrong = counts["FAILED"] + counts["ERROR"]
    verdict = {"right": ""} if cut and not wrong else {}
    note = f"{counts['PASSED']} passed, {wrong} failed, {counts['SKIPPED']} skipped{cut}"
    return {"protocol": "", **_row("tests", counts.total(), wrong, 0), **verdict, "note": note}


def _count(process: subprocess.Popen[str], counts: Counter[str]) -> None:
    """Print what tests print, and count their outcomes."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            print(line, end="", flush=True)
            counts.update(outcome_of(line))


def outcome_of(line: str) -> list[str]:
    """The outcome of a test, in a line of pytest's output that says one; those of its summary, but for files that
    cannot be collected, say it again."""
    kinds = "(PASSED|FAILED|SKIPPED|ERROR)"
    found = re.match(rf"\[gw\d+\] \[ *\d+%\] {kinds} |\S+::.* {kinds}\b.*\[ *\d+%\]$", line)
    if found:
        return [found[1] or found[2]]
    return ["ERROR"] if re.match(r"ERROR \S+\.py( |$)", line) else []


def device_tests() -> list[Path]:
    """Return the files with tests that take a device, or a fixture that is on one, but for those of this command."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.name != "test_gpu.py"]
    fixtures = "device|model|split|problem|own|used|loader"
    return [path for path in files if re.search(rf"\b({fixtures}): ", path.read_text())]
