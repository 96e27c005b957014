"""The stages of make gpu, in tiny sizes, on the CPU and on the pretended card: their rows are those of the commands."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from running import printed, table_rows
from torch import nn

from tipping.results import sweep, tipping_map

ANSWER = ("seed", "model.dropout", "protocol", "control", "mu")  # what a row of the answer is of
MEASURED = ("filters", "dead", "relevant", "ablated", "shared", "intact", "selected", "random", "certified")
TIPS = ("evaluations", "intact", "least", "filters", "tipping_mu", "tipping_filters", "tipping_random_filters")
TIPS += ("area_selected", "area_random", "crossings", "crosses_at", "saturation_mu", "certified")


@pytest.fixture
def there(work: Any, request: pytest.FixtureRequest) -> Any:
    """The work of a stage that would be computed twice, here and on the card."""
    if work.device.type == "cpu" and not request.config.getoption("--long"):
        pytest.skip("make test runs it on the card, whose arithmetic is the CPU's: give --device card, or --long")
    return work


@pytest.mark.parametrize("size", ["full", "tiny"])
def test_all_options_of_both_sizes_can_be_composed(size: str, gpu: ModuleType, work: Any) -> None:
    of, modules = gpu.SIZES[size], [importlib.import_module(f"gpu.{name}") for name in ("answer", "right")]
    sized = gpu.Work(work.out, work.device, of, work.until, work.store)
    options = sized.options(*of.network, f"protocol={modules[0].PROTOCOLS[1]}", f"model.filters={of.widths[-1]}")
    assert options.model["filters"] == of.widths[-1]
    for protocol, network in of.protocols.items():
        assert sized.options(modules[1].MU, f"protocol={protocol}", *network).protocol.name == protocol
    assert gpu.FULL.seeds == 10
    assert len(gpu.FULL.mu) == 12


def made_once(stage: ModuleType, work: Any) -> None:
    """Run a stage, then again, which makes no row twice."""
    stage.run(work)
    first = (work.out / stage.FILE).read_text()
    assert len(first.splitlines()) >= 3
    stage.run(work)
    assert (work.out / stage.FILE).read_text() == first


@pytest.mark.parametrize("stage", ["answer", "selectors", "stages", "selecting", "widths"])
def test_each_stage_makes_its_rows_and_makes_none_twice(stage: str, there: Any) -> None:
    made_once(importlib.import_module(f"gpu.{stage}"), there)


def test_right_compares_all_protocols_and_finds_no_difference_here(there: Any) -> None:
    """The card computes as the CPU does. Its rows are made once, as those of the other stages."""
    right = importlib.import_module("gpu.right")
    made_once(right, there)
    found = table_rows(there.out / right.FILE)
    compared = {(row["protocol"], row["what"]): row for row in found}
    for protocol in there.size.protocols:
        assert float(compared[protocol, "responses"]["largest"]) < 1e-12
        assert float(compared[protocol, "weights by homotopy"]["largest"]) < 1e-8
        assert float(compared[protocol, "weights by spg"]["largest"]) < 1e-8
        assert compared[protocol, "relevant filters"]["different"] == "0"
        assert int(compared[protocol, "predictions that differ without a tie"]["compared"]) > 1000
        assert compared[protocol, "signals of pictures"]["largest"] == "0.0"
    assert {row["right"] for row in found} == {"True", ""}
    assert " passed, 0 failed" in compared["", "tests"]["note"]


def test_right_sees_a_device_that_computes_something_else(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right, summary = (importlib.import_module(f"gpu.{name}") for name in ("right", "summary"))
    copied = right.copied

    def off(model: nn.Module, device: torch.device) -> nn.Module:
        with torch.no_grad():
            changed = copied(model, torch.device("cpu"))
            next(changed.parameters()).mul_(1.5)[0] += 0.3
        return changed.to(device)

    monkeypatch.setattr(right, "copied", off)
    made = list(right.compared(work, work.options(*work.size.network, right.MU)))
    verdicts = {row["what"]: row["right"] for row in made}
    assert verdicts["responses"] is False
    assert verdicts["predictions that differ without a tie"] is False
    assert verdicts["signals of pictures"] is False
    false = right.Rows(work.out / right.FILE)
    false.add(*({"protocol": "described", **row, **work.made_by} for row in made))
    assert "described responses" in summary.wrong(work.out)


def test_predictions_may_differ_where_two_logits_are_tied(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = importlib.import_module("gpu.right")
    made = {row["what"]: row for row in right.compared(work, work.options(*work.size.network, right.MU))}
    assert made["predictions that differ without a tie"]["different"] == 0
    evaluated = right.evaluate_ablations

    def second_best(model: nn.Module, images: Any, *given: Any, **named: Any) -> np.ndarray:
        predictions_AN = evaluated(model, images, *given, **named)
        if next(calls) == "there":
            predictions_AN[0, :3] += 1
        return predictions_AN

    calls = iter(["here", "there"])
    monkeypatch.setattr(right, "evaluate_ablations", second_best)
    made = {row["what"]: row for row in right.compared(work, work.options(*work.size.network, right.MU))}
    row = made["predictions that differ without a tie"]
    assert (row["different"], row["largest"], row["right"]) == (3, 3, False)
    calls = iter(["here", "there"])
    monkeypatch.setattr(right, "nearly_tied", lambda logits_NC: torch.ones(len(logits_NC), dtype=torch.bool))
    made = {row["what"]: row for row in right.compared(work, work.options(*work.size.network, right.MU))}
    row = made["predictions that differ without a tie"]
    assert (row["different"], row["largest"], row["right"]) == (3, 0, True)


def test_the_answers_rows_are_those_of_interpret(there: Any, tmp_path: Path) -> None:
    """Which makes a job of each mu, protocol and control, with a selection of its own."""
    answer = importlib.import_module("gpu.answer")
    found = {tuple(row[key] for key in ANSWER): row for row in answered(answer, there)}
    given = [*there.size.network, "selection=homotopy", "visualize=off", "tracking=off", "curve.points=1"]
    given += [f"store.dir={there.store.folder}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    given.append("model.dropout=0.5")
    several = [
        f"mu={','.join(map(str, there.size.mu))}",
        "protocol=described,keras_report",
        "protocol.control=layer,norm",
    ]
    printed("interpret.py", "-m", *given, *several)
    expected = table_rows(tmp_path / "sweep" / "results.csv")
    assert len(expected) == len(there.size.mu) * 4
    for row in expected:
        own = found[tuple(row[key] for key in ANSWER)]
        assert {key: own[key] for key in MEASURED} == {key: row[key] for key in MEASURED}
        assert float(own["explained"]) == pytest.approx(float(row["explained"]), rel=1e-9)


def answered(answer: ModuleType, work: Any) -> list[dict[str, str]]:
    table = answer.Rows(work.out / answer.FILE)
    for some in answer.of_network(work, 0.5, 0):
        table.add(*some)
    return table_rows(work.out / answer.FILE)


def test_the_map_s_rows_are_those_of_a_search(there: Any, tmp_path: Path) -> None:
    widths = importlib.import_module("gpu.widths")
    options = there.options(*there.size.network, "model.filters=4", "model.dropout=0.5")
    own = widths.searched(there, options)
    given = [*there.size.network, "model.dropout=0.5", "selection=homotopy", "tracking=off", "curve.points=4"]
    given += [f"store.dir={there.store.folder}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    search = [f"search.{key}={getattr(widths.SEARCH, key)}" for key in ("low", "high", "grid", "precision", "trials")]
    printed("sweeps/tipping_point.py", *given, *search)
    jobs, _ = sweep.read_sweeps([tmp_path / "sweep"])
    (network,), _ = sweep.networks(jobs)
    expected = tipping_map.network_row(network)
    for key in TIPS:
        assert own[key] == pytest.approx(expected[key], rel=1e-9), key
    assert own["crossings"] >= 1


@pytest.mark.parametrize(
    ("line", "outcomes"),
    [
        ("tests/test_ablation.py::test_a[x y] PASSED                [  4%]", ["PASSED"]),
        ("[gw1] [ 96%] FAILED tests/test_ablation.py::test_a ", ["FAILED"]),
        ("tests/test_ablation.py::test_a SKIPPED (of a card) [ 4%]", ["SKIPPED"]),
        ("FAILED tests/test_ablation.py::test_a - assert 1 == 2", []),
        ("SKIPPED [1] tests/test_a.py:74: has no autocast", []),
        ("ERROR tests/test_device.py - ImportError while importing", ["ERROR"]),
        ("ERROR tests/test_device.py::test_a - RuntimeError", []),
        ("tests/test_ablation.py::test_a ERROR                [ 10%]", ["ERROR"]),
        ("2 passed, 1 failed", []),
    ],
)
def test_outcomes_of_tests_are_counted_once(line: str, outcomes: list[str], gpu: ModuleType) -> None:
    assert importlib.import_module("gpu.right").outcome_of(line) == outcomes


def test_tests_that_take_too_long_are_counted_as_far_as_they_went(work: Any, gpu: ModuleType, tmp_path: Path) -> None:
    """Also where a process of theirs keeps their output open."""
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--device')\n")
    slow = tmp_path / "test_slow.py"
    slow.write_text(
        "import subprocess, time\n"
        "def test_one(): pass\n"
        "def test_two(): pass\n"
        "def test_three():\n"
        f"    subprocess.Popen(['sleep', '20'])\n"
        f"    open({str(tmp_path / 'began')!r}, 'w').close()\n"
        "    time.sleep(600)\n"
    )

    class Waits(gpu.Work):
        def left(self) -> float:
            while not (tmp_path / "began").is_file():
                time.sleep(0.05)
            return 0.0

    size = replace(gpu.TINY, tests=(str(slow), "--rootdir", str(tmp_path), "-p", "no:hypothesis"))
    waits = Waits(work.out, torch.device("cpu"), size, 0.0, work.store)
    row = importlib.import_module("gpu.right").tests(waits)
    assert row["note"] == "2 passed, 0 failed, 0 skipped; cut off"
    assert row["right"] == "", "the others may still fail"


def test_a_piece_that_does_not_fit_is_not_begun_also_in_a_later_call(gpu: ModuleType, work: Any) -> None:
    late = gpu.Work(work.out, work.device, work.size, time.time() + 6000, work.store)
    pace = gpu.Pace(late, "one")
    with pace.piece():
        pass
    pace.slowest = 5000.0
    with pace.piece():  # it fits, and is noted
        pass
    again = gpu.Pace(late, "one")
    assert again.slowest == 5000.0
    with pytest.raises(gpu.OutOfTime), again.piece(2.0):
        raise AssertionError
    with again.piece(0.0):
        pass
    assert again.slowest == 5000.0
    with gpu.Pace(late, "another").piece(100_000.0):  # of which nothing is known
        pass


def test_a_protocol_that_the_device_refuses_leaves_the_others(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right, summary = (importlib.import_module(f"gpu.{name}") for name in ("right", "summary"))
    compared = right.compared

    def refusing(work: Any, options: Any) -> Any:
        if options.protocol.name == "authors":
            raise RuntimeError("CUSOLVER_STATUS_INVALID_VALUE\n  in some call")
        return compared(work, options)

    monkeypatch.setattr(right, "compared", refusing)
    monkeypatch.setattr(right, "tests", lambda work: {"protocol": "", "what": "tests", "right": True, "note": ""})
    right.run(work)
    found = table_rows(work.out / right.FILE)
    (row,) = [row for row in found if row["protocol"] == "authors"]
    assert (row["right"], row["note"]) == ("False", "CUSOLVER_STATUS_INVALID_VALUE in some call")
    assert {row["protocol"] for row in found} == {*work.size.protocols, ""}
    assert summary.wrong(work.out) == ["authors computed at all"]


def test_all_tests_that_take_a_device_are_run_on_it(gpu: ModuleType, request: pytest.FixtureRequest) -> None:
    """What pytest selects for a device is in the files that the stage gives it, as far as they are collected here."""
    own, items = Path(__file__), request.session.items
    selected = {item.path for item in items if "device" in item.fixturenames} - {own}
    if {*own.parent.rglob("test_*.py")} == {item.path for item in items}:
        assert len(selected) > 15
    assert selected <= {*importlib.import_module("gpu.right").device_tests()}
