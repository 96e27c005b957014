"""The files that decide a network beside its options: the code of the class or function that makes it, with all that it
imports, and its checkpoint."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from tipping import models
from tipping.errors import InputError

INSTALLED = {"site-packages", "dist-packages"}  # folders
NOT_OWN = (
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")),
    Path(models.__file__).resolve().parent,
    Path(torch.__file__).resolve().parent,  # its version is known, also where it lies in a checkout
)


def maker_of(path: str) -> Callable[..., Any]:
    """Import the class of a network, or a function that makes one, by its dotted path.

    The working directory is searched too.

    Raises:
        InputError: the path leads to neither.
    """
    _search_working_directory()
    try:
        maker = get_object(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"model._target_={path}: cannot be imported ({error}); give the path of a class") from error
    if isinstance(maker, type) and not issubclass(maker, nn.Module):
        raise InputError(f"model._target_={path}: is no torch.nn.Module")
    if not isinstance(maker, type) and not inspect.isroutine(maker):
        raise InputError(f"model._target_={path}: is no class of a network, nor a function that makes one")
    return maker


def _search_working_directory() -> None:
    if "" not in sys.path:
        sys.path.insert(0, "")


def source_digest(options: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of a network's code: of the file that defines the class or function that makes it and, where
    this imports other files that are neither installed nor Python's own, of these too; of the name and version of its
    package, for a function of an installed one; None for the classes of `tipping.models`, and where there is no file.

    Imports are followed from file to file, also those within functions, and from all classes and functions that the
    options name by ``_target_``. Data that code reads, and modules whose names are made up as it runs, are not seen.

    Raises:
        InputError: the class, or a file of its code, cannot be imported or read.
    """
    maker: Any = maker_of(options["_target_"])  # Any, since mypy does not take a type for hashable
    return _source_digest(maker, tuple(_targets(options)))


def file_digests(options: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the SHA-256 of the files that decide a network beside its options.

    Returns:
        `source`: its code, as `source_digest` gives it; `checkpoint`: the file of weights. None where there is no such
            file.

    Raises:
        InputError: as `source_digest`.
        OSError: the checkpoint cannot be read.
    """
    checkpoint = options.get("checkpoint")
    return {
        "source": source_digest(options),
        "checkpoint": checkpoint and hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
    }


@functools.cache  # the class was imported once: later changes of the files do not count
def _source_digest(maker: Any, targets: tuple[str, ...]) -> str | None:
    home = maker.__module__
    names = [base.__module__ for base in getattr(maker, "__mro__", (maker,))]
    for target in targets:
        parts = target.split(".")
        names += [name for end in range(len(parts)) if (name := ".".join(parts[:end])) in sys.modules]
        names.append(_home_of(target))
    code = _own_code(names)
    if home != models.__name__ and home not in code and (text := _foreign(maker)) is not None:
        code[home] = text
    if set(code) <= {home}:  # as before helpers counted, so that what stores hold of such networks is found
        return hashlib.sha256(code[home]).hexdigest() if code else None
    state = hashlib.sha256()
    for name, text in sorted(code.items()):
        state.update(f"{name} {len(text)} ".encode() + text)
    return state.hexdigest()


def _foreign(maker: Any) -> bytes | None:
    """Return what stands for code that is not the user's: the file of a class; the name and version of the package of a
    function, which may call any of its files. None where there is no file."""
    home = maker.__module__
    package = sys.modules.get(home.partition(".")[0])
    if not isinstance(maker, type) and isinstance(version := getattr(package, "__version__", None), str):
        return f"{home.partition('.')[0]} {version}".encode()
    return _content(home, sys.modules.get(home))


def _targets(value: Any) -> Iterator[str]:
    """Yield the paths under ``_target_`` in options, at any depth."""
    if isinstance(value, Mapping):
        if isinstance(target := value.get("_target_"), str):
            yield target
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _targets(one)


def _home_of(target: str) -> str:
    """Return the name of the module that defines what a path leads to, and import that."""
    try:
        named = get_object(target)
    except (ImportError, ValueError) as error:
        raise InputError(f"_target_={target}: cannot be imported ({error}); give the path of a class") from error
    return str(getattr(named, "__module__", None) or type(named).__module__)


def _own_code(names: list[str]) -> dict[str, bytes]:
    """Return the content of the user's own files by the names of their modules: of some modules, and of all that these
    refer to. Files without content decide nothing, and are left out."""
    todo: list[tuple[str, ModuleType | None]] = [(name, sys.modules.get(name)) for name in names]
    code: dict[str, bytes] = {}
    while todo:
        name, module = todo.pop()
        if not name or name in code or not _is_own(file := _file(name, module)):
            continue
        code[name] = text = _content(name, module) or b""
        imports = _imports(text, name, file.name == "__init__.py") if file and file.suffix == ".py" else ()
        parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
        todo += [(other, sys.modules.get(other)) for other in (*imports, *parents)]
        todo += _referred_to(module) if module else ()
    return {name: text for name, text in code.items() if text.strip()}


def _is_own(file: Path | None) -> bool:
    """Return whether a module's file is neither an installed package's, nor Python's, nor this package's."""
    if file is None:
        return False
    file = file.resolve()
    return not INSTALLED & set(file.parts) and not any(file.is_relative_to(folder) for folder in NOT_OWN)


def _file(name: str, module: ModuleType | None) -> Path | None:
    """Return the file of a module, which need not have been imported; None where it has none."""
    file = getattr(module, "__file__", None)
    if module is None and (spec := _spec(name)) and spec.has_location:
        file = spec.origin
    return Path(file) if isinstance(file, str) and Path(file).is_absolute() else None


def _content(name: str, module: ModuleType | None) -> bytes | None:
    """Return the content of a module's file, which may lie in an archive; None where it has none.

    Raises:
        InputError: the file cannot be read.
    """
    file = _file(name, module)
    if file is None:
        return None
    spec = getattr(module, "__spec__", None) if module else _spec(name)
    read = getattr(getattr(spec, "loader", None), "get_data", lambda path: Path(path).read_bytes())
    try:
        return bytes(read(str(file)))
    except OSError as error:
        raise InputError(f"{file}: the network's code, but it cannot be read ({error}); put it back") from error


def _spec(name: str) -> ModuleSpec | None:
    """Find where a module would be imported from; nothing is imported."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent, _, _ = name.rpartition(".")
    holder = _spec(parent) if parent else None
    if parent and (holder is None or holder.submodule_search_locations is None):
        return None
    folders = holder.submodule_search_locations if holder else None
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for finder in finders if (spec := finder.find_spec(name, folders))), None)


def _imports(text: bytes, name: str, is_package: bool) -> Iterator[str]:
    """Yield the names that the code of a module imports, whether they are modules or not."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # then Python cannot import it either
        return
    package = name if is_package else name.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            place = _absolute("." * node.level + (node.module or ""), package)
            yield place
            yield from (f"{place}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            given = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
            yield from (_absolute(one, package) for one in given if isinstance(one, str))


def _name(function: ast.expr) -> str | None:
    """Return the last name of what is called."""
    return getattr(function, "attr", getattr(function, "id", None))


def _absolute(name: str, package: str) -> str:
    """Return the name that a relative one, with leading dots, has from outside its package."""
    inner = name.lstrip(".")
    above = len(name) - len(inner) - 1
    if above < 0:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - above], inner]).strip(".")


def _referred_to(module: ModuleType) -> Iterator[tuple[str, ModuleType | None]]:
    """Yield the modules of a module's values, however these came there, but for its own submodules: which of these are
    there depends on what else was imported."""
    for value in list(vars(module).values()):
        owner = value if isinstance(value, (type, FunctionType)) else type(value)
        is_module = isinstance(value, ModuleType)
        name = value.__name__ if is_module else owner.__module__
        if isinstance(name, str) and not name.startswith(f"{module.__name__}."):
            yield name, value if is_module else sys.modules.get(name)
