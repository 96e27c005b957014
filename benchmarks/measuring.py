"""Seconds and memory of a run, tables of them in Markdown, and what benchmarks of networks begin with."""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import platform
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tipping import data
from tipping.data import Dataset, Split, evaluation_batches
from tipping.errors import InputError

PAGE = os.sysconf("SC_PAGE_SIZE")


def pin(threads: int) -> None:
    """Keep torch to some threads and the process to as many cores."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@dataclass
class Measured:
    """What a run returned, its seconds, and by how many MB it raised the process's memory at its peak."""

    result: Any
    seconds: float
    megabytes: float


def mnist(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Dataset]:
    """The arguments of a benchmark of networks, and its data; pins the process, and prints what runs it."""
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores to pin them to")
    parser.add_argument("--data", type=Path, default=os.environ.get("TIPPING_DATA", "data"), help="folder of MNIST")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    pin(arguments.threads)
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    try:
        return arguments, data.load("mnist", arguments.data)
    except InputError as error:
        parser.error(str(error))


@torch.inference_mode()
def passes(model: nn.Module, split: Split) -> None:
    """Plain passes over all images."""
    for images_NCHW, _ in evaluation_batches(split):
        model(images_NCHW)


def measure(run: Callable[[], Any], repeats: int = 1) -> Measured:
    """The peak of the memory in a first run; the median of the seconds of some more, or its own if it took over 10."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory freed by earlier runs would hide what this one takes
    before, peak, over = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result, seconds = timed(run)
    finally:
        over.set()
        watcher.join()
    if seconds < 10:
        seconds = statistics.median(timed(run)[1] for _ in range(repeats))
    return Measured(result, seconds, max(0, peak - before) / 1e6)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a run returns, and its seconds, to the end of what it started on a GPU."""
    wait: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None  # type: ignore[no-untyped-call]
    wait()
    start = time.perf_counter()
    result = run()
    wait()
    return result, time.perf_counter() - start


def operations(run: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and products of matrices: two for each multiply-accumulate."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def product_speed(precision: str, device: torch.device, side: int) -> float:
    """Operations a second in a product of two matrices of `side` rows and columns: the median of five."""
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    product = partial(torch.mm, matrix, matrix)
    product()
    seconds = statistics.median(timed(product)[1] for _ in range(5))
    torch.set_float32_matmul_precision("highest")
    return 2 * side**3 / seconds


def resident() -> int:
    """Bytes of memory the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def table(title: str, columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Print a Markdown table, each row as it comes."""
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(cell if isinstance(cell, str) else f'{cell:.3g}' for cell in row)} |", flush=True)
