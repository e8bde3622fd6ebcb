"""
The source of what is not ours: modules of a task, of its feature definitions, and all that they import in turn.

Ours and those of installed packages are known by their versions and by ``code_digest``. A package that a task or a
definition is itself part of is read whole, wherever it is installed: somebody may edit it without a new version.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from sluice.content import digest_of_bytes, digest_of_file
from sluice.installation.data_files import data_files

_PLATFORM = frozenset(
    {"sluice", "sluice_cluster", "sluice_local", "sluice_pipelines", "sluice_project", "sluice_serving", "sluice_steps"}
)
_TASKS = "sluice.tasks"
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def reached_sources(modules: Iterable[str] = (), texts: Iterable[str] = ()) -> dict[str, str]:
    """
    Digests of the sources of ``modules``, of what ``texts`` of Python import, of all that these import, by name, and of
    the files that these read, by package and path.

    What is imported or read by a name that is computed is not seen.
    """
    texts = list(texts)
    starts = {*modules, *(name for text in texts for name in _imports(text, ""))}
    tops = {name.partition(".")[0] for name in starts if not _is_ours(name)}
    roots = {top for top in tops if _is_installed(top) and not _is_required(top)}
    waiting, digests, visited = sorted(starts), dict[str, str](), set[str]()
    sources: list[tuple[str | bytes, dict[str, Path]]] = [(text, {}) for text in texts]
    packages: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        path = _source_of(name, roots)
        if path is None:
            continue
        data = path.read_bytes()
        digests[name] = digest_of_bytes(data)
        if path.suffix == ".py":
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [package, *_imports(data, package)]
            sources.append((data, folders := _folders(package, path.parent) or {name: path.parent}))
            packages |= folders if package else {}
    files = {key: file for source, folders in sources for key, file in data_files(source, folders, packages).items()}
    return digests | {key: digest_of_file(file) for key, file in files.items()}


def _folders(package: str, folder: Path) -> dict[str, Path]:
    """Of a package and of all that it is in."""
    parents, names = [folder, *folder.parents], list(_prefixes(package))[::-1] if package else []
    return dict(zip(names, parents, strict=False))


def _source_of(name: str, roots: set[str]) -> Path | None:
    """The file of a module, where it is one that nobody gives a version; never who starts us."""
    top = name.partition(".")[0]
    if not name or top == "__main__" or top in sys.stdlib_module_names or _is_ours(name):
        return None
    if top not in _PLATFORM and _is_installed(top) and top not in roots:  # our own tasks count in an image too
        return None
    spec = _spec(name)
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _is_installed(top: str) -> bool:
    """Whether a package of this name lies where installed ones do; nothing of it is imported."""
    spec = None if top in sys.stdlib_module_names else _spec(top)
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
    return any(_INSTALLED & set(Path(place).parts) for place in places)


@cache
def _is_required(top: str) -> bool:
    """Whether a package is of a distribution that ours need: nobody edits those, and they have versions."""
    names = _requirements()
    return _plain(top) in names or any(_plain(name) in names for name in packages_distributions().get(top, ()))


@cache
def _requirements() -> frozenset[str]:
    waiting, names = ["sluice", "sluice-serving", "sluice-pipelines"], set[str]()
    while waiting:
        name = _plain(waiting.pop())
        if name in names:
            continue
        names.add(name)
        with contextlib.suppress(PackageNotFoundError):
            waiting += [re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0] for text in requires(name) or ()]
    return frozenset(names)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _PLATFORM and not f"{name}.".startswith(f"{_TASKS}.")


def _imports(text: str | bytes, package: str) -> Iterator[str]:
    """Names that may be modules, of all imports at any depth; ``from a import b`` gives both ``a`` and ``a.b``."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _prefixes(alias.name)
        elif isinstance(node, ast.Call):
            yield from _named_package(node)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from _prefixes(module)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _named_package(call: ast.Call) -> Iterator[str]:
    """Of ``importlib.resources.files("a.b")``."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name == "files" and len(call.args) == 1 and isinstance(call.args[0], ast.Constant):
        yield from _prefixes(str(call.args[0].value))


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
