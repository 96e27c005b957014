"""Where the time of the report's Figure 4 goes on a device: the stages of one network, and what share of the speed of a
large product of matrices each has, in float32, tf32 and bf16."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from measuring import operations, product_speed, timed
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from gpu.work import Pace, Rows, Work
from tipping.ablation import evaluate_ablations
from tipping.data import Dataset, evaluation_batches
from tipping.experiment.network import find_or_train
from tipping.experiment.subject import Subject
from tipping.mu_lasso import MuLassoProblem, spg
from tipping.network import Filters, build, evaluating
from tipping.network.training import train
from tipping.results.published import FIGURE_4
from tipping.selection import collect

FILE = "stages.csv"
COUNTED, REPEATS = 32, 3  # images whose arithmetic is counted, for all; runs of what takes less than a second
PROFILED = 20  # batches of training
SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product is timed


def run(work: Work) -> None:
    """Time what is not timed yet on this device.

    Raises:
        OutOfTime: something is left.
    """
    rows, pace = Rows(work.out / FILE), Pace(work, "stages, one")
    of = Timed(work)
    for name, measure in of.stages().items():
        if not rows.having(stage=name, **work.made_by):
            with pace.piece(0.5):  # the first, a training, is the longest
                rows.add(*({"stage": name, **row, **work.made_by} for row in measure()))


class Timed:
    """The stages of Figure 4, of one network that is trained first, unless the store has it."""

    def __init__(self, work: Work) -> None:
        self.work, self.options = work, work.options(*work.size.network, "protocol=keras_report")
        self.dataset = work.dataset(self.options)
        whole, here = self.dataset, torch.device("cpu")
        self.few = replace(whole, train=whole.train[:COUNTED].to(here), test=whole.test[:COUNTED].to(here))
        self.model = self._new().to(work.device)

    def stages(self) -> dict[str, Callable[[], Iterator[dict[str, Any]]]]:
        """What is timed, by its name, in order."""
        return {
            "product of matrices": self.products,
            "training, one epoch": self.training,
            "responses and Gram matrix": self.responses,
            "selection, five mu": self.selection,
            "30 ablations": self.ablations,
            "passes over the test images": self.passes,
            "what training waits for": self.busy_training,
            "what ablations wait for": self.busy_ablations,
        }

    def products(self) -> Iterator[dict[str, Any]]:
        for precision in self._precisions:
            yield {"precision": precision, "per_second": product_speed(precision, self.work.device, self._side)}

    def training(self) -> Iterator[dict[str, Any]]:
        def step() -> None:
            logits_NC = counted.train()(self.few.train.images_NCHW)
            torch.autograd.backward(functional.cross_entropy(logits_NC, self.few.train.labels_N))

        counted = self._new()
        done = operations(step) / COUNTED * len(self.dataset.train)
        for precision in self._precisions:
            options = replace(self.options.trainer, max_epochs=1, precision=precision)
            first, model = (self._new().to(self.work.device) for _ in range(2))
            train(
                first, self._some(options.batch_size), **asdict(options), seed=0
            )  # or what happens once would be counted
            seconds = timed(partial(train, model, self.dataset, **asdict(options), seed=0))[1]
            yield self._row(seconds, done, precision)

    def responses(self) -> Iterator[dict[str, Any]]:
        self._trained()
        here, filters = self._filters(self._here()), self._filters(self.model)
        done = operations(lambda: collect(here, self.few.train)) / COUNTED * len(self.dataset.train)
        collect(filters, self.dataset.train[:COUNTED])
        yield self._row(timed(lambda: collect(filters, self.dataset.train))[1], done)

    def selection(self) -> Iterator[dict[str, Any]]:
        (subject, problem), mu = self._problem(), list(self._mu)
        subject.select_each(problem, mu[:1])  # or what happens once would be counted
        spg(problem, mu[:1])
        yield {**self._row(timed(lambda: subject.select_each(problem, mu))[1]), "note": "homotopy, on the CPU"}
        yield {**self._row(timed(lambda: spg(problem, mu))[1]), "note": "spg, on the device"}

    def ablations(self) -> Iterator[dict[str, Any]]:
        sets, here, there = self._sets, self._filters(self._here()), self._filters(self.model)
        for scope in ("filter", "first_input_channel"):
            ablate = partial(evaluate_ablations, ablations=sets, scope=scope)
            done = operations(partial(ablate, here, self.few.test)) / COUNTED * len(self.dataset.test)
            ablate(there, self.dataset.test[:COUNTED])
            seconds = timed(partial(ablate, there, self.dataset.test))[1]
            yield {**self._row(seconds, done), "note": f"scope={scope}"}

    def passes(self) -> Iterator[dict[str, Any]]:
        """What the ablations' passes would take in other precisions, which they do not use."""
        self._trained()
        here = self._here()
        done = operations(lambda: here(self.few.test.images_NCHW)) / COUNTED * len(self.dataset.test)
        for precision in self._precisions:
            with evaluating(self.model), _in(precision, self.work.device), torch.inference_mode():
                seconds = _median(self._pass)
            yield self._row(seconds, done, precision)
        yield {**self._row(self._channels_first(), done), "note": "channels first"}

    def _channels_first(self) -> float:
        """Seconds of the same passes with maps that are not interleaved, as no pass of the package has them."""
        model: nn.Module = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        batches = [images_NCHW.contiguous() for images_NCHW, _ in evaluation_batches(self.dataset.test)]
        with evaluating(model), torch.inference_mode():
            return _median(lambda: [model(images_NCHW) for images_NCHW in batches])

    def busy_training(self) -> Iterator[dict[str, Any]]:
        options = replace(self.options.trainer, max_epochs=1)
        few = self._some(options.batch_size)
        first, second = (self._new().to(self.work.device) for _ in range(2))
        train(first, few, **asdict(options), seed=0)  # or what happens once would be counted
        yield self._busy(lambda: train(second, few, **asdict(options), seed=0))

    def _some(self, batch: int) -> Dataset:
        """The training images of a few batches."""
        return replace(self.dataset, train=self.dataset.train[: PROFILED * batch])

    def busy_ablations(self) -> Iterator[dict[str, Any]]:
        sets, filters = self._sets, self._filters(self.model)
        yield self._busy(lambda: evaluate_ablations(filters, self.dataset.test, sets))

    def _busy(self, run: Callable[[], object]) -> dict[str, Any]:
        """The share of its seconds in which the device computes, and in which of its operations it does so longest."""
        on_card = self.work.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
        with profile(activities=activities) as profiled:
            _, seconds = timed(run)
        computed = [one for one in profiled.key_averages() if not on_card or _is_kernel(one)]
        spent = {
            one.key: (one.self_device_time_total if on_card else one.self_cpu_time_total) / 1e6 for one in computed
        }
        longest = sorted(spent, key=lambda name: -spent[name])[:5]
        busy = sum(spent.values()) / seconds if on_card else ""
        note = "; ".join(f"{name[:60]} {100 * spent[name] / sum(spent.values()):.0f} %" for name in longest)
        return {"seconds": seconds, "busy": busy, "note": note}

    def _row(self, seconds: float, done: float = 0, precision: str = "float32") -> dict[str, Any]:
        return {
            "precision": precision,
            "seconds": seconds,
            "operations": done or "",
            "per_second": done / seconds if done else "",
        }

    def _new(self) -> nn.Module:
        return build(self.options.model, self.dataset.image_shape, len(self.dataset.classes), self.options.seed)

    def _trained(self) -> None:
        find_or_train(self.model, self.dataset, self.options, self.work.store)

    def _here(self) -> nn.Module:
        """The network on the CPU, where operations are counted."""
        return copy.deepcopy(self.model).cpu().eval()

    def _filters(self, model: nn.Module) -> Filters:
        """Its filters; the network is on the CPU, or on the device."""
        device = next(model.parameters()).device
        return Filters.of(model, self.dataset.train[:1].images_NCHW.to(device))

    def _problem(self) -> tuple[Subject, MuLassoProblem]:
        self._trained()
        subject = Subject.from_options(self.model, self.dataset, self.options)
        return subject, subject.responses(self.work.store)[0]

    @cached_property
    def _sets(self) -> list[np.ndarray]:
        """The relevant filters at five mu, and five controls of each."""
        subject, problem = self._problem()
        each = subject.select_each(problem, self._mu)
        return [filters for one in each for filters in (one.order_K, *one.controls)]

    @property
    def _mu(self) -> tuple[float, ...]:
        return tuple(FIGURE_4) if len(self.work.size.mu) > len(FIGURE_4) else self.work.size.mu

    @property
    def _precisions(self) -> tuple[str, ...]:
        """Those that the device has."""
        others = {"cuda": ("tf32", "bf16"), "cpu": ("bf16",)}
        return ("float32", *others.get(self.work.device.type, ()))

    @property
    def _side(self) -> int:
        return SIDE.get(self.work.device.type, 64)

    def _pass(self) -> None:
        for images_NCHW, _ in evaluation_batches(self.dataset.test):
            self.model(images_NCHW)


def _median(run: Callable[[], object]) -> float:
    """Seconds of a run, the median of some after a first one."""
    run()
    return statistics.median(timed(run)[1] for _ in range(REPEATS))


def _is_kernel(event: Any) -> bool:
    """Whether the profiler saw it on the card itself: operations that start kernels report the same seconds again, and
    so do annotations."""
    on_card: bool = event.device_type.name == "CUDA" and not event.is_user_annotation
    return on_card


@contextmanager
def _in(precision: str, device: torch.device) -> Iterator[None]:
    """Within it, passes are in some precision."""
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    mixed = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    try:
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=precision == "tf32"), mixed:
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
