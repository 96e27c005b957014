"""Activation functions under the backward rules: those with a rule, gates, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tipping.errors import InputError

RECTIFIERS = (  # for x > 0 they rise, for x < 0 they are 0 or small
    *(functional.relu, torch.relu, Tensor.relu, functional.relu_, Tensor.relu_, functional.relu6),
    *(functional.leaky_relu, functional.leaky_relu_, functional.prelu, torch.prelu, Tensor.prelu),
    *(functional.rrelu, torch.rrelu, functional.rrelu_, functional.elu, functional.elu_, functional.selu, torch.selu),
    *(functional.selu_, functional.celu, torch.celu, functional.celu_, functional.gelu, functional.silu),
    *(functional.mish, functional.hardswish, functional.softplus),
)
SATURATING = (  # gates
    *(torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, functional.sigmoid, functional.hardsigmoid),
    *(torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, functional.tanh),
)
CLAMPS = (
    *(torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clip, torch.clip_, Tensor.clip, Tensor.clip_),
    *(torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_),
)
HARDTANHS = (functional.hardtanh, functional.hardtanh_)
REFUSED = (
    *(functional.threshold, torch.threshold, functional.logsigmoid, functional.glu),
    *(functional.hardshrink, torch.hardshrink, Tensor.hardshrink, functional.softshrink, functional.tanhshrink),
    functional.softsign,
)
UNRULED = {  # nodes of graphs of activations that no rule has reached
    f"{name}Backward0"
    for name in (
        *("Relu", "Hardtanh", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Elu", "Celu", "Gelu", "Silu", "Mish"),
        *("Hardswish", "Softplus", "Threshold", "LogSigmoid", "Glu", "Hardshrink", "Softshrink"),
    )
}
BENDING = ("Sigmoid", "Tanh", "Hardsigmoid", "Erf", "_Rectified")  # nodes of graphs, without the end of their names
SCALING = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Clone")
GATES = ("Sigmoid", "Tanh", "Hardsigmoid")  # as nodes of graphs, where they end in a product
SHAPING = (
    *("View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Expand", "Permute", "Transpose", "TBackward"),
    *("Slice", "Select", "Split", "Unbind", "Unsafe", "Repeat", "Upsample"),
)


def ruled(rule: str, called: set[str]) -> dict[Any, Callable[..., Tensor]]:
    """Return what is called in place of each activation function under a rule other than `gradient`.

    Args:
        rule: `deconvnet` or `guided`.
        called: gets the names of the functions called: `rectifier` for any of them with a rule.
    """
    rectified = partial(_rectified, rule, called)
    return {
        **{function: partial(rectified, function) for function in RECTIFIERS},
        **{function: partial(_clamped, rectified, function) for function in CLAMPS},
        **{function: partial(_hardtanh, rule, rectified, function) for function in HARDTANHS},
        **{function: partial(_noted, called, function) for function in SATURATING},
        **{function: partial(_refused, rule, function) for function in REFUSED},
    }


def check_called(rule: str, called: set[str]) -> None:
    """Check the names that `ruled` has noted.

    Raises:
        InputError: gates were called, and no rectifier.
    """
    if called and "rectifier" not in called:
        raise _misfit(rule, ", ".join(sorted(called)))


def check_reached(rule: str, result: Tensor) -> None:
    """Check that a rule other than `gradient` has reached every activation on the way to a result.

    Raises:
        InputError: an activation would send back its plain gradient: it is compiled, has a backward pass of its own, or
            is written out as a product of its input with a gate, such as x · sigmoid(x); or a saturating function is no
            gate, since it goes elsewhere than into a product with other maps.
    """
    nodes, takers = list(_nodes(result)), dict[Any, list[Any]]()  # those that take each node
    for node in nodes:
        for before, _ in node.next_functions:
            takers.setdefault(before, []).append(node)
    for node in nodes:
        name = node.name()
        if name.startswith(GATES) and not _multiplies(node, takers):
            raise _misfit(rule, f"{_plain(name)} elsewhere than as a gate")
        if name in UNRULED or name.startswith("torch::jit"):
            raise _misfit(rule, f"{_plain(name)} in TorchScript or as an operation of its own")
        if isinstance(node, torch.autograd.function.BackwardCFunction) and not _is_ours(node):
            raise _misfit(rule, f"{type(node).__name__.removesuffix('Backward')}, whose backward pass is its own")
        if name.startswith("MulBackward") and _gates_itself(node):
            raise _misfit(rule, "an activation written out as its input times a gate")


def _misfit(rule: str, names: str) -> InputError:
    return InputError(f"rule {rule} is defined for rectifiers, and the network calls {names}: take the rule gradient")


def _rectified(
    rule: str, called: set[str], function: Callable[..., Tensor], input: Tensor, *rest: Any, **named: Any
) -> Tensor:
    called.add("rectifier")
    if not (torch.is_grad_enabled() and input.requires_grad):
        return function(input, *rest, **named)
    result: Tensor = _Rectified.apply(input, rule, lambda maps: function(maps, *rest, **named))  # type: ignore[no-untyped-call]
    return result


def _clamped(
    rectified: Callable[..., Tensor], function: Callable[..., Tensor], input: Tensor, *rest: Any, **named: Any
) -> Tensor:
    low = rest[0] if rest else named.get("min")
    from_zero = isinstance(low, int | float) and low == 0
    return rectified(function, input, *rest, **named) if from_zero else function(input, *rest, **named)


def _hardtanh(
    rule: str,
    rectified: Callable[..., Tensor],
    function: Callable[..., Tensor],
    input: Tensor,
    min_val: float = -1.0,
    *rest: Any,
    **named: Any,
) -> Tensor:
    if min_val != 0:
        raise _misfit(rule, f"hardtanh from {min_val:g}")
    return rectified(function, input, min_val, *rest, **named)


def _noted(called: set[str], function: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
    called.add(function.__name__)
    return function(*args, **named)


def _refused(rule: str, function: Callable[..., Tensor], *_: Any, **__: Any) -> Tensor:
    raise _misfit(rule, function.__name__.strip("_"))


class _Rectified(torch.autograd.Function):
    """A rectifier with the signal of a rule in place of its gradient."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, rule: str, function: Callable[[Tensor], Tensor]) -> Tensor:
        if rule == "guided":
            ctx.save_for_backward(_slope(function, maps) * (maps > 0))
        after = function(maps)
        if after is maps:  # the function works in place
            ctx.mark_dirty(maps)
        return after

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        positive = signal.clamp(min=0)
        return (positive * ctx.saved_tensors[0] if ctx.saved_tensors else positive), None, None


def _slope(function: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Return the derivative of a function that acts on each value alone."""
    with torch.enable_grad():
        leaf = maps.detach().requires_grad_()
        after = function(leaf.clone())  # a copy, since the function may work in place
    return torch.autograd.grad(after, leaf, torch.ones_like(after))[0]


# ---- graphs of autograd


def _nodes(result: Tensor) -> Iterator[Any]:
    """Yield the nodes of the graph of a tensor."""
    waiting, seen = [result.grad_fn], {result.grad_fn}
    while waiting:
        node = waiting.pop()
        if node is not None:
            yield node
            before = {other for other, _ in node.next_functions} - seen
            waiting += before
            seen |= before


def _plain(name: str) -> str:
    """Return the name of a function from that of its node."""
    return "a function" if "::" in name else name.removesuffix("Backward0").lower()


def _is_ours(node: Any) -> bool:
    return type(node)._forward_cls.__module__.startswith(__package__)


def _gates_itself(node: Any) -> bool:
    """Return whether a product's two factors are functions of one tensor, value by value, and one of them is bent."""
    chains = [_chain(*factor) for factor in node.next_functions if factor[0] is not None]
    if len(chains) != 2:
        return False
    shared = set(chains[0]) & set(chains[1])
    bent = [one for chain in chains for one, _ in chain if one.name().startswith(BENDING)]
    return bool(shared) and bool(bent)


def _multiplies(node: Any, takers: dict[Any, list[Any]]) -> bool:
    """Return whether all that takes a node, value by value, ends as a factor of a product, or as the result itself."""
    return all(
        _is_product(one) or (one.name().startswith((*BENDING, *SCALING, *SHAPING)) and _multiplies(one, takers))
        for one in takers.get(node, [])
    )


def _is_product(node: Any) -> bool:
    factors = [before for before, _ in node.next_functions if before is not None]
    return node.name().startswith(("Mul", "Div")) and len(factors) == 2


def _chain(node: Any, output: int) -> list[tuple[Any, int]]:
    """Return an output of a node, and those before it as long as each node works on one tensor, value by value."""
    chain = [(node, output)]
    while node.name().startswith((*BENDING, *SCALING)):
        before = [other for other in node.next_functions if other[0] is not None]
        if len(before) != 1:
            break
        node = before[0][0]
        chain.append(before[0])
    return chain
