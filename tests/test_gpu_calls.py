"""Calls of make gpu in tiny sizes: cut off, without time, without a card, and with mistakes; no row is lost."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import forked
import pytest
import torch
from running import BENCHMARKS, ROOT, table_rows


def command(out: Path, *options: str) -> list[str]:
    given = ["--out", str(out), "--device", "cpu", "--store", str(out.parent / "store"), *options]
    return [sys.executable, "-m", "gpu", *given]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), BENCHMARKS])}


def called(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return forked.run(command(out, *options), env=environment(), cwd=ROOT)


def test_a_call_that_is_cut_off_loses_no_row_and_the_next_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--minutes", "60", "--stages", "answer")
    process = forked.Popen(command(out, *options), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (out / "answer.csv").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    kept = (out / "answer.csv").read_text()
    assert len(table_rows(out / "answer.csv")) % 6 == 0, "three mu under two controls for each protocol"
    trained = {path.name for path in (tmp_path / "store" / "networks").glob("*.pt")}
    time.sleep(0.5)
    assert (out / "answer.csv").read_text() == kept, "its stage still runs"
    result = called(out, *options)
    assert result.returncode == 0, result.stderr
    assert (out / "answer.csv").read_text().startswith(kept)
    assert len(table_rows(out / "answer.csv")) == 2 * 2 * 12
    assert "| answer | " in (out / "gpu.md").read_text()
    assert trained <= {path.name for path in (tmp_path / "store" / "networks").glob("*.pt")}


def test_what_a_stage_prints_is_kept_and_one_that_fails_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "out" / "answer.csv").mkdir(parents=True)  # where its rows should be
    result = called(tmp_path / "out", "--minutes", "60", "--stages", "answer,selecting")
    assert result.returncode == 1
    assert "answer: failed" in result.stdout
    assert "selecting: done" in result.stdout
    assert "answer.csv" in (tmp_path / "out" / "log.txt").read_text()
    assert "failed" in (tmp_path / "out" / "gpu.md").read_text()


def test_stages_without_time_are_named(tmp_path: Path, gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("gpu.__main__").main
    assert main(["--out", str(tmp_path / "out"), "--device", "cpu", "--minutes", "0.01", "--size", "full"]) == 0
    printed = capsys.readouterr().out
    for stage in ("right", "answer", "stages", "selecting", "widths"):
        assert f"{stage}: left out" in printed
        assert f"{stage} | 0 | left out" in (tmp_path / "out" / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_one_line_says_how_to_try(tmp_path: Path) -> None:
    result = called(tmp_path / "out", "--device", "cuda")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "make gpu: this machine has no GPU that torch can use; DEVICE=cpu tries it in tiny sizes"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "0"], "MINUTES=0"),
        (["--minutes", "nan"], "MINUTES=nan"),
        (["--minutes", "soon"], "--minutes"),
        (["--stages", "right,left"], "STAGES=left: give some of right, answer"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], said: str, tmp_path: Path, gpu: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        importlib.import_module("gpu.__main__").main(["--out", str(tmp_path / "out"), "--device", "cpu", *options]) == 1
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_rows_of_another_size_are_left_alone(
    tmp_path: Path, gpu: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    main, out = importlib.import_module("gpu.__main__").main, tmp_path / "out"
    given = ["--out", str(out), "--device", "cpu", "--minutes", "0.001"]
    assert main(given) == 0
    before = (out / "machine.json").read_text()
    assert main([*given, "--size", "full"]) == 1
    assert capsys.readouterr().err.strip() == f"OUT={out} holds rows of the tiny size: give another folder"
    assert (out / "machine.json").read_text() == before
