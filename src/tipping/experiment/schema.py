"""The form that a record must have for tables, charts and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tipping.experiment.config import AXES
from tipping.experiment.options import LATER

SCHEMA = 7  # goes up with each change of the form
WITHOUT_DIGESTS = 6  # the form before digests, which is still read
Kind = Callable[[Any], bool]  # a check whether a JSON value is of a kind


def _has(**kinds: Kind) -> Kind:
    """Return the check for a dictionary with at least these entries."""
    return lambda value: type(value) is dict and all(key in value and kind(value[key]) for key, kind in kinds.items())


def _some(kind: Kind) -> Kind:
    """Return the check for a list of at least one value of a kind."""
    return lambda values: type(values) is list and bool(values) and all(map(kind, values))


def _named(kind: Kind) -> Kind:
    """Return the check for a dictionary whose values are of a kind."""
    return lambda values: type(values) is dict and all(map(kind, values.values()))


def _or_none(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _text(value: Any) -> bool:
    return type(value) is str


def _texts(value: Any) -> bool:
    return type(value) is list and all(map(_text, value))


def _flag(value: Any) -> bool:
    return type(value) is bool


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _mu(value: Any) -> bool:
    return _number(value) and value > 0


def _dictionary(value: Any) -> bool:
    return type(value) is dict


def _curve(value: Any) -> bool:
    """Return whether a value is a drop curve: counts that rise from 0, and an accuracy of each order at each count."""
    lines = _has(selected=_some(_share), weakest=_some(_share), random=_some(_some(_share)))
    if not (_has(images=_count, removed=_some(_count))(value) and lines(value)):
        return False
    removed, orders = value["removed"], [value["selected"], value["weakest"], *value["random"]]
    return removed == sorted({0, *removed}) and all(len(order) == len(removed) for order in orders)


_ends = _or_none(lambda value: _some(_number)(value) and len(value) == 2)
_common = _has(
    config=_has(
        data=_has(name=_text),
        model=_has(name=_text, _target_=_text),
        protocol=_dictionary,
        selection=_has(solver=_text),
        tracking=_has(enabled=_flag, project=_text, dir=_text),
        trainer=_dictionary,
        randomize=_text,
    ),
    mu=_mu,
    seed=_count,
    model=_has(name=_text),
    data=_text,
    protocol=lambda value: (
        _has(name=_text, dense=_flag, draws=_count)(value)
        and _has(**dict.fromkeys(AXES, _text))({**LATER["protocol"], **value})
    ),
    ended=_text,
    device=_text,
    schema=_count,
    versions=lambda value: _has(commit=_or_none(_text))(value) and _named(_or_none(_text))(value),
    accuracy=_has(intact=_share),
    store=_has(weights=_text),
    made=_has(network=_flag),
    seconds=_named(_number),
    pictures=_or_none(_texts),  # None until pictures are drawn
)
_training = _has(
    curves=_named(lambda value: _curve(value) and _has(tips_at=_or_none(_number))(value)),
)
_selecting = _has(
    filters=_has(
        total=lambda value: _count(value) and value > 0,
        **dict.fromkeys(("dead", "relevant", "ablated"), _count),
        shared=_some(_count),
        per_layer=_named(_count),
    ),
    selection=_has(
        solver=_text,
        iterations=_some(_count),
        certified=_flag,
        unique=_some(_flag),
        explainable_by_noise=_number,
        **dict.fromkeys(("relative_gap", "explained", "explainable"), _some(_number)),
    ),
)
_interpreting = _has(
    accuracy=_has(intact=_share, selected=_share, random=_some(_share), chance=_share),
    overlap=_or_none(
        _has(
            **dict.fromkeys(("jaccard", "rank_correlation"), _or_none(_number)),
            **dict.fromkeys(("jaccard_by_chance", "rank_correlation_by_chance"), _ends),
        )
    ),
    signals_alike=_named(_or_none(_number)),
    curve=_curve,
)
_sealed = _has(
    files=_named(_text),
    overrides=_or_none(_texts),
    presets=_or_none(_text),
    digest=_text,
)


def _bounded(selection: dict[str, Any]) -> bool:
    """Return whether a certificate says well what the bound does, if at all, as older ones do not."""
    binds, saturation = selection.get("binds"), selection.get("saturation")
    return _or_none(_some(_flag))(binds) and _or_none(_some(_or_none(_number)))(saturation)


def _said_twice(record: dict[str, Any]) -> bool:
    """Return whether what a record says both apart and among its options is the same."""
    options, protocol = record["config"], record["protocol"]
    keys = ("seed", "model") if type(options.get("mu")) is str else ("mu", "seed", "model")  # a share of the way
    apart = {key: record[key] for key in keys} | {"data": {"name": record["data"]}}
    among = {key: options.get(key) for key in keys} | {"data": {"name": options["data"]["name"]}}
    axes = {axis: value for axis, value in options["protocol"].items() if axis != "name"}
    return apart == among and axes.items() <= protocol.items()


_self_test = _or_none(
    _has(
        passes=_count,
        **dict.fromkeys(("moved", "remarks"), _texts),
    )
)


def _entry(value: Any) -> bool:
    """Return whether a value is the result of a selector: counts that rise from 0, and curves of that many points."""
    lines = ("removed", "kept", "removed_loss", "kept_loss")
    texts, open_ended = ("selector", "family", "cost", "orders"), ("tips_at", "tips_low", "tips_high")
    kinds = dict.fromkeys(texts, _text) | dict.fromkeys(open_ended, _or_none(_number)) | {"counts": _some(_count)}
    kinds |= dict.fromkeys(lines[:2], _some(_some(_share))) | dict.fromkeys(lines[2:], _some(_some(_number)))
    if not _has(seconds=_number, **kinds)(value):
        return False
    counts = value["counts"]
    return counts == sorted({0, *counts}) and all(len(line) == len(counts) for name in lines for line in value[name])


_contest = _has(
    accuracy=_has(intact=_share, chance=_share),
    images=lambda value: _count(value) and value > 0,
    entries=_some(_entry),
    refused=_named(_text),
    self_test=_self_test,
)


def whole(record: dict[str, Any]) -> bool:
    """Return whether JSON values hold a whole record, of train.py or interpret.py, with values of the right kinds."""
    if not (_common(record) and _said_twice(record)) or not _or_none(_text)(record.get("trained_on")):
        return False  # records made before lack the device that trained the network
    if not _named(_text)(record.get("data_files", {})) or not _texts(record.get("classes", [])):
        return False  # those made before lack these too
    if record["schema"] != WITHOUT_DIGESTS and not _sealed(record):
        return False
    if "curves" in record:
        return _training(record) and all(epoch.isdecimal() for epoch in record["curves"])
    if not (_selecting(record) and _bounded(record["selection"])):
        return False
    if "entries" in record:
        return _contest(record)
    return _interpreting(record) and _self_test(record.get("self_test"))  # older records have no self-test
