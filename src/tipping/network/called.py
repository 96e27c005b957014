"""Calls of functions as modules, which hooks can watch and replace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn


class Called(nn.Module):
    """A call of a function of one tensor."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the function and its arguments, of which the tensor is left out: `args` begin after it."""
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, maps: Tensor) -> Any:
        """Return the function's value."""
        return self.function(maps, *self.args, **self.kwargs)


class WrittenOut(nn.Module):
    """An activation that is written out as calls of several functions, such as x * sigmoid(x)."""

    def __init__(self, steps: fx.GraphModule, title: str) -> None:
        super().__init__()
        self.steps, self.title = (steps,), title  # no submodule, which would be watched by itself

    def forward(self, maps: Tensor) -> Any:
        """Return what the functions make of maps."""
        return self.steps[0].forward(maps)  # no call of a module, which torch.fx would look for among the submodules


def call_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    """Return the module of a call, as `Called` takes it; for calls of relu it is an `nn.ReLU`, which others know."""
    if name_of(function) != "relu":
        return Called(function, args, kwargs)
    in_place = bool(args[0] if args else kwargs.get("inplace", False))  # of functional.relu
    return nn.ReLU(in_place or str(getattr(function, "__name__", "")).endswith("_"))


def name_of(function: Any) -> str:
    """Return the name of a function, without what says that the function works in place."""
    return str(getattr(function, "__name__", function)).strip("_")


def title_of(module: nn.Module) -> str:
    """Return the name of a module's class, or of the function that it calls."""
    if isinstance(module, WrittenOut):
        return module.title
    return f"{name_of(module.function)}()" if isinstance(module, Called) else type(module).__name__
