"""The effect of kinds of modules on channels; networks in eval mode; hooks on the maps of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

MIXING = (nn.Conv2d, nn.Linear)
PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid),
    *(nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
NORMALISING = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
Hook = Callable[[nn.Module, object, Tensor], Tensor | None]  # may replace the maps


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the network in eval mode within the context, and switch TF32 and autocast off; restore all afterwards."""
    training = [module for module in model.modules() if module.training]
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        for module in training:
            module.training = True


@contextmanager
def hooked(model: nn.Module, hooks: Sequence[tuple[str, str, Hook]]) -> Iterator[None]:
    """Attach hooks to the maps of layers within the context, and remove them afterwards.

    A hook acts on the first call of its submodule after each call of its layer, since other layers may share that
    submodule.

    Args:
        hooks: for each hook, the name of the layer, the name of the submodule whose output is watched or replaced, and
            the hook.
    """
    handles: list[RemovableHandle] = []
    try:
        for layer, name, hook in hooks:
            source, site = model.get_submodule(layer), model.get_submodule(name)
            if site is not source:
                forget, note, hook = _after_layer(hook)
                handles.append(model.register_forward_pre_hook(forget))  # a pass that failed may have left a note
                handles.append(source.register_forward_hook(note))
            handles.append(site.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _after_layer(hook: Hook) -> tuple[Callable[[nn.Module, object], None], Hook, Hook]:
    """Return three hooks: the first, before the network runs, forgets; the second notes that the layer ran; the third,
    at the activation, acts only after that note."""
    ran = False

    def forget(_: nn.Module, __: object) -> None:
        nonlocal ran
        ran = False

    def note(_: nn.Module, __: object, ___: Tensor) -> None:
        nonlocal ran
        ran = True

    def act(module: nn.Module, inputs: object, maps: Tensor) -> Tensor | None:
        nonlocal ran
        ran, due = False, ran
        return hook(module, inputs, maps) if due else None

    return forget, note, act
