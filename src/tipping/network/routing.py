"""Networks that torch.fx cannot trace, whose calls of activation functions go through modules as the network runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tipping.errors import InputError
from tipping.network.called import Called, call_of, name_of
from tipping.network.hooks import Forward, with_forward
from tipping.network.kinds import ON_THE_WAY, Kind, tried_kind


class _Noted(NamedTuple):
    """A call of a function of one tensor: the function's name, a module that does the same, what the call does to maps,
    and the number of the call that made the maps."""

    name: str
    module: nn.Module
    kind: Kind | None
    before: int | None


def routed(model: nn.Module, image_1CHW: Tensor, whole: Collection[nn.Module]) -> nn.Module:
    """Return a shallow copy of a network whose calls of activation functions are modules; the network itself if there
    are none.

    The calls are known by the order in which an image meets them. A pass that makes other calls ends in an
    `InputError`.

    Args:
        model: the network, in eval mode.
        image_1CHW: the image.
        whole: modules whose inner calls do not count, beside those of torch.
    """
    noting = _Noting(whole)
    with noting:
        model(image_1CHW.clone())
    chosen = noting.chosen()
    functions = {noting.calls[number].name for number in chosen}
    steps = [number for number, call in enumerate(noting.calls) if call.name in functions]
    expected = [noting.calls[number].name for number in steps]
    numbers, names = (
        Counter[str](),
        dict[int, str](),
    )  # of modules, by the place of their calls among those of `expected`
    for place, number in enumerate(steps):
        if number in chosen:
            numbers[expected[place]] += 1
            names[place] = f"{expected[place]}_call{numbers[expected[place]]}"

    def routing(network: nn.Module, forward: Forward, images_NCHW: Tensor) -> Any:
        route = _Routing(whole, functions, {place: network.get_submodule(name) for place, name in names.items()})
        with route:
            given = forward(images_NCHW)
        if route.called != expected:
            raise InputError(
                f"{type(model).__name__} calls other activation functions for some images: give a network that goes "
                "one way for all images, or calls them as modules"
            )
        return given

    copied = with_forward(model, routing)
    for place, name in names.items():
        copied.add_module(name, noting.calls[steps[place]].module)
    return copied if names else model


class _Calls(TorchFunctionMode):
    """A mode that meets the calls of functions of one tensor outside of modules that are taken whole."""

    def __init__(self, whole: Collection[nn.Module]) -> None:
        super().__init__()
        self.whole = {id(module) for module in whole}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        rest = args[1:]
        maps = args[0] if args else named.pop("input", None)
        lone = isinstance(maps, Tensor) and not any(isinstance(leaf, Tensor) for leaf in tree_leaves((rest, named)))
        if not lone or maps.ndim not in (2, 4) or not maps.is_floating_point() or self._within():
            return func(*args, **(kwargs or {}))
        return self.meet(func, maps, rest, named)

    def meet(self, function: Any, maps: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of a function of maps."""
        raise NotImplementedError

    def _within(self) -> bool:
        """Return whether the call is made within a module that is taken whole, by the calls in progress."""
        frame = sys._getframe(2)
        while frame := frame.f_back:  # type: ignore[assignment]
            if frame.f_code is nn.Module._call_impl.__code__:
                module = frame.f_locals["self"]
                of_torch = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
                if of_torch or id(module) in self.whole:
                    return True
        return False


class _Noting(_Calls):
    """A mode that notes the calls, and tries the functions on random maps."""

    def __init__(self, whole: Collection[nn.Module]) -> None:
        super().__init__(whole)
        self.calls: list[_Noted] = []
        self.made: dict[int, tuple[int, Any]] = {}  # by the id of a value: its call, and the value itself

    def meet(self, function: Any, maps: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of a function of maps, and note the call."""
        module = call_of(function, args, kwargs)
        before, kind = self.made.get(id(maps)), tried_kind(module, maps)
        value = function(maps, *args, **kwargs)
        self.made[id(value)] = len(self.calls), value
        self.calls.append(_Noted(name_of(function), module, kind, before and before[0]))
        return value

    def chosen(self) -> set[int]:
        """Return the numbers of the calls of activations, and of those that maps pass on the way to these."""
        numbers = [number for number, call in enumerate(self.calls) if call.kind is Kind.ACTIVATION]
        for number in numbers:
            before = self.calls[number].before
            if before is not None and self.calls[before].kind in ON_THE_WAY:
                numbers.append(before)  # the loop goes on to what comes before
        return set(numbers)


class _Routing(_Calls):
    """A mode that gives some calls to modules.

    Attributes:
        called: the names of the functions that were called, of those that count.
    """

    def __init__(self, whole: Collection[nn.Module], functions: set[str], modules: Mapping[int, nn.Module]) -> None:
        super().__init__(whole)
        self.functions, self.modules = functions, modules
        self.called: list[str] = []

    def meet(self, function: Any, maps: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of a function of maps, by the module of the call if it has one."""
        if name_of(function) not in self.functions:
            return function(maps, *args, **kwargs)
        module = self.modules.get(len(self.called))
        self.called.append(name_of(function))
        if module is None:
            return function(maps, *args, **kwargs)
        if isinstance(module, Called):
            module.function, module.args, module.kwargs = function, args, kwargs
        return module(maps)
