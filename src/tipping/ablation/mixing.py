"""Convolutions and dense layers that take some input channels, and give some of their output channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tipping.ablation.channels import Channels, largest, pick
from tipping.ablation.operations import NORMS, Operation, Step, plain
from tipping.network import Graph

if TYPE_CHECKING:
    from tipping.ablation.narrowing import Maker, State
    from tipping.ablation.plan import Plan

ADDING = 64  # multiply-accumulates of an output value that take as long as to read, add and check a difference
SWAMPED = 16  # a difference has lost too many digits where what is subtracted exceeds this many times its result
Layer = nn.Conv2d | nn.Linear
Weights = tuple[Tensor, Tensor | None]


class Mixing(Operation):
    """A convolution or dense layer, and the normalisation by fixed statistics after it, if there is one.

    Attributes:
        given: the operation whose value the layer takes.
        weights: the weights that give what the normalisation makes of the output.
    """

    mixes = True
    fresh = True

    def __init__(self, graph: Graph, node: fx.Node, norm: fx.Node | None = None) -> None:
        super().__init__(graph, norm or node, (node.all_input_nodes[0],))
        self.layer, self.given = node, node.all_input_nodes[0]
        module = graph.modules[node]
        assert isinstance(module, Layer)
        self.convolution, self.norm = module, graph.modules[norm] if norm else None
        self.groups = getattr(module, "groups", 1)
        self.weights = self._normalised(module.weight, module.bias)

    @staticmethod
    def fits(graph: Graph, node: fx.Node) -> bool:
        """Return whether an operation is a layer that can be narrowed.

        Convolutions with unequal strides, or dilated ones of side 1, are not: some builds of torch compute them wrongly
        for few channels on a CPU.
        """
        module = graph.modules.get(node)
        if not isinstance(module, Layer) or not plain(module) or len(node.all_input_nodes) != 1 or node.kwargs:
            return False
        given = node.all_input_nodes[0]
        if node.args != (given,) or given not in graph.maps or given in graph.fixed or node not in graph.maps:
            return False
        if isinstance(module, nn.Linear):
            return type(module).forward is nn.Linear.forward and graph.values[given].ndim == 2
        as_written = type(module).forward is nn.Conv2d.forward and type(module)._conv_forward is nn.Conv2d._conv_forward
        uneven = len(set(module.stride)) > 1 or (max(module.dilation) > 1 and 1 in module.kernel_size)
        return as_written and not uneven and graph.values[given].ndim == 4

    @staticmethod
    def norm_after(graph: Graph, node: fx.Node) -> fx.Node | None:
        """Return the operation that normalises a layer's output by fixed statistics, if nothing else takes that."""
        if len(node.users) != 1:
            return None
        (user,) = node.users
        module = graph.modules.get(user)
        fits = (
            type(module) in NORMS and module is not None and plain(module) and user.args == (node,) and not user.kwargs
        )
        return user if fits and module.running_mean is not None else None  # type: ignore[union-attr]

    def _normalised(self, weight: Tensor, bias: Tensor | None) -> Weights:
        """Return the weights that give what the normalisation makes of the output."""
        norm = self.norm
        if norm is None:
            return weight.detach(), None if bias is None else bias.detach()
        assert isinstance(norm, NORMS)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
        shift = shift * scale if norm.bias is None else shift * scale + norm.bias.double()
        scaled = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
        return scaled.to(weight.dtype).detach(), shift.to(weight.dtype).detach()

    def under(self, plan: Plan) -> Weights:
        """Return the layer's weights under an ablation."""
        weight, bias = self.weights
        if self.layer in plan.ablation.reweighted:
            _, weights = plan.ablation.reweighted[self.layer]
            return self._normalised(weights["weight"], weights.get("bias"))
        if self.node in plan.filled:
            bias = weight.new_zeros(self.width) if bias is None else bias
            for gone_C, value_C in plan.ablation.replaced[plan.filled[self.node]]:
                weight = weight.masked_fill(gone_C.view(-1, *[1] * (weight.ndim - 1)), 0)
                bias = torch.where(gone_C, value_C, bias)
        return weight, bias

    def after(self, plan: Plan) -> Channels:
        """Return the channels of the output: intact where all input of their group is, constant where that is."""
        gone, intact = (mask.reshape(self.groups, -1).all(1) for mask in plan.known(self.given))
        each = self.width // self.groups
        return Channels(gone.repeat(each), intact.repeat(each))

    def needs(self, computed: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Return the input channels of all groups with computed channels."""
        groups = computed.reshape(self.groups, -1).any(1)
        channels = plan.known(self.given)
        others = self.layer in plan.ablation.reweighted or self.node in plan.filled  # other weights
        if self.groups == 1 and not others and channels.intact.any():
            fewer = int((~channels.gone).sum()) - int((~channels.intact).sum())
            if fewer * self.weights[0][0, 0].numel() > ADDING:
                plan.by_change.add(self.node)
                plan.reads |= {self.given, self.node}
        return [groups.repeat(plan.operations[self.given].width // self.groups)]

    def make(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that computes some output channels."""
        if self.groups > 1:
            return self._grouped(maker, wanted)
        if self.node in maker.plan.by_change:
            return self._by_change(maker, wanted)
        narrow = self._narrow(maker, wanted)
        return narrow()

    def _narrow(self, maker: Maker, wanted: np.ndarray) -> Callable[[], Step]:
        """Return what makes the step that computes the output from the input channels that are not constant."""
        channels, gets, order = maker.plan.known(self.given), [], []
        for mask in (channels.changed, channels.intact & ~channels.gone):
            if mask.any():
                order.append(mask.nonzero()[0])
                gets.append(maker.take(self.given, order[-1]).get)

        def made() -> Step:
            columns = np.concatenate(order)
            weight, bias = self._part(maker, wanted, columns)
            shift = self._shift(maker, wanted, channels.gone) if channels.gone.any() else None
            if shift is not None:
                level = shift.reshape(*shift.shape[:2], -1)[0, :, 0]
                if bool((shift == level.view(1, -1, *[1] * (shift.ndim - 2))).all()):  # all over the map: a bias
                    bias, shift = level if bias is None else bias + level, None

            def step(state: State) -> Tensor:
                parts = [get(state) for get in gets]
                result = self._mix(parts[0] if len(parts) == 1 else torch.cat(parts, 1), weight, bias)
                return result if shift is None else result.add_(shift)

            return step

        return made

    def _by_change(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that adds to the intact output what differs in the input."""
        channels, plan = maker.plan.known(self.given), maker.plan
        gone, changed = channels.gone.nonzero()[0], channels.changed.nonzero()[0]
        constant = pick(plan.value(self.given)[:1], maker.index(gone)) if len(gone) else None
        weight, _ = self._part(maker, wanted, np.concatenate([gone, changed]))
        intact_gone, intact_changed = (maker.intact(self.given, some).get for some in (gone, changed))
        new = maker.take(self.given, changed).get if len(changed) else None
        output, narrow = maker.intact(self.node, wanted).get, self._narrow(maker, wanted)

        def step(state: State) -> Tensor:
            parts = [] if constant is None else [constant - intact_gone(state)]
            if new is not None:
                parts.append(new(state) - intact_changed(state))
            change = self._mix(parts[0] if len(parts) == 1 else torch.cat(parts, 1), weight, None)
            result = change + output(state)
            largest_NC = largest(result)
            lost_N = ~((largest(change) <= SWAMPED * largest_NC) & largest_NC.isfinite()).all(1)
            if bool(lost_N.any()):  # images where the sum has lost digits
                result[lost_N] = narrow()(state)[lost_N]
            return result

        return step

    def _grouped(self, maker: Maker, wanted: np.ndarray) -> Step:
        """Return the step that computes the output of whole groups."""
        each, each_in = self.width // self.groups, maker.plan.operations[self.given].width // self.groups
        groups = np.unique(wanted // each)
        rows = (groups[:, None] * each + np.arange(each)).ravel()
        columns = (groups[:, None] * each_in + np.arange(each_in)).ravel()
        get = maker.take(self.given, columns).get
        weight, bias = self.under(maker.plan)
        if len(rows) < self.width:
            index = maker.index(rows)
            weight, bias = weight[index], None if bias is None else bias[index]
        weight = maker.laid_out(weight)
        chosen = maker.index(np.searchsorted(rows, wanted)) if len(wanted) < len(rows) else None

        def step(state: State) -> Tensor:
            result = self._mix(get(state), weight, bias, len(groups))
            return result if chosen is None else pick(result, chosen)

        return step

    def _part(self, maker: Maker, wanted: np.ndarray, columns: np.ndarray) -> Weights:
        """Return the weights from some input channels to some output channels."""
        weight, bias = self.under(maker.plan)
        if len(wanted) < self.width:
            index = maker.index(wanted)
            weight, bias = weight[index], None if bias is None else bias[index]
        if not np.array_equal(columns, np.arange(weight.shape[1])):
            weight = weight.index_select(1, maker.index(columns))
        return maker.laid_out(weight), bias

    def _shift(self, maker: Maker, wanted: np.ndarray, gone: np.ndarray) -> Tensor | None:
        """Return what the constant input channels add to the output; None where they add nothing."""
        constant = pick(maker.plan.value(self.given)[:1], maker.index(gone.nonzero()[0]))
        if not bool(constant.any()):
            return None
        weight, _ = self._part(maker, wanted, gone.nonzero()[0])
        return self._mix(constant, weight, None)

    def _mix(self, maps: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
        """Return the output of the layer under other weights."""
        layer = self.convolution
        if isinstance(layer, nn.Linear):
            return functional.linear(maps, weight, bias)
        padding: Any = layer.padding
        if layer.padding_mode != "zeros":
            maps = functional.pad(maps, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
            padding = 0
        return functional.conv2d(maps, weight, bias, layer.stride, padding, layer.dilation, groups)
