"""Rules by which signals go back from a network's maps to its images, and resampling in strided layers.

The rules replace functions of torch, whether a module or the network itself calls them. No module is changed, so
nothing has to be restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tipping.network import evaluating, keeping_maps
from tipping.visualize.rectifiers import check_called, check_reached, ruled

Sides = int | tuple[int, ...]
Treatment = Callable[[Tensor, Callable[..., Tensor], Sides], Tensor]  # takes maps, an operation and its stride

RULES = ("gradient", "deconvnet", "guided")  # docs/visualize.md says what each means
RESAMPLES = ("nearest", "none")  # in layers with a stride


@contextmanager
def backward_rule(rule: str = "gradient", resample: str = "none", pooling: bool = False) -> Iterator[None]:
    """Send signals back by another rule than the gradient's, for everything that is computed within the block.

    Let f be a rectifier, and let s be the signal that arrives at y = f(x). At x the signal becomes

    - `gradient`: s f'(x);
    - `deconvnet`: max(s, 0) [zeiler2014];
    - `guided`: max(s, 0) f'(x) where x > 0, and 0 elsewhere [springenberg2015].

    Both papers define the rules for ReLU, where f'(x) is 1 for x > 0. The other rectifiers are ReLU6, leaky ReLU,
    PReLU, RReLU, ELU, SELU, CELU, GELU, SiLU, Mish, Hardswish, Softplus, and clamps and hardtanh from 0 on. For x > 0
    they do not fall, so that `guided` sends no negative signal. Sigmoid, tanh and hardsigmoid keep their gradient where
    they are gates, factors of a product with other maps, and the network also has a rectifier; elsewhere they are
    refused, as other activations are.
    Max-pooling sends its signal to the positions of its maxima.

    Where a convolution has a stride, the gradient leaves a grid in the image. With ``resample="nearest"`` the signal is
    first enlarged, by nearest neighbours, to the size of the output at stride 1. It then goes back as if the stride
    were 1 [oramas2019]. This makes signals larger, so compare them within one image only. Weights get no gradient.

    Blocks do not nest: `gradient` within another block keeps the rule of that block. Only `max_pool2d` and
    `avg_pool2d`, without ``return_indices``, count as pooling here.

    Args:
        rule: one of `RULES`.
        resample: one of `RESAMPLES`.
        pooling: whether pooling with a stride is resampled too.

    Raises:
        ValueError: the rule or the resampling is unknown.
        InputError: the rule is not that of the gradient, and activations are called that it does not fit.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    if resample not in RESAMPLES:
        raise ValueError(f"resample must be one of {', '.join(RESAMPLES)}, got {resample!r}")
    replacements: dict[Any, Callable[..., Tensor]] = {}
    called: set[str] = set()  # names of activations
    if rule != "gradient":
        replacements |= ruled(rule, called)
    if resample == "nearest":
        replacements |= _convolutions(_resampled) | (_pools(_resampled) if pooling else {})
    with Replacing(replacements):
        yield
    check_called(rule, called)


def check_rules(model: nn.Module, image_1CHW: Tensor, rules: Sequence[str]) -> None:
    """Check that rules fit the activations that an image passes.

    Raises:
        InputError: one does not.
    """
    for rule in rules:
        with torch.inference_mode(False), evaluating(model), keeping_maps(), torch.enable_grad(), backward_rule(rule):
            logits_NC = model(image_1CHW.detach().clone().requires_grad_().clone())  # which the network may overwrite
            if rule != "gradient":
                check_reached(rule, logits_NC)


def has_stride(model: nn.Module, image_1CHW: Tensor, pooling: bool = False) -> bool:
    """Return whether an image passes a layer with a stride over 1.

    Args:
        model: the network.
        image_1CHW: the image.
        pooling: whether pooling is looked at in place of convolutions.
    """
    strides: list[Sides] = []

    def note(maps: Tensor, operation: Callable[..., Tensor], stride: Sides) -> Tensor:
        strides.append(stride)
        return operation(maps, stride=stride)

    with evaluating(model), torch.no_grad(), Replacing(_pools(note) if pooling else _convolutions(note)):
        model(image_1CHW.clone())
    return any(_largest(stride) > 1 for stride in strides)


class Replacing(TorchFunctionMode):
    """A block in which other functions are called in place of some of torch's."""

    def __init__(self, replacements: dict[Any, Callable[..., Tensor]]) -> None:
        super().__init__()
        self._replacements = replacements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._replacements.get(func, func)(*args, **(kwargs or {}))


class _Resampled(torch.autograd.Function):
    """The operation `coarse`, whose signal goes back through `fine`, the same operation with stride 1."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, coarse: Callable[[Tensor], Tensor], fine: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.fine = fine
        ctx.save_for_backward(maps)
        return coarse(maps)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        maps = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            wide = ctx.fine(maps)
        signal = functional.interpolate(signal, wide.shape[2:], mode="nearest-exact")
        return torch.autograd.grad(wide, maps, signal)[0], None, None


def _resampled(maps: Tensor, operation: Callable[..., Tensor], stride: Sides) -> Tensor:
    if _largest(stride) == 1:
        return operation(maps, stride=1)
    result: Tensor = _Resampled.apply(maps, partial(operation, stride=stride), partial(operation, stride=1))  # type: ignore[no-untyped-call]
    return result


def _largest(stride: Sides) -> int:
    return stride if isinstance(stride, int) else max(stride)


# ---- functions of torch, with torch's names of the arguments


def _convolutions(treat: Treatment) -> dict[Any, Callable[..., Tensor]]:
    return {functional.conv2d: partial(_conv2d, treat)}


def _pools(treat: Treatment) -> dict[Any, Callable[..., Tensor]]:
    pools = (functional.max_pool2d, torch.max_pool2d, functional.avg_pool2d)
    return {pool: partial(_pool2d, treat, pool) for pool in pools}


def _conv2d(
    treat: Treatment,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sides = 1,
    *rest: Any,
    **named: Any,
) -> Tensor:
    return treat(input, lambda maps, stride: functional.conv2d(maps, weight, bias, stride, *rest, **named), stride)


def _pool2d(
    treat: Treatment,
    pool: Callable[..., Tensor],
    input: Tensor,
    kernel_size: Sides,
    stride: Sides | None = None,
    *rest: Any,
    **named: Any,
) -> Tensor:
    return treat(input, lambda maps, stride: pool(maps, kernel_size, stride, *rest, **named), stride or kernel_size)


def grid_energy(images_NCHW: Tensor, stride: int) -> Tensor:
    """Compute the share of each image's spectral energy at the frequencies of a grid: (N,), in [0, 1].

    This is Σ |F(u, v)|² over the multiples u of H/stride and v of W/stride, divided by Σ |F|² over all frequencies,
    both without (0, 0). F is the Fourier transform of each channel; H and W are the sides, cut to multiples of the
    stride. The share of a constant image is 0.

    Args:
        images_NCHW: the images.
        stride: the stride of the grid.

    Raises:
        ValueError: the stride is below 2, or not below the sides of the images.
    """
    height, width = images_NCHW.shape[2:]
    if not 2 <= stride < min(height, width):
        raise ValueError(f"stride must be from 2 to below the sides of the images, {height}x{width}, got {stride}")
    rows, columns = height // stride, width // stride
    power_NHW = torch.fft.fft2(images_NCHW[..., : rows * stride, : columns * stride].double()).abs().square().sum(1)
    power_NHW[:, 0, 0] = 0
    total_N = power_NHW.sum((1, 2))
    return torch.where(total_N > 0, power_NHW[:, ::rows, ::columns].sum((1, 2)) / total_N, 0)
