"""The language of the house: public names have docstrings, which start with a verb or a noun; names have a meaning."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from house import ROOT, rooms, wing

WINGS = (  # in plain English; a wing is added when it is
    *("network", "selection", "ablation", "tipping_points", "mu_lasso", "data", "tracking", "experiment", "command"),
    *("results", "report", "notebook", "visualize"),
    *("files", "frames", "errors", "models"),
)
HOUSE = {room: module for room, module in rooms(ROOT / "src" / "tipping").items() if wing(room) in WINGS}
NO_VERB = re.compile("The|An?|What|Whether|How|Where|Of|By|For|Those|Its|One|Some|All|No|Within|[^A-Z].*")
IMPERATIVE = re.compile("Return|Find|Ablate|Draw|Measure|Compute|Load|Read|Make|Give|Take|Select|Solve|Train|Minimise")
UNCLEAR = {"of", "own", "left", "told", "found", "said"}
ALLOWED = {
    ("network.filters", "Filters.of"),  # the constructor
    ("tipping_points.estimate", "tipping_point(of)"),  # the argument
    ("notebook.results", "tipping_point(of)"),  # the same in notebooks
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield the public functions and classes of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, (*Function.__args__, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


def is_property(node: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def names(node: ast.AST, scope: str = "") -> Iterator[tuple[str, str]]:
    """Yield each name that a module binds, and the same with its class or function."""
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, (*Function.__args__, ast.ClassDef)):
            yield child.name, f"{scope}.{child.name}".removeprefix(".")
            inner = child.name
        elif isinstance(child, ast.arg):
            yield child.arg, f"{scope}({child.arg})"
        elif isinstance(child, ast.Name | ast.Attribute) and isinstance(child.ctx, ast.Store):
            name = child.id if isinstance(child, ast.Name) else child.attr
            yield name, f"{scope}: {name}"
        yield from names(child, inner)


@pytest.mark.parametrize("name", WINGS)
def test_public_functions_and_classes_say_what_they_are(name: str) -> None:
    documented = 0
    for room, module in HOUSE.items():
        for path, node in public(module.body) if wing(room) == name else ():
            text = ast.get_docstring(node)
            assert text, f"{room}.{path} has no docstring"
            first = re.split(r"[\s,.:;]", text)[0]
            if isinstance(node, ast.ClassDef):
                assert not IMPERATIVE.fullmatch(first), f"{room}.{path}: {text.splitlines()[0]}"
            elif not is_property(node):
                assert not NO_VERB.fullmatch(first), f"{room}.{path}: {text.splitlines()[0]}"
            documented += 1
    assert documented


def test_no_name_is_a_mere_particle() -> None:
    """Names count without leading underscores and without the suffix of their shape."""
    seen = {(room, path) for room, module in HOUSE.items() for name, path in names(module)}
    assert seen >= ALLOWED
    unclear = {
        (room, path)
        for room, module in HOUSE.items()
        for name, path in names(module)
        if re.sub(r"_[A-Z0-9]+$", "", name).strip("_") in UNCLEAR
    }
    assert unclear == ALLOWED
