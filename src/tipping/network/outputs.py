"""The logits among what a network gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from tipping.errors import InputError
from tipping.network.hooks import evaluating, with_forward


def logits_of(given: Any) -> Any:
    """Return the logits among what a network gives: the tensor itself, the entry or attribute `logits`, or the first of
    several, as of networks with auxiliary heads. What has none of these is returned as it is."""
    if isinstance(given, Tensor | fx.Proxy):  # a proxy has every attribute
        return given
    if isinstance(given, Mapping):
        return given.get("logits", given)
    if hasattr(given, "logits"):
        return given.logits
    return given[0] if isinstance(given, tuple | list) and given else given


def in_words(given: Any) -> str:
    """Return what a network gives, for a message: the shape and type of a tensor, or the class of something else."""
    if isinstance(given, Tensor):
        return f"{tuple(given.shape)} of {given.dtype}"
    if isinstance(given, Mapping):
        return f"a {type(given).__name__} of {', '.join(map(str, given)) or 'nothing'}"
    return f"a {type(given).__name__}"


def require_logits(given: Any, images: int, name: str) -> Tensor:
    """Return the logits (N, C) among what a network gives.

    Args:
        given: what it gives.
        images: the number N of images.
        name: the network's class, and when it gives them, for a message.

    Raises:
        InputError: there are no logits (N, C).
    """
    logits = logits_of(given)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != images:
        raise InputError(
            f"{name} gives {in_words(given)} without logits (N, C): give them alone, first, or as `logits`, or train "
            "it elsewhere and give model.checkpoint"
        )
    return logits


def giving_logits(model: nn.Module, image_1CHW: Tensor) -> nn.Module:
    """Return a network that gives logits alone: the network itself where it does so already, or else a shallow copy."""
    with evaluating(model), torch.no_grad():
        given = model(image_1CHW.clone())
    if isinstance(given, Tensor) or isinstance(model, torch.jit.ScriptModule) or logits_of(given) is given:
        return model
    return with_forward(model, lambda _, forward, images_NCHW: logits_of(forward(images_NCHW)))
