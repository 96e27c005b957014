"""Which layers of a network have filters, and where they are measured and ablated: found by watching an image pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor, nn

from tipping.errors import InputError
from tipping.network.called import title_of
from tipping.network.kinds import MIXING, Kind
from tipping.network.watching import ModuleCall, Operation, Watched, reached, watch

NAMED = 20  # layers that a message names
TAKES = {  # what operations of torch are called
    **{"add": "an addition", "sub": "a subtraction", "mul": "a product", "div": "a division"},
    **{"cat": "a concatenation", "stack": "a concatenation", "mean": "a mean over the map", "sum": "a sum"},
}


@dataclass(frozen=True)
class FilterLayer:
    """A layer with filters, and the submodules that its maps pass without being mixed across channels.

    Attributes:
        name: the convolution or dense layer.
        activation: the submodule at whose output the filters are ablated, and by default measured: the first
            activation that the maps reach before anything else takes them; without one, the last submodule before
            pooling that they reach so.
        before_pooling: the last submodule before the maps are pooled.
        maps: all submodules whose outputs are the layer's maps, the layer first.
        single: whether each map is a single value, as for dense layers.
        shifted: the normalising submodule that the maps reach behind `activation`, where there is one and no
            activation comes before.
        size: the sides of the layer's own maps, none for dense layers; None where they are not known.
        why: why the filters are ablated at `activation`, in words.
    """

    name: str
    activation: str
    before_pooling: str
    maps: tuple[str, ...]
    single: bool
    shifted: str | None = None
    size: tuple[int, ...] | None = field(default=None, compare=False)
    why: str = field(default="", compare=False)

    def measured(self, where: str) -> tuple[str, ...]:
        """Return the submodules where the layer's filters are measured: `after_relu`, `before_pooling` or `all`."""
        return {"after_relu": (self.activation,), "before_pooling": (self.before_pooling,), "all": self.maps}[where]

    @property
    def earlier(self) -> tuple[str, ...]:
        """The other submodules where the filters could be ablated, the last first; the layer is the last resort."""
        before = self.maps[: self.maps.index(self.activation)] if self.activation in self.maps else (self.name,)
        return tuple(reversed(before))


def find(model: nn.Module, image_1CHW: Tensor, only: Sequence[str] | None = None) -> list[FilterLayer]:
    """Find the convolutions and dense layers of a network, as `layers_of` does."""
    return layers_of(watch(model, image_1CHW), only)


def layers_of(watched: Watched, only: Sequence[str] | None = None) -> list[FilterLayer]:
    """Return the convolutions and dense layers that an image has passed, except the last layer if it gives the classes.

    The maps of each layer are followed from module to module, as long as the modules keep channels apart and nothing
    else takes the maps. The maps of a layer that is used more than once are not followed: the layer's own output is
    measured and ablated. A dense layer that is applied at each position of its maps has no filters. The layers of gates
    are left out unless they are named.

    Args:
        watched: what happened as the image passed.
        only: the names of the layers to keep, or patterns of names, such as ``features.[0-3].*``; by default all
            layers are kept.

    Raises:
        InputError: a name or pattern in `only` is that of no layer with filters, or the network has no layer with
            filters.
    """
    calls = candidates(watched)
    plain = [name for name, call in calls.items() if not is_gate(watched, call)]
    kept = set(plain) if only is None else _named(only, list(calls), plain)
    if not kept:
        kinds = "nn.Conv2d, nn.ConvTranspose2d or nn.Linear"
        raise InputError(f"{watched.network} has no {kinds} before its last: it has no filters")
    return [_follow(watched, call) for name, call in calls.items() if name in kept]


def candidates(watched: Watched) -> dict[str, ModuleCall]:
    """Return the last call of each layer with filters, gates among them, except of a layer that gives the classes."""
    mixing = [call for call in watched.calls if isinstance(call.module, MIXING)]
    if mixing and mixing[-1].shape[1] == watched.classes:  # a map for each class, or its mean
        mixing.pop()
    return {call.name: call for call in mixing if len(call.shape) == (2 if isinstance(call.module, nn.Linear) else 4)}


def _named(only: Sequence[str], names: Sequence[str], plain: Sequence[str]) -> set[str]:
    """Return the layers that names and patterns mean; patterns do not mean gates.

    Raises:
        InputError: one means no layer.
    """
    kept: set[str] = set()
    for one in only:
        matching = {one} if one in names else {name for name in plain if fnmatchcase(name, one)}
        if not matching:
            known = ", ".join(names[:NAMED]) or "none"
            more = f" and {len(names) - NAMED} more, which `tipping layers` lists" if len(names) > NAMED else ""
            raise InputError(f"model.layers: {one} is no layer with filters; there are {known}{more}")
        kept |= matching
    return kept


def is_gate(watched: Watched, call: ModuleCall) -> bool:
    """Return whether a layer belongs to a gate, as in squeeze-and-excitation [hu2018]: it gives a number for each
    channel, and all that is made of these numbers on the way to the logits goes into products with other maps.

    In such a product the other factor is larger than a number for each channel, or the layer was given what is made of
    the factor.
    """
    if call.shape[2:].numel() > 1:
        return False
    after, before = reached(call.made, watched.takers), reached(call.given, watched.makers, back=True)

    def gated(operation: Operation) -> bool:
        others = operation.taken - after
        return operation.name in ("mul", "mul_") and bool(others) and (operation.spread or bool(others & before))

    products = {operation for version in after for operation in watched.takers.get(version, ()) if gated(operation)}
    open_ways = {
        version: [operation for operation in operations if operation not in products]
        for version, operations in watched.takers.items()
    }
    return bool(products) and watched.logits not in reached(call.made, open_ways)


def _follow(watched: Watched, call: ModuleCall) -> FilterLayer:
    """Return the layer of a call, with the modules that its maps pass."""
    size = tuple(call.shape[2:])
    single = call.shape[2:].numel() == 1
    if sum(other.name == call.name for other in watched.calls) > 1:
        why = "its own output: it is used more than once"
        return FilterLayer(call.name, call.name, call.name, (call.name,), single, size=size, why=why)
    path, kinds, alone, sole = [call], [Kind.MIXING], True, 1
    while following := _next(watched, call, path[-1]):  # `sole`: how many maps of the path nothing else takes
        after, kind = following
        alone = alone and (not _outside(watched, path[-1], after) or after.made == after.given)  # as dropout
        path.append(after)
        kinds.append(kind)
        sole += alone
    names = [step.name for step, kind in zip(path, kinds, strict=True) if kind is not Kind.PASSING]
    unpooled = kinds.index(Kind.POOLING) if Kind.POOLING in kinds else len(path)
    activated = next((i for i in range(sole) if kinds[i] is Kind.ACTIVATION), None)
    site = min(unpooled, sole)
    shifted = next((path[i].name for i in range(site, unpooled) if kinds[i] is Kind.NORMALISING), None)
    last = site - 1 if activated is None else activated
    passed = [title_of(path[i].module) for i in range(1, last + 1) if kinds[i] is not Kind.PASSING]
    why = f"after {' and '.join(passed)}" if passed else "its own output"
    if activated is None:
        following_call = path[site] if site < len(path) else None
        why += ", before pooling" if site == unpooled < sole else _ending(watched, path[last], following_call)
    return FilterLayer(
        call.name,
        activation=path[last].name,
        shifted=None if activated is not None else shifted,
        before_pooling=path[unpooled - 1].name,
        maps=tuple(dict.fromkeys(names)),
        single=single,
        size=size,
        why=why,
    )


def _outside(watched: Watched, last: ModuleCall, after: ModuleCall) -> list[Operation]:
    """Return the operations that take the output of a call outside of the next call."""
    return [operation for operation in watched.takers.get(last.made, ()) if after.serial not in operation.serials]


def _ending(watched: Watched, last: ModuleCall, after: ModuleCall | None) -> str:
    """Return why the maps of a layer are not followed beyond a call, in words."""
    shared = [call for call in watched.calls[last.number + 1 :] if call.given == last.made and watched.kind(call)]
    if after is None and shared and not isinstance(shared[0].module, MIXING):
        return f": its {title_of(shared[0].module)} is shared with other maps"
    takers = watched.takers.get(last.made, []) if after is None else _outside(watched, last, after)
    layers = {call.serial for call in watched.calls if isinstance(call.module, MIXING)}
    names = [operation.name.strip("_") for operation in takers if not layers & set(operation.serials)]
    if not names:
        return ", which nothing takes" if not takers else ": no activation follows"
    takes = list(dict.fromkeys(TAKES.get(name, name) for name in names))
    if after is None:
        return f", before {' and '.join(takes)}"
    return f": {' and '.join(takes)} {'take' if takes[1:] else 'takes'} it beside {title_of(after.module)}"


def _next(watched: Watched, layer: ModuleCall, last: ModuleCall) -> tuple[ModuleCall, Kind] | None:
    """Return the call of the next module on the path of a layer's maps, and its kind; None where the path ends."""
    calls = [call for call in watched.calls[last.number + 1 :] if call.given == last.made]
    after, kind = next(((call, kind) for call in calls if (kind := watched.kind(call))), (None, None))
    if after is None or kind is None or kind is Kind.MIXING:
        return None
    first = next(call for call in watched.calls[layer.number + 1 :] if call.name == after.name)
    return (after, kind) if first is after else None  # hooks would see another's maps
