"""The walls of the house: imports go one way, wings of the method are used by their faces, and nothing is long."""

from __future__ import annotations

import ast
import re

import pytest
from house import LONG_ROOM, METHOD, ORDER, ROOT, arrows, long_functions, rooms, wing

PACKAGE, TESTS = ROOT / "src" / "tipping", ROOT / "tests"
HOUSE = rooms(PACKAGE)
SLOW = ("network.training", "visualize.draw", "tipping_points.study", "tracking.dashboard")  # to load: in no face
LONG = {  # and why
    "experiment.interpret.job": "the main job from top to bottom, to be read first",
    "experiment.train.job": "as that",
}


def test_there_are_rooms_and_arrows() -> None:
    found = set(arrows(HOUSE))
    assert ("selection.relevance", "selection.controls") in found
    assert ("command.table", "results.tables") in found, "also what is imported in a function"
    assert {wing(room) for room in HOUSE} == set(ORDER)


def test_imports_go_one_way() -> None:
    climbs = {(one, other) for one, other in arrows(HOUSE) if ORDER.index(wing(one)) < ORDER.index(wing(other))}
    assert climbs == set()


@pytest.mark.parametrize("name", [*METHOD, "tracking"])
def test_a_wing_is_used_by_its_face(name: str) -> None:
    into = {(one, other) for one, other in arrows(HOUSE) if wing(one) != name and wing(other) == name}
    assert into, "it is used"
    assert {other for _, other in into} - {name} <= set(SLOW)


def test_rooms_and_functions_are_short() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name for path, count in lines.items() if count > LONG_ROOM} == set()
    assert {name for name, _ in long_functions(HOUSE)} == set(LONG)


def test_contributing_names_the_wings_in_this_order() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| wing | holds |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)/?`", row.split("|")[1])]
    assert named == [name for name in ORDER if name]


NO_VERB = {"The", "A", "An", "What", "Whether", "How", "Where", "Of", "By", "For", "Those", "Its", "One", "Some", "All"}


def test_docstrings_of_functions_start_with_a_verb() -> None:
    """Those of properties say what the property is."""
    for room, module in HOUSE.items():
        for node in ast.walk(module):
            attribute = isinstance(node, ast.FunctionDef) and "property" in str(
                list(map(ast.unparse, node.decorator_list))
            )
            if isinstance(node, ast.FunctionDef) and not attribute and (text := ast.get_docstring(node)):
                assert text.split()[0].strip(",.:;") not in NO_VERB, f"{room}.{node.name}: {text.splitlines()[0]}"


def test_no_test_imports_another() -> None:
    paths = [path for path in TESTS.rglob("*.py") if path.name != "conftest.py"]
    assert len({path.name for path in paths}) == len(paths), "pytest takes a name once"
    nodes = [node for path in TESTS.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "toys" in names
    assert {name for name in names if name.startswith(("test_", "conftest"))} == set()
