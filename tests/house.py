"""The house drawn from the imports of its rooms: ``python tests/house.py [PACKAGE]`` counts rooms, arrows, floors and
climbs, and names what is long."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHOD = ("mu_lasso", "data", "network", "selection", "ablation", "selectors", "visualize", "tipping_points", "arena")
WORKSHOP = ("tracking", "experiment", "results", "report", "command")
ORDER = (
    "errors",
    "files",
    "frames",
    "models",
    "planted",
    *METHOD,
    *WORKSHOP,
    "notebook",
    "",
    "__main__",
)  # imports go left
LONG_ROOM, LONG_FUNCTION = 350, 50  # lines


def rooms(package: Path) -> dict[str, ast.Module]:
    """The modules of a package by their dotted names in it; its own is empty."""
    paths = {path: path.relative_to(package).with_suffix("").parts for path in package.rglob("*.py")}
    names = {path: ".".join(part for part in parts if part != "__init__") for path, parts in paths.items()}
    return {names[path]: ast.parse(path.read_text()) for path in sorted(paths)}


def wing(room: str) -> str:
    """The folder of a room, or the room itself where it stands alone."""
    return room.partition(".")[0]


def arrows(house: dict[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Which room imports which, wherever in it, but for types alone."""
    faces = {room: _exported(module) for room, module in house.items()}
    for room, module in house.items():
        for node in _run(module):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tipping":
                place = (node.module or "").removeprefix("tipping").removeprefix(".")
                for name in (alias.name for alias in node.names):
                    inner = f"{place}.{name}".removeprefix(".")  # a room, unless the face has something of its name
                    other = inner if inner in house and name not in faces.get(place, ()) else place
                    if other != room:
                        yield room, other


def _exported(module: ast.Module) -> set[str]:
    """The names in a module's ``__all__``."""
    lists = (node.value for node in module.body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node))
    return {name for one in lists for name in ast.literal_eval(one)}


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """What of a module is ever run: all but what stands under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _run(child)


def floors(edges: set[tuple[str, str]]) -> int:
    """How many rooms stand on one another at most; rooms that import each other share a floor."""
    height: dict[str, int] = {}

    def climb(room: str, below: tuple[str, ...]) -> int:
        if room not in height:
            others = [other for one, other in edges if one == room and other not in below]
            height[room] = 1 + max((climb(other, (*below, room)) for other in others), default=0)
        return height[room]

    return max(climb(room, (room,)) for room, _ in edges)


def long_functions(house: dict[str, ast.Module]) -> Iterator[tuple[str, int]]:
    """Functions over `LONG_FUNCTION` lines without their docstring, and how many they have."""
    for room, module in house.items():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                if (lines := (node.end_lineno or 0) - first.lineno + 1) > LONG_FUNCTION:
                    yield f"{room}.{node.name}", lines


def main() -> None:
    """Print it."""
    package = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "src" / "tipping"
    house = rooms(package)
    edges = set(arrows(house))
    between = {(wing(one), wing(other)) for one, other in edges if wing(one) != wing(other)}
    known = [pair for pair in between if set(pair) <= set(ORDER)]
    climbs = [(one, other) for one, other in known if ORDER.index(other) > ORDER.index(one)]
    print(f"{len(house)} rooms, {len(edges)} arrows, {floors(edges)} floors")
    print(f"{len({wing(room) for room in house})} wings or rooms of their own, {len(between)} arrows between them")
    print(f"{len(climbs)} climbs: {climbs}")
    lines = {room: len(path.read_text().splitlines()) for room, path in _paths(package).items()}
    print("long rooms:", {room: count for room, count in lines.items() if count > LONG_ROOM})
    print("long functions:", dict(long_functions(house)))


def _paths(package: Path) -> dict[str, Path]:
    return {".".join(path.relative_to(package).with_suffix("").parts): path for path in sorted(package.rglob("*.py"))}


if __name__ == "__main__":
    main()
