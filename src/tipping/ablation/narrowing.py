"""Run a graph without some of its filters, so that ablated filters are not computed at all.

An ablated filter's map is the same for every image, and so is what operations make of it that treat each map by itself.
The next convolution or dense layer is linear: constant input channels add a constant to its output. What the ablation
does not reach is taken from the intact network, and only the rest is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from tipping.ablation.channels import pick, put
from tipping.ablation.operations import Step
from tipping.ablation.plan import Plan
from tipping.network import same


class State:
    """The values of some images under an ablation, as far as they are held.

    Attributes:
        images_NCHW: the images.
        values: the channels of each value that have been computed.
        intact: the values of the intact network.
    """

    def __init__(self, images_NCHW: Tensor, intact: Mapping[fx.Node, Any] | None = None) -> None:
        self.images_NCHW, self.count = images_NCHW, len(images_NCHW)
        self.values: dict[fx.Node, Any] = {}
        self.intact = self.values if intact is None else intact


class Taken(NamedTuple):
    """A step that gives channels of a value, and whether what it gives may be overwritten."""

    get: Step
    fresh: bool


class Maker:
    """What makes the steps of a plan.

    Attributes:
        owned: whether the value of an operation is a tensor that nothing else holds.
        uses: the operations whose values the last step takes.
    """

    def __init__(self, plan: Plan, kept: frozenset[fx.Node] = frozenset()) -> None:
        """Take a plan, and the operations whose values are not to be overwritten."""
        self.plan, self.owned, self.uses = plan, dict[fx.Node, bool](), set[fx.Node]()
        self._kept = kept
        self._device = next(value.device for value in plan.graph.values.values() if isinstance(value, Tensor))
        self._last = self._device.type == "cpu"

    def step(self, node: fx.Node) -> Step:
        """Return the step that computes the channels of an operation's value that the plan wants."""
        operation = self.plan.operations[node]
        self.owned[node], self.uses = operation.fresh, set()
        return operation.make(self, self.plan.computed[node])

    def take(self, node: fx.Node, wanted: np.ndarray) -> Taken:
        """Return the step that gives some channels of a value."""
        plan = self.plan
        if node not in plan.channels:
            return self.intact(node, wanted)
        computed, channels = plan.computed[node], plan.channels[node]
        if np.array_equal(wanted, computed):
            self.uses.add(node)
            fresh = self.owned.get(node, False) and plan.users[node] == 1 and node not in self._kept
            return Taken(lambda state: state.values[node], fresh)
        if channels.intact[wanted].all():
            return self.intact(node, wanted)
        if channels.changed[wanted].all():
            self.uses.add(node)
            chosen = self.index(np.searchsorted(computed, wanted))
            return Taken(lambda state: pick(state.values[node], chosen), True)
        return self._gathered(node, wanted)

    def _gathered(self, node: fx.Node, wanted: np.ndarray) -> Taken:
        """Return the step that gathers computed, intact and constant channels."""
        channels, example = self.plan.channels[node], self.plan.graph.values[node]
        gone = channels.gone[wanted]
        masks = (channels.changed[wanted], channels.intact[wanted] & ~gone)
        parts = [(self.index(mask.nonzero()[0]), self.take(node, wanted[mask]).get) for mask in masks if mask.any()]
        places, constant = self.index(gone.nonzero()[0]), None
        if gone.any():
            constant = self.laid_out(pick(self.plan.value(node)[:1], self.index(wanted[gone])))
        zero = constant is not None and not bool(constant.any())

        def get(state: State) -> Tensor:
            maps = self._empty(example, state.count, len(wanted))
            if zero:
                maps.zero_()
            elif constant is not None:
                put(maps, places, self.laid_out(constant.expand(state.count, *constant.shape[1:])))
            for inner, part in parts:
                put(maps, inner, part(state))
            return maps

        return Taken(get, True)

    def _empty(self, example: Tensor, count: int, width: int) -> Tensor:
        """Return maps that are to be filled, of the sides and type of an example."""
        shape = (count, width, *example.shape[2:])
        order = torch.channels_last if self._last and len(shape) == 4 else torch.contiguous_format
        return torch.empty(shape, dtype=example.dtype, device=example.device, memory_format=order)

    def intact(self, node: fx.Node, wanted: np.ndarray) -> Taken:
        """Return the step that gives some channels of an intact value."""
        if len(wanted) == self.plan.operations[node].width and np.array_equal(wanted, np.arange(len(wanted))):
            return Taken(lambda state: state.intact[node], False)
        chosen = self.index(wanted)
        return Taken(lambda state: pick(state.intact[node], chosen), True)

    def whole(self, node: fx.Node, copies: bool) -> Step:
        """Return the step that gives a value as the network itself has it.

        Args:
            copies: whether the value may be overwritten by the operation that takes it.
        """
        get, fresh = self.take(node, np.arange(self.plan.operations[node].width))

        def plainly(state: State) -> Any:
            value = get(state)
            value = value.contiguous() if node in self.plan.graph.maps else value
            return tree_map_only(Tensor, torch.clone, value) if copies and not fresh else value

        return plainly

    def arguments(self, node: fx.Node, gets: Mapping[fx.Node, Step]) -> Callable[[State], tuple[Any, Any]]:
        """Return the function that gives the arguments of an operation, given the steps that give its inputs."""

        def given(state: State) -> tuple[Any, Any]:
            values = {one: get(state) for one, get in gets.items()}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            return args, kwargs

        return given

    def laid_out(self, maps: Tensor) -> Tensor:
        """Return maps or weights in the order in memory in which convolutions are fast."""
        return maps.contiguous(memory_format=torch.channels_last) if self._last and maps.ndim == 4 else maps

    def index(self, chosen: np.ndarray) -> Tensor:
        """Return positions as a tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(chosen)).to(self._device)


class Pass:
    """The part of a graph that has to run under an ablation.

    Attributes:
        reads: the operations whose intact values it takes.
    """

    def __init__(self, plan: Plan) -> None:
        maker, self._plan, self._steps = Maker(plan), plan, list[tuple[fx.Node, Step]]()
        last: dict[fx.Node, int] = {}  # the last step that takes each value
        for node in plan.channels:
            if len(plan.computed.get(node, ())):
                self._steps.append((node, maker.step(node)))
                last |= dict.fromkeys(maker.uses, len(self._steps) - 1)
        output = plan.graph.output
        self._logits = maker.take(output, np.arange(plan.operations[output].width)).get
        self.reads = frozenset(plan.reads)
        self._done: list[list[fx.Node]] = [[] for _ in self._steps]
        for node, position in last.items():
            if node is not output:
                self._done[position].append(node)

    def logits(self, images_NCHW: Tensor, intact: Mapping[fx.Node, Any]) -> Tensor:
        """Return the logits (N, C) of some images, given what is read of their intact values."""
        state = State(images_NCHW, intact)
        for (node, step), done in zip(self._steps, self._done, strict=True):
            state.values[node] = step(state)
            for one in done:
                del state.values[one]
        return self._logits(state)

    def first_wrong(self, pair_2CHW: Tensor) -> fx.Node | None:
        """Return the first operation that gives other maps for the graph's images than within the masked network."""
        state = State(pair_2CHW, self._plan.graph.values)
        for node, step in self._steps:
            state.values[node] = value = step(state)
            if node in self._plan.graph.maps and node not in self._plan.filled:
                chosen = torch.from_numpy(self._plan.computed[node]).to(pair_2CHW.device)
                if not same(value, self._plan.value(node).index_select(1, chosen)):
                    return node
        return None


class Schedule:
    """The order in which the intact network is computed as far as several ablations read it, each after the other.

    Attributes:
        rows: the ablations' numbers, in the order in which they are to run.
    """

    def __init__(self, whole: Plan, reads: Sequence[frozenset[fx.Node]]) -> None:
        """Take the plan of the intact network, and the operations whose intact values each ablation reads."""
        kept = frozenset().union(*reads)
        maker, steps = Maker(whole, kept), dict[fx.Node, tuple[Step, set[fx.Node]]]()
        for node in whole.channels:
            if len(whole.computed.get(node, ())):
                steps[node] = maker.step(node), maker.uses
        needed = set(kept)
        for node in reversed(steps):
            if node in needed:
                needed |= steps[node][1]
        self.steps = [(node, *steps[node]) for node in steps if node in needed]
        place = {node: position for position, (node, _, _) in enumerate(self.steps)}
        ends = [max((place[node] for node in nodes), default=-1) for nodes in reads]
        self.rows = sorted(range(len(reads)), key=ends.__getitem__)
        self.ends = {row: ends[row] + 1 for row in self.rows}
        self.last_read = {node: row for row in self.rows for node in reads[row]}  # the last row in order wins
        self.users = Counter(one for _, _, uses in self.steps for one in uses)


class Prefix:
    """The intact values of some images, computed as far as they are needed, and held as long."""

    def __init__(self, schedule: Schedule, images_NCHW: Tensor) -> None:
        self._schedule, self._state, self._position = schedule, State(images_NCHW), 0
        self._users, self._read = schedule.users.copy(), set[int]()

    def logits(self, row: int, narrow: Pass) -> Tensor:
        """Return the logits (N, C) under an ablation; the ablations have to come in the order of the schedule."""
        values, schedule = self._state.values, self._schedule
        while self._position < schedule.ends[row]:
            node, step, uses = schedule.steps[self._position]
            values[node] = step(self._state)
            self._position += 1
            for one in uses:
                self._users[one] -= 1
                self._drop(one)
        result = narrow.logits(self._state.images_NCHW, values)
        self._read.add(row)
        for node in [node for node in values if schedule.last_read.get(node) == row]:
            self._drop(node)
        return result

    def _drop(self, node: fx.Node) -> None:
        """Drop a value that nothing takes any more."""
        last = self._schedule.last_read.get(node)
        if not self._users[node] and (last is None or last in self._read):
            del self._state.values[node]
